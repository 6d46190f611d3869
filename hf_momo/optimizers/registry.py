"""The one table of optimizers: name to class, defaults and options.

A row and its import are all that the package needs to know of a new method; ``hf_momo`` exports the classes from here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.bounds import names_pilot, read_pilot_bound
from hf_momo.optimizers.checks import reason_without
from hf_momo.optimizers.momo import Momo
from hf_momo.optimizers.momo_adafactor import MomoAdafactor
from hf_momo.optimizers.momo_adam import MomoAdam
from hf_momo.optimizers.momo_lion import MomoLion
from hf_momo.optimizers.momo_muon import MomoMuon
from hf_momo.optimizers.momo_wrapper import MomoWrapper

# Exported by ``hf_momo``.
__all__ = [
    "Momo",
    "MomoAdafactor",
    "MomoAdam",
    "MomoLion",
    "MomoMuon",
    "MomoWrapper",
    "OptimizerInfo",
    "get_optimizer_info",
    "list_optimizers",
]

# Options that the Trainer has arguments of its own for: how a user sets them, and the attributes of TrainingArguments.
TRAINER_ARGUMENTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "lr": ("--learning_rate", ("learning_rate",)),
    "betas": ("--adam_beta1 and --adam_beta2", ("adam_beta1", "adam_beta2")),
    "eps": ("--adam_epsilon", ("adam_epsilon",)),
    "weight_decay": ("--weight_decay", ("weight_decay",)),
    "module": ("the model", ()),
    "process_group": ("the way the job is launched", ()),
    "sharded": ("the way the job is launched", ()),
}


@dataclass(frozen=True)
class OptimizerInfo:
    """A row of the table.

    Attributes:
        name: The name in ``optim="momo_adam"``.
        optimizer_cls: The class.
        description: One line.
    """

    name: str
    optimizer_cls: type[MomoOptimizer]
    description: str

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Every constructor argument but the parameters, with its default."""
        parameters = list(inspect.signature(self.optimizer_cls).parameters.values())[1:]
        return MappingProxyType({parameter.name: parameter.default for parameter in parameters})

    @property
    def default_lr(self) -> float | None:
        """The default of ``lr``; ``None`` for the wrapper, whose base has it."""
        lr: float | None = self.defaults.get("lr")
        return lr

    @property
    def takes_base(self) -> bool:
        """Whether the optimizer is put on another one, whose options it passes on."""
        return False

    @property
    def optim_args(self) -> tuple[str, ...]:
        """Names that the Trainer's ``optim_args`` may hold."""
        return tuple(name for name in self.defaults if name not in TRAINER_ARGUMENTS)

    def options_from(self, args: Any) -> dict[str, Any]:
        """Return the constructor arguments that the Trainer's own arguments set.

        Args:
            args: ``transformers.TrainingArguments``.
        """
        options = {}
        for name, (_, attributes) in TRAINER_ARGUMENTS.items():
            # The Trainer sets the weight decay of each parameter group.
            if name in self.defaults and attributes and name != "weight_decay":
                values = tuple(getattr(args, attribute) for attribute in attributes)
                options[name] = values if len(values) > 1 else values[0]
        return options

    @property
    def trainer_defaults(self) -> dict[str, Any]:
        """The defaults of these constructor arguments, by the names of the Trainer's arguments."""
        found: dict[str, Any] = {}
        for name, (_, attributes) in TRAINER_ARGUMENTS.items():
            if name in self.defaults and attributes and name != "weight_decay":
                value = self.defaults[name]
                found |= zip(attributes, value if isinstance(value, tuple) else (value,), strict=True)
        return found

    def create(self, params: Any, **options: Any) -> MomoOptimizer:
        """Return an optimizer of this row for ``params``."""
        make: Any = self.optimizer_cls
        return make(params, **options)  # type: ignore[no-any-return]


def wrapper_cls(base_cls: Callable[..., torch.optim.Optimizer]) -> Any:
    """Return a class of ``MomoWrapper`` that is made from parameters: ``cls(params, momo={...}, **options)``.

    Args:
        base_cls: A class of optimizers, or another callable that makes one. ``momo`` are the wrapper's options, all
            others those of the base.
    """

    class Wrapper(MomoWrapper):
        def __init__(self, params: Any, *, momo: Mapping[str, Any] = MappingProxyType({}), **options: Any) -> None:
            super().__init__(base_cls(params, **options), **momo)

    Wrapper.__name__ = MomoWrapper.__name__
    # The Trainer looks for "bitsandbytes" in str(cls), and keeps embeddings in 32 bits there.
    base = f"{base_cls.__module__}.{getattr(base_cls, '__qualname__', type(base_cls).__name__)}"
    Wrapper.__qualname__ = f"{MomoWrapper.__name__}[{base}]"
    return Wrapper


