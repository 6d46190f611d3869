"""TRL's trainers and their configurations with MoMo: ``MomoSFTConfig``, ``MomoSFTTrainer`` and the like.

There is a pair for each method in ``METHODS``. A class is made when its name is touched, so only the trainer in use is
loaded.

Example:
    from hf_momo.trainer.trl import MomoGRPOConfig, MomoGRPOTrainer

    args = MomoGRPOConfig("out", optim="momo_adam", learning_rate=1e-6)
    trainer = MomoGRPOTrainer(model="Qwen/Qwen3-0.6B", args=args, reward_funcs=reward, train_dataset=prompts)
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from hf_momo.optimizers.registry import parse_optim_args
from hf_momo.trainer.arguments import MomoArgumentsMixin, is_momo, optimizer_name_of
from hf_momo.trainer.cards import ModelCardMixin
from hf_momo.trainer.mixin import MomoTrainerMixin

logger = logging.getLogger(__name__)

# Far below any loss of a policy gradient: a normalized advantage, at most times the number of tokens.
_POLICY_GRADIENT_BOUND = -1e4

# Method of TRL, and the ``lower_bound`` of its configuration; ``None`` is the optimizer's own default of 0.
METHODS: dict[str, float | None] = {
    "DPO": None,
    "Distillation": None,
    "GRPO": _POLICY_GRADIENT_BOUND,
    "KTO": None,
    "RLOO": _POLICY_GRADIENT_BOUND,
    "Reward": None,
    "SFT": None,
}

_CONFIG_DOC = """``trl.{method}Config`` that also takes the optimizers of this package.

It differs from TRL's class in the same points as ``MomoTrainingArguments`` from the stock one: ``optim`` defaults to
``"momo_adam"``; ``learning_rate`` defaults to the chosen optimizer's own default; ``optim_args`` is checked at
construction."""
_BOUND_DOC = """ ``lower_bound`` defaults to {bound:g}, because the loss of a policy gradient can be negative."""
_TRAINER_DOC = """``trl.{method}Trainer`` with MoMo, and with model cards that extend TRL's."""


def _make_config(method: str) -> type[Any]:
    bound = METHODS[method]

    def post_init(self: Any) -> None:
        if bound is not None and is_momo(self.optim):
            given = parse_optim_args(optimizer_name_of(self.optim), self.optim_args)
            if "lower_bound" not in given:
                self.optim_args = ",".join(filter(None, [self.optim_args, f"lower_bound={bound:g}"]))
                logger.warning(
                    "lower_bound was not given: it is %g, far below the loss of %s, which can be negative. So the cap"
                    " limits the step unless a gradient is very large",
                    bound,
                    method,
                )
        MomoArgumentsMixin.__post_init__(self)

    doc = _CONFIG_DOC.format(method=method) + (_BOUND_DOC.format(bound=bound) if bound is not None else "")
    body = {"__module__": __name__, "__doc__": doc, "__post_init__": post_init}
    made: type[Any] = dataclass(type(f"Momo{method}Config", (MomoArgumentsMixin, _trl(f"{method}Config")), body))
    return made


def _make_trainer(method: str) -> type[Any]:
    body = {"__module__": __name__, "__doc__": _TRAINER_DOC.format(method=method)}
    bases = (MomoTrainerMixin, ModelCardMixin, _trl(f"{method}Trainer"))
    return type(f"Momo{method}Trainer", bases, body)


def _trl(name: str) -> Any:
    try:
        return getattr(import_module("trl"), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"hf_momo.trainer.trl needs trl.{name} ({error}); install it with: pip install trl"
        ) from error


_MAKERS = {f"Momo{method}Config": (_make_config, method) for method in METHODS}
_MAKERS |= {f"Momo{method}Trainer": (_make_trainer, method) for method in METHODS}


def __getattr__(name: str) -> Any:
    if name not in _MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(_MAKERS))}")
    make, method = _MAKERS[name]
    # Kept, so that pickle finds the very class of an object.
    made = globals()[name] = make(method)
    return made


def __dir__() -> list[str]:
    return sorted({*globals(), *_MAKERS})
