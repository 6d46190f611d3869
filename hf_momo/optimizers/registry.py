"""The one table of optimizers: name to class, defaults and options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from hf_momo.optimizers import Momo, MomoAdam

# The Trainer has arguments of its own for these.
_TRAINER_ARGUMENTS = {
    "lr": "--learning_rate",
    "betas": "--adam_beta1 and --adam_beta2",
    "eps": "--adam_epsilon",
    "weight_decay": "--weight_decay",
    "process_group": "the way the job is launched",
    "sharded": "the way the job is launched",
}


@dataclass(frozen=True)
class OptimizerInfo:
    """One row of the table.

    Attributes:
        name: What users write: ``optim="momo_adam"``.
        optimizer_cls: The class.
        description: One line.
    """

    name: str
    optimizer_cls: type[Momo] | type[MomoAdam]
    description: str

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Every constructor argument but the parameters, with its default."""
        parameters = list(inspect.signature(self.optimizer_cls).parameters.values())[1:]
        return MappingProxyType({parameter.name: parameter.default for parameter in parameters})

    @property
    def optim_args(self) -> tuple[str, ...]:
        """Names that the Trainer's ``optim_args`` may hold."""
        return tuple(name for name in self.defaults if name not in _TRAINER_ARGUMENTS)

    def options_from(self, args: Any) -> dict[str, Any]:
        """Return the constructor's options that the Trainer has arguments for.

        Args:
            args: ``TrainingArguments``.
        """
        options = {"lr": args.learning_rate, "betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
        return {name: value for name, value in options.items() if name in self.defaults}


_OPTIMIZERS = {
    info.name: info
    for info in (
        OptimizerInfo("momo", Momo, "SGD with momentum and MoMo's adaptive step size"),
        OptimizerInfo("momo_adam", MomoAdam, "Adam with MoMo's adaptive step size"),
    )
}


def list_optimizers() -> list[str]:
    """Names of the optimizers.

    Example:
        >>> list_optimizers()
        ['momo', 'momo_adam']
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
        text: ``"key=value,key=value"``, or ``None``. ``lower_bound=auto`` is passed on as ``"auto"``.

    Raises:
        ValueError: If a key is unknown or a value is not of the key's type.

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
        if key in info.defaults and key in _TRAINER_ARGUMENTS:
            raise ValueError(f"optim_args: {key} is set by {_TRAINER_ARGUMENTS[key]}, not by optim_args")
        if key not in info.optim_args:
            raise ValueError(f"optim_args: {name} has no option {key!r}; it has {', '.join(info.optim_args)}")
        options[key] = _typed(key, value, info.defaults[key])
    return options


def _typed(key: str, value: str, default: Any) -> Any:
    if key == "lower_bound" and value == "auto":
        return value
    if isinstance(default, str):
        return value
    if isinstance(default, bool):
        choices = {"true": True, "1": True, "false": False, "0": False}
        if value.lower() not in choices:
            raise ValueError(f"optim_args: got {key}={value}, must be true or false")
        return choices[value.lower()]
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"optim_args: got {key}={value}, must be a number") from None


def unwrap_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The torch optimizer inside accelerate's wrappers."""
    while hasattr(optimizer, "optimizer") and optimizer.optimizer is not optimizer:
        optimizer = optimizer.optimizer
    return optimizer  # type: ignore[no-any-return]
