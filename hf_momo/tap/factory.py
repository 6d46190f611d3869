"""``create_optimizer``: an optimizer from a name and a model, in one line, connected to an accelerator."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import nn

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.bounds import agreed_pilot_bound, names_pilot
from hf_momo.optimizers.checks import check_sharded, reason_without
from hf_momo.optimizers.registry import get_optimizer_info
from hf_momo.tap.accelerator import connect
from hf_momo.tap.backends import backend_of

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
    """Return an optimizer for a model or for parameters, connected to ``accelerator`` if one is given.

    The loop then stays that of any accelerate example: ``prepare``, ``accumulate``, ``backward``,
    ``clip_grad_norm_``, ``step()``, ``zero_grad``. Create the optimizer before ``accelerator.prepare``; with
    DistributedDataParallel and FSDP version 1 it may also come after.

    Given a model and weight decay, biases and the parameters of normalization layers are not decayed, as in the
    Hugging Face Trainer. Parameters and groups are taken as they are. Under DeepSpeed there is one group, and all
    parameters are decayed.

    Args:
        name: One of ``list_optimizers()``.
        model_or_params: A module, parameters, or parameter groups.
        accelerator: The ``accelerate.Accelerator`` whose ``backward`` the loop calls.
        weight_decay: Weight decay coefficient, in [0, inf).
        **options: Other arguments of the optimizer's constructor. ``lower_bound`` may also be ``"from=RUN"``, a share
            of the last training loss of another run, as in the Trainer's ``optim_args``. ``"momo_wrapper"`` also takes
            ``base``, a class of optimizers such as ``torch.optim.AdamW``, and the arguments of that class.

    Raises:
        ValueError: If no optimizer has this name, an option is out of range, or ``RUN`` gives no bound.
        TypeError: If the optimizer does not have an option.
        NotImplementedError: If the accelerator's backend, or one of its settings, would make the step wrong.

    Example:
        >>> create_optimizer("momo_adam", nn.Linear(2, 1), lr=1e-3).defaults["lr"]
        0.001
    """
    info = get_optimizer_info(name)
    unknown = [option for option in options if option not in info.defaults]
    if unknown and not info.takes_base:
        why = reason_without(unknown[0])
        raise TypeError(f"{unknown[0]}: {name} has no such option{why}; it has {', '.join(info.defaults)}")
    if names_pilot(options.get("lower_bound")):
        options["lower_bound"] = agreed_pilot_bound(options["lower_bound"]).value
    backend = None if accelerator is None else backend_of(accelerator)
    if backend is not None:
        # Before the optimizer is made, which would not find the parameters that it needs.
        check_sharded(info.optimizer_cls, backend.shards_plain_tensors)
    if "module" in info.defaults and isinstance(model_or_params, nn.Module):
        options.setdefault("module", model_or_params)
    optimizer = info.create(
        _groups(model_or_params, weight_decay, one_group=backend is not None and backend.needs_one_group),
        weight_decay=weight_decay,
        **options,
    )
    if accelerator is not None:
        connect(accelerator, optimizer)
    return optimizer


def _groups(model_or_params: nn.Module | Iterable[Any], weight_decay: float, *, one_group: bool) -> Any:
    if not isinstance(model_or_params, nn.Module):
        return model_or_params
    if weight_decay != 0.0 and not one_group:
        return weight_decay_groups(model_or_params, weight_decay)
    if weight_decay != 0.0:
        warn_that_all_decay(weight_decay)
    return [param for param in model_or_params.parameters() if param.requires_grad]


def warn_that_all_decay(weight_decay: float) -> None:
    """Warn that ``weight_decay`` applies to every parameter, because the backend needs one parameter group."""
    logger.warning(
        "weight_decay=%g is applied to biases and normalization layers too: DeepSpeed steps every parameter group by"
        " itself, so there is one",
        weight_decay,
    )


def weight_decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two parameter groups: decayed weights, and biases and normalization parameters without decay.

    Args:
        model: The model; its parameters without ``requires_grad`` are left out.
        weight_decay: The coefficient of the first group.
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