class WrapperInfo(OptimizerInfo):
    """The row of ``MomoWrapper``, which is made from parameters as the others are, with its base beside them."""

    @property
    def takes_base(self) -> bool:
        return True

    @property
    def optim_args(self) -> tuple[str, ...]:
        return ("base", *super().optim_args)

    def create(self, params: Any, *, base: Any = None, **options: Any) -> MomoOptimizer:
        """Return the wrapper around ``base(params, ...)``.

        Args:
            params: Parameters or parameter groups.
            base: A class of optimizers, or another callable that makes one.
            **options: Options of the wrapper, and all others of the base.

        Raises:
            TypeError: If ``base`` is missing, or is an optimizer already or a name.
        """
        if isinstance(base, torch.optim.Optimizer) or not callable(base):
            given = f"a {type(base).__name__}" if isinstance(base, torch.optim.Optimizer) else repr(base)
            raise TypeError(
                f"base: got {given}, must be a class of optimizers, such as torch.optim.AdamW. Around an optimizer"
                " that you have made: hf_momo.connect(accelerator, MomoWrapper(optimizer))"
            )
        own = {name: options.pop(name) for name in self.defaults if name in options}
        if options.get("weight_decay") == 0.0 and "weight_decay" not in inspect.signature(base).parameters:
            del options["weight_decay"]
        return wrapper_cls(base)(params, momo=own, **options)  # type: ignore[no-any-return]


_OPTIMIZERS = {
    info.name: info
    for info in (
        OptimizerInfo("momo", Momo, "SGD with momentum and MoMo's adaptive step size"),
        OptimizerInfo("momo_adam", MomoAdam, "Adam with MoMo's adaptive step size"),
        OptimizerInfo("momo_muon", MomoMuon, "Muon on matrices, Adam on the rest, with MoMo's adaptive step size"),
        OptimizerInfo("momo_lion", MomoLion, "Lion (Signum with equal betas) with MoMo's adaptive step size"),
        OptimizerInfo("momo_adafactor", MomoAdafactor, "Adam with Adafactor's factored second moment"),
        WrapperInfo("momo_wrapper", MomoWrapper, "any torch optimizer (base=...) with MoMo's adaptive step size"),
    )
}


def list_optimizers() -> list[str]:
    """Return the names of the optimizers.

    Example:
        >>> "momo_adam" in list_optimizers()
        True
    """
    return list(_OPTIMIZERS)


def get_optimizer_info(name: str) -> OptimizerInfo:
    """Look up an optimizer.

    Args:
        name: One of ``list_optimizers()``.

    Raises:
        ValueError: If there is none of that name.

    Example:
        >>> get_optimizer_info("momo").defaults["lr"]
        1.0
    """
    if name not in _OPTIMIZERS:
        raise ValueError(f"name: got {name!r}, must be one of {', '.join(map(repr, _OPTIMIZERS))}")
    return _OPTIMIZERS[name]


def parse_optim_args(name: str, text: str | None) -> dict[str, Any]:
    """Read the Trainer's ``optim_args`` into typed options.

    Args:
        name: The optimizer.
        text: ``"key=value,key=value"``, or ``None``. ``lower_bound=auto`` and ``lower_bound=from=RUN`` are passed on
            as text, and what ``momo_wrapper`` does not know too: ``base``, and the base's own options.

    Raises:
        ValueError: If a key is unknown, a value is not of the key's type, ``from=RUN`` gives no bound, or
            ``momo_wrapper`` has no ``base``.

    Example:
        >>> parse_optim_args("momo_adam", "adapt_lower_bound=true, lower_bound=0.5")
        {'adapt_lower_bound': True, 'lower_bound': 0.5}
    """
    info = get_optimizer_info(name)
    options: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in (text or "").split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise ValueError(f"optim_args: got {part!r}, must be key=value pairs separated by commas")
        if key in info.defaults and key in TRAINER_ARGUMENTS:
            raise ValueError(f"optim_args: {key} is set by {TRAINER_ARGUMENTS[key][0]}, not by optim_args")
        if info.takes_base and key not in info.defaults:
            options[key] = value
            continue
        if key not in info.optim_args:
            why = reason_without(key)
            raise ValueError(f"optim_args: {name} has no option {key!r}{why}; it has {', '.join(info.optim_args)}")
        options[key] = _typed(key, value, info.defaults[key])
    if info.takes_base and "base" not in options:
        raise ValueError(f"optim_args: {name} needs base=NAME, such as base=adamw_torch")
    return options


def _typed(key: str, value: str, default: Any) -> Any:
    if key == "lower_bound" and value == "auto":
        return value
    if key == "lower_bound" and names_pilot(value):
        # Read here only to refuse a bad run before a model is loaded.
        try:
            read_pilot_bound(value)
        except ValueError as error:
            raise ValueError(f"optim_args: {error}") from None
        return value
    if isinstance(default, str):
        return value
    if isinstance(default, bool) or key == "bias_correction":
        choices = {"true": True, "1": True, "false": False, "0": False}
        if value.lower() not in choices:
            raise ValueError(f"optim_args: got {key}={value}, must be true or false")
        return choices[value.lower()]
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"optim_args: got {key}={value}, must be a number") from None


def unwrap_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """Return the torch optimizer inside accelerate's wrappers."""
    while hasattr(optimizer, "optimizer") and optimizer.optimizer is not optimizer:
        optimizer = optimizer.optimizer
    return optimizer  # type: ignore[no-any-return]
