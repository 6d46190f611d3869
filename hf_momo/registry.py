"""The one table of optimizers: name to class, defaults and options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from hf_momo.optimizers import Momo, MomoAdam, MomoOptimizer

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


def create_optimizer(
    name: str, model_or_params: nn.Module | Iterable[Any], *, weight_decay: float = 0.0, **options: Any
) -> MomoOptimizer:
    """Make an optimizer for a model or for parameters.

    For a model with weight decay, biases and the parameters of normalization layers are left undecayed, as the Hugging
    Face Trainer does; parameters or groups are taken as they are.

    Args:
        name: One of ``list_optimizers()``.
        model_or_params: A module, parameters, or parameter groups.
        weight_decay: Coefficient of the weight decay, in [0, inf).
        **options: Other arguments of the optimizer's constructor.

    Raises:
        ValueError: If there is no such optimizer, or an option is out of range.
        TypeError: If there is no such option.

    Example:
        >>> create_optimizer("momo_adam", nn.Linear(2, 1), lr=1e-3).defaults["lr"]
        0.001
    """
    info = get_optimizer_info(name)
    unknown = [option for option in options if option not in info.defaults]
    if unknown:
        raise TypeError(f"{unknown[0]}: {name} has no such option; it has {', '.join(info.defaults)}")
    if not isinstance(model_or_params, nn.Module):
        return info.optimizer_cls(model_or_params, weight_decay=weight_decay, **options)
    parameters: Any = [param for param in model_or_params.parameters() if param.requires_grad]
    if weight_decay != 0.0:
        parameters = weight_decay_groups(model_or_params, weight_decay)
    return info.optimizer_cls(parameters, **options)


def weight_decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups: decayed weights, and the biases and normalization parameters that are not.

    Args:
        model: Its parameters with ``requires_grad`` are taken.
        weight_decay: Of the first group.
    """
    # The patterns of Trainer.get_decay_parameter_names; "bias" anywhere takes in T5's relative_attention_bias.weight.
    exempt = re.compile(r"bias|layernorm|rmsnorm|(^|[._])norm($|\.)", re.IGNORECASE)
    norms = {id(p) for module in model.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()}
    named = [(name, param) for name, param in model.named_parameters() if param.requires_grad]
    decayed = [param for name, param in named if id(param) not in norms and not exempt.search(name)]
    chosen = {id(param) for param in decayed}
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": [param for _, param in named if id(param) not in chosen], "weight_decay": 0.0},
    ]


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
