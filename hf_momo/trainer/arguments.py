"""Training arguments that take the optimizers of this package, and the optimizer that they describe."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import Seq2SeqTrainingArguments, TrainingArguments
from transformers.training_args import OptimizerNames

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.bounds import PilotBound, agreed_pilot_bound, names_pilot
from hf_momo.optimizers.registry import OptimizerInfo, get_optimizer_info, list_optimizers, parse_optim_args
from hf_momo.trainer.base_optimizer import check_base_name, wrapped_cls_and_kwargs
from hf_momo.trainer.losses import automatic_lower_bound

if TYPE_CHECKING:
    _ArgumentsBase = TrainingArguments
else:
    _ArgumentsBase = object

logger = logging.getLogger(__name__)

_STOCK_LEARNING_RATE = 5e-5
# Arguments of the Trainer whose default is the optimizer's own where the user gave no value.
OPTIMIZER_ARGUMENTS = ("learning_rate", "adam_beta1", "adam_beta2", "adam_epsilon")
_STOCK_OPTIMIZERS = [member.value for member in OptimizerNames]
_NAMES = ", ".join(list_optimizers())
_RATES = {name: get_optimizer_info(name).default_lr for name in list_optimizers()}
_WITHOUT_RATE = ", ".join(name for name, rate in _RATES.items() if rate is None)
_DEFAULT_RATES = ", ".join(f"{rate:g} for {name}" for name, rate in _RATES.items() if rate is not None)
_OPTIM_HELP = f"The optimizer: {_NAMES}, or any of the Trainer's own."
_LEARNING_RATE_HELP = (
    f"Cap on the step size ({_NAMES}) or the learning rate (other optimizers). Default: the optimizer's own"
    f" ({_DEFAULT_RATES}); the Trainer's ({_STOCK_LEARNING_RATE:g}) for {_WITHOUT_RATE} and other optimizers."
)


def _own_default_help(what: str, attribute: str) -> dict[str, str]:
    rates = ((name, get_optimizer_info(name).trainer_defaults.get(attribute)) for name in list_optimizers())
    own = ", ".join(f"{rate:g} for {name}" for name, rate in rates if rate is not None)
    return {"help": f"{what} Default: the optimizer's own ({own}); the Trainer's for other optimizers."}


def optimizer_name_of(optim: Any) -> str:
    """Return the name in ``optim``, which is a string or a member of transformers' ``OptimizerNames``."""
    return str(getattr(optim, "value", optim))


def is_momo(optim: Any) -> bool:
    """Return whether ``optim`` of the training arguments names an optimizer of this package."""
    return optimizer_name_of(optim) in list_optimizers()


def momo_cls_and_kwargs(args: TrainingArguments, model: Any = None) -> tuple[type[MomoOptimizer], dict[str, Any]]:
    """Return the optimizer class and its options that the training arguments describe.

    Args:
        args: Training arguments whose ``optim`` is one of ``list_optimizers()``.
        model: The model. Needed for ``lower_bound=auto`` with label smoothing, and by optimizers that treat parameters
            by what they are in the model.
    """
    info = get_optimizer_info(optimizer_name_of(args.optim))
    options = {**info.options_from(args), **parsed_optim_args(info.name, args.optim_args)}
    if options.get("lower_bound") == "auto":
        options["lower_bound"] = automatic_lower_bound(args.label_smoothing_factor, model)
        logger.info("lower_bound=auto: %.4f", options["lower_bound"])
    elif names_pilot(options.get("lower_bound")):
        options["lower_bound"] = agreed_pilot_bound(options["lower_bound"]).value
    if "module" in info.defaults:
        options["module"] = model if isinstance(model, nn.Module) else None
    if args.learning_rate == _STOCK_LEARNING_RATE and not isinstance(args, MomoArgumentsMixin):
        _warn_of_stock_rate(info)
    if info.takes_base:
        return wrapped_cls_and_kwargs(info, args, model, options)
    return info.optimizer_cls, options


def pilot_bound_of(args: TrainingArguments) -> PilotBound | None:
    """Return the bound that ``optim_args`` takes from a pilot run, or ``None`` if it takes none.

    If ranks train together, all of them must call this function.
    """
    given = parse_optim_args(optimizer_name_of(args.optim), args.optim_args).get("lower_bound")
    return agreed_pilot_bound(given) if names_pilot(given) else None


def _warn_of_stock_rate(info: OptimizerInfo) -> None:
    advice = "the largest one at which the base trains, or more"
    if info.default_lr is not None:
        advice = f"{info.default_lr:g} (the optimizer's default), or use MomoTrainingArguments"
    logger.warning(
        "learning_rate is the Trainer's default 5e-5, which caps the steps of %s far below what it would choose."
        " Pass --learning_rate %s",
        info.name,
        advice,
    )


def parsed_optim_args(name: str, text: str | None) -> dict[str, Any]:
    """Return ``parse_optim_args``, and check the name of a base, which is one of the Trainer's.

    Raises:
        ValueError: If a key, a value or the base is none that ``name`` takes.
    """
    options = parse_optim_args(name, text)
    if "base" in options:
        check_base_name(options["base"])
    return options


