"""Optimizers made in one line: from a name and a model, connected to an accelerator."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import nn

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.registry import get_optimizer_info
from hf_momo.tap.accelerator import connect
from hf_momo.tap.backends import backend_name

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


def create_optimizer(
    name: str,
    model_or_params: nn.Module | Iterable[Any],
    *,
    accelerator: Accelerator | None = None,
    weight_decay: float = 0.0,
    **options: Any,
) -> MomoOptimizer:
    """Make an optimizer for a model or for parameters, ready for a loop of accelerate where it is given one.

    With ``accelerator`` the loop stays that of any accelerate example: ``prepare``, ``accumulate``, ``backward``,
    ``clip_grad_norm_``, a bare ``step()``, ``zero_grad``. Make the optimizer before ``accelerator.prepare``, or after
    it (DistributedDataParallel, FSDP version 1).

    For a model with weight decay, biases and the parameters of normalization layers are left undecayed, as the Hugging
    Face Trainer does; parameters or groups are taken as they are. Under DeepSpeed there is one group, and all
    parameters are decayed.

    Args:
        name: One of ``list_optimizers()``.
        model_or_params: A module, parameters, or parameter groups.
        accelerator: The ``accelerate.Accelerator`` whose ``backward`` the loop calls.
        weight_decay: Coefficient of the weight decay, in [0, inf).
        **options: Other arguments of the optimizer's constructor.

    Raises:
        ValueError: If there is no such optimizer, or an option is out of range.
        TypeError: If there is no such option.
        NotImplementedError: If the accelerator's backend, or one of its settings, would make the step wrong.

    Example:
        >>> create_optimizer("momo_adam", nn.Linear(2, 1), lr=1e-3).defaults["lr"]
        0.001
    """
    info = get_optimizer_info(name)
    unknown = [option for option in options if option not in info.defaults]
    if unknown:
        raise TypeError(f"{unknown[0]}: {name} has no such option; it has {', '.join(info.defaults)}")
    optimizer = info.create(
        _groups(model_or_params, weight_decay, one_group=_is_deepspeed(accelerator)),
        weight_decay=weight_decay,
        **options,
    )
    if accelerator is not None:
        connect(accelerator, optimizer)
    return optimizer


def _is_deepspeed(accelerator: Accelerator | None) -> bool:
    return accelerator is not None and backend_name(accelerator) == "DEEPSPEED"


def _groups(model_or_params: nn.Module | Iterable[Any], weight_decay: float, *, one_group: bool) -> Any:
    if not isinstance(model_or_params, nn.Module):
        return model_or_params
    if weight_decay != 0.0 and not one_group:
        return weight_decay_groups(model_or_params, weight_decay)
    if weight_decay != 0.0:
        logger.warning(
            "weight_decay=%g is applied to biases and normalization layers too: DeepSpeed steps every parameter"
            " group by itself, so there is one",
            weight_decay,
        )
    return [param for param in model_or_params.parameters() if param.requires_grad]


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
