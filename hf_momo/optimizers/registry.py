"""The one table of optimizers: name to class, defaults and options.

A row and its import are all that the package needs to know of a new method; ``hf_momo`` exports the classes from here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.checks import reason_without
from hf_momo.optimizers.momo import Momo
from hf_momo.optimizers.momo_adam import MomoAdam
from hf_momo.optimizers.momo_lion import MomoLion
from hf_momo.optimizers.momo_muon import MomoMuon

# Exported by ``hf_momo``.
__all__ = ["Momo", "MomoAdam", "MomoLion", "MomoMuon", "OptimizerInfo", "get_optimizer_info", "list_optimizers"]

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


_OPTIMIZERS = {
    info.name: info
    for info in (
        OptimizerInfo("momo", Momo, "SGD with momentum and MoMo's adaptive step size"),
        OptimizerInfo("momo_adam", MomoAdam, "Adam with MoMo's adaptive step size"),
        OptimizerInfo("momo_muon", MomoMuon, "Muon on matrices, Adam on the rest, with MoMo's adaptive step size"),
        OptimizerInfo("momo_lion", MomoLion, "Lion (Signum with equal betas) with MoMo's adaptive step size"),
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
        if key in info.defaults and key in TRAINER_ARGUMENTS:
            raise ValueError(f"optim_args: {key} is set by {TRAINER_ARGUMENTS[key][0]}, not by optim_args")
        if key not in info.optim_args:
            why = reason_without(key)
            raise ValueError(f"optim_args: {name} has no option {key!r}{why}; it has {', '.join(info.optim_args)}")
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
    """Return the torch optimizer inside accelerate's wrappers."""
    while hasattr(optimizer, "optimizer") and optimizer.optimizer is not optimizer:
        optimizer = optimizer.optimizer
    return optimizer  # type: ignore[no-any-return]