@dataclass(init=False)
class MomoArgumentsMixin(_ArgumentsBase):
    """Mixin that lets any class of training arguments take the optimizers of this package.

    Put it first, and make the class a dataclass without fields of its own:

        @dataclass
        class MomoSFTConfig(MomoArgumentsMixin, SFTConfig):
            pass

    The new class differs from the old one in three points: ``optim`` defaults to ``"momo_adam"``; ``learning_rate``,
    ``adam_beta1``, ``adam_beta2`` and ``adam_epsilon`` default to the chosen optimizer's own defaults; ``optim_args``
    is checked at construction.

    Raises:
        TypeError: If the mixin does not come first, or the class is not decorated with ``@dataclass``.
    """

    optim: str = field(default="momo_adam", metadata={"help": _OPTIM_HELP})
    learning_rate: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": _LEARNING_RATE_HELP}
    )
    adam_beta1: float | None = field(  # type: ignore[assignment]
        default=None, metadata=_own_default_help("First beta.", "adam_beta1")
    )
    adam_beta2: float | None = field(  # type: ignore[assignment]
        default=None, metadata=_own_default_help("Second beta.", "adam_beta2")
    )
    adam_epsilon: float | None = field(  # type: ignore[assignment]
        default=None, metadata=_own_default_help("Epsilon.", "adam_epsilon")
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if TrainingArguments in order and order.index(TrainingArguments) < order.index(MomoArgumentsMixin):
            raise TypeError(
                f"{cls.__name__}: MomoArgumentsMixin must come before the class that it extends:"
                f" class {cls.__name__}(MomoArgumentsMixin, {cls.__bases__[0].__name__})"
            )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Only reached without @dataclass, whose generated constructor replaces this one.
        name = type(self).__name__
        raise TypeError(f"{name}: decorate the class with @dataclass, which adds the fields of MomoArgumentsMixin")

    def __post_init__(self) -> None:
        name = _checked_name(self.optim)
        ours = name in list_optimizers()
        for attribute in OPTIMIZER_ARGUMENTS:
            if getattr(self, attribute) is None:
                extended = _extended_default(type(self), attribute)
                setattr(self, attribute, own_default(name, attribute, extended) if ours else extended)
        if not ours:
            super().__post_init__()
            return
        parsed_optim_args(name, self.optim_args)
        # The stock class accepts only its own names.
        self.optim = OptimizerNames.ADAMW_TORCH
        super().__post_init__()
        self.optim = name

    def set_optimizer(self, name: str = "momo_adam", *args: Any, **kwargs: Any) -> Any:
        """Set the optimizer's arguments like the stock method, also for the optimizers of this package.

        Arguments that are left out become the optimizer's own defaults.
        """
        name = _checked_name(name)
        if name not in list_optimizers():
            return super().set_optimizer(name, *args, **kwargs)
        given = ("learning_rate", "weight_decay", "beta1", "beta2", "epsilon")[: len(args)]
        for attribute, value in get_optimizer_info(name).trainer_defaults.items():
            if (argument := attribute.removeprefix("adam_")) not in given:
                kwargs.setdefault(argument, value)
        super().set_optimizer(OptimizerNames.ADAMW_TORCH, *args, **kwargs)
        parsed_optim_args(name, self.optim_args)
        self.optim = name
        return self


def _checked_name(optim: Any) -> str:
    name = optimizer_name_of(optim)
    known = [*list_optimizers(), *_STOCK_OPTIMIZERS]
    if name not in known:
        raise ValueError(f"optim: got {name!r}, must be one of {', '.join(known)}")
    return name


def own_default(name: str, attribute: str, default: float) -> float:
    """Return what an optimizer of this package takes for an argument that was not given.

    Args:
        name: The optimizer.
        attribute: One of ``OPTIMIZER_ARGUMENTS``.
        default: The default of the class of arguments. A class that has chosen betas or an epsilon of its own keeps
            them.
    """
    if attribute != "learning_rate" and default != TrainingArguments.__dataclass_fields__[attribute].default:
        return default
    return get_optimizer_info(name).trainer_defaults.get(attribute, default)  # type: ignore[no-any-return]


def _extended_default(cls: type[MomoArgumentsMixin], attribute: str) -> float:
    """Return the default of the class that the mixin extends."""
    others = (base for base in cls.__mro__ if not issubclass(base, MomoArgumentsMixin))
    fields = next(vars(base)["__dataclass_fields__"] for base in others if "__dataclass_fields__" in vars(base))
    return fields[attribute].default  # type: ignore[no-any-return]


@dataclass
class MomoTrainingArguments(MomoArgumentsMixin, TrainingArguments):
    """``TrainingArguments`` that also take the optimizers of this package.

    They differ from the stock class in three points: ``optim`` defaults to ``"momo_adam"``; ``learning_rate``,
    ``adam_beta1``, ``adam_beta2`` and ``adam_epsilon`` default to the chosen optimizer's own defaults; ``optim_args``
    is checked at construction (``"lower_bound=auto"``, ``"lower_bound=from=runs/pilot"``, ...).
    ``optim_args`` sets ``beta``; ``adam_beta1`` and ``adam_beta2`` set ``betas``.
    """


@dataclass
class MomoSeq2SeqTrainingArguments(MomoArgumentsMixin, Seq2SeqTrainingArguments):
    """``Seq2SeqTrainingArguments`` with the same differences as ``MomoTrainingArguments``."""
