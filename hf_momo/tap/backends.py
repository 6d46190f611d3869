"""What the backends of accelerate do to parameters, gradients and steps, and which of them are refused.

One model of the loss needs all inner products in one call of ``step()``. DistributedDataParallel and FSDP2 leave that
as it is; FSDP1 and DeepSpeed ZeRO hand the optimizer pieces of a partition that look like plain tensors, and ZeRO
calls ``step()`` inside of ``backward``, once for every parameter group and sub-group, after clipping by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch.distributed as dist
from torch import Tensor

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.registry import unwrap_optimizer

logger = logging.getLogger(__name__)

_REPLICATED = ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_HPU", "MULTI_NPU", "MULTI_MLU", "MULTI_MUSA")
_ZERO_STAGES = (1, 2, 3)
_PADDING = "_hf_momo_padding"  # kept on DeepSpeed's wrapper: it holds for as long as the partition does


def backend_name(accelerator: Any) -> str:
    """``distributed_type`` of an accelerator as a word: ``"NO"``, ``"MULTI_GPU"``, ``"FSDP"``, ``"DEEPSPEED"``, ..."""
    kind = accelerator.distributed_type
    return str(getattr(kind, "value", kind))


def check_supported(accelerator: Any) -> None:
    """Refuse backends and settings where the step would be wrong.

    Args:
        accelerator: An ``accelerate.Accelerator``.

    Raises:
        NotImplementedError: Naming the setting, the reason and what to use.
    """
    name = backend_name(accelerator)
    if name == "FSDP":
        _check_fsdp(accelerator.state.fsdp_plugin)
    elif name == "DEEPSPEED":
        _check_deepspeed(accelerator.state.deepspeed_plugin)
    elif name not in (*_REPLICATED, "MULTI_SDAA"):
        raise NotImplementedError(
            f"accelerator: distributed_type is {name}, which keeps the optimizer's parameters where MoMo's inner"
            " products cannot be taken; use one process, DistributedDataParallel, FSDP2 or DeepSpeed ZeRO"
        )


def shards_plain_tensors(accelerator: Any) -> bool:
    """Whether plain parameters of a prepared optimizer are pieces of a partition, held by one rank each."""
    name = backend_name(accelerator)
    if name == "FSDP":
        plugin = accelerator.state.fsdp_plugin
        return not is_fsdp2(plugin) and _strategy(plugin) != "NO_SHARD"
    return name == "DEEPSPEED"


def is_fsdp2(plugin: Any) -> bool:
    """Whether accelerate's FSDP plugin stands for ``fully_shard`` (DTensors) and not for FSDP version 1."""
    return int(getattr(plugin, "fsdp_version", 1)) == 2


def keep_one_group(optimizer: MomoOptimizer) -> None:
    """Merge parameter groups of equal settings into the first: ZeRO would make a step of its own for each.

    Raises:
        ValueError: If their settings differ.
    """
    first, *others = optimizer.param_groups
    for name in ("lr", "weight_decay", "eps"):
        values = [group[name] for group in optimizer.param_groups if name in group and group["params"]]
        if any(value != values[0] for value in values):
            raise ValueError(
                f"{name}: got {', '.join(map(str, values))} in the parameter groups, must be one value under"
                " DeepSpeed: ZeRO flattens every group and steps it by itself, and MoMo's step size needs all of them"
                " in one step. Give one value, or use FSDP2"
            )
    if not first["params"] and others:
        first.update({name: others[0][name] for name in ("lr", "weight_decay", "eps") if name in first})
    for group in others:
        first["params"].extend(group["params"])
    del optimizer.param_groups[1:]


def zero_optimizer(accelerator: Any, optimizer: MomoOptimizer) -> Any:
    """DeepSpeed's wrapper around ``optimizer``, or ``None`` before ``accelerator.prepare``."""
    for wrapper in accelerator._optimizers:
        inner = getattr(wrapper, "optimizer", None)
        if inner is not optimizer and inner is not None and unwrap_optimizer(wrapper) is optimizer:
            return inner
    return None


def check_prepared(accelerator: Any, optimizer: MomoOptimizer) -> None:
    """Refuse what only shows once DeepSpeed has partitioned the parameters.

    Raises:
        NotImplementedError: If ZeRO-3 splits a step into several.
    """
    zero = zero_optimizer(accelerator, optimizer)
    parts = len(getattr(zero, "fp32_partitioned_groups_flat", None) or [None])
    if parts > 1:
        raise NotImplementedError(
            f"sub_group_size: ZeRO-3 splits this rank's parameters into {parts} sub-groups and steps each by itself,"
            " while MoMo's step size needs all of them in one step; set zero_optimization.sub_group_size of the"
            " DeepSpeed configuration to more than the parameters of a rank (1e12)"
        )


def zero_clipping_factor(accelerator: Any, optimizer: MomoOptimizer) -> Tensor | float:
    """Factor in (0, 1] by which ZeRO has scaled the gradients of the step that it is about to take.

    The same expression as in its ``unscale_and_clip_grads``: ``1 / max(1, (norm + 1e-6) / gradient_clipping)``.
    """
    zero = zero_optimizer(accelerator, optimizer)
    bound = float(getattr(zero, "clip_grad", 0.0) or 0.0)
    if bound <= 0.0:
        return 1.0
    norm = zero._global_grad_norm
    if isinstance(norm, Tensor):
        return (bound / (norm.detach() + 1e-6)).clamp(max=1.0)
    return min(1.0, bound / (float(norm) + 1e-6))


def clear_padding(accelerator: Any, optimizer: MomoOptimizer) -> None:
    """Set to zero what stands in ZeRO-3's flat parameters and gradients where no parameter has an element.

    ZeRO-3 cuts each parameter into pieces of one length, and leaves what the last ones have too much as it found it in
    memory. An optimizer that works element by element never notices; an inner product over the flat tensor does: 0
    times an infinity or a NaN there is a NaN, and every step of the run is skipped. To be called before every step: a
    checkpoint that is loaded brings its own padding back. Other stages have none, and are left alone.
    """
    zero = zero_optimizer(accelerator, optimizer)
    groups = getattr(zero, "fp32_partitioned_groups_flat", None)
    if groups is None:
        return
    if not hasattr(zero, _PADDING):
        setattr(zero, _PADDING, [padding(map(_piece, params)) for params in zero.fp16_groups])
    for flat, spans in zip(groups, getattr(zero, _PADDING), strict=True):
        for tensor in (flat.detach(), flat.grad):
            for start, length in spans if tensor is not None else ():
                tensor.narrow(0, start, length).zero_()


def padding(sizes: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Where pieces of parameters, one behind the other, hold nothing of their parameters.

    Args:
        sizes: Of each parameter: its number of elements, the length of a piece, and which piece this is.

    Returns:
        Starts and lengths.

    Example:
        >>> padding([(8, 4, 1), (7, 4, 1), (1, 1, 1)])  # the second of two ranks
        [(7, 1), (8, 1)]
    """
    spans, start = [], 0
    for numel, length, index in sizes:
        held = min(max(numel - length * index, 0), length)
        if held < length:
            spans.append((start + held, length - held))
        start += length
    return spans


def _piece(param: Any) -> tuple[int, int, int]:
    return param.ds_numel, param.partition_numel(), dist.get_rank(param.ds_process_group)


def _strategy(plugin: Any) -> str:
    strategy = getattr(plugin, "sharding_strategy", None)
    return str(getattr(strategy, "name", strategy))


def _check_fsdp(plugin: Any) -> None:
    if is_fsdp2(plugin):
        return
    if _strategy(plugin).endswith("HYBRID_SHARD") or _strategy(plugin) == "_HYBRID_SHARD_ZERO2":
        raise NotImplementedError(
            f"fsdp_sharding_strategy: {_strategy(plugin)} of FSDP version 1 does not say how often a piece is held, so"
            " inner products would be counted several times; set fsdp_version: 2, or FULL_SHARD"
        )
    if getattr(plugin, "ignored_modules", None):
        raise NotImplementedError(
            "fsdp_ignored_modules: FSDP version 1 leaves these parameters whole beside the sharded ones, and their"
            " inner products would be counted once a rank; set fsdp_version: 2, or ignore no modules"
        )


def _check_deepspeed(plugin: Any) -> None:
    config = plugin.deepspeed_config
    zero = config.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    if stage not in _ZERO_STAGES:
        raise NotImplementedError(
            f"zero_stage: got {stage}, must be 1, 2 or 3; without ZeRO use DistributedDataParallel, which does the"
            " same"
        )
    device = (zero.get("offload_optimizer") or {}).get("device", "none")
    if device not in (None, "none"):
        raise NotImplementedError(
            f"offload_optimizer_device: got {device!r}, must be 'none': ZeRO then steps with a kernel of its own,"
            " piece by piece, and MoMo's step size needs all pieces in one step"
        )
    if zero.get("mics_shard_size", -1) > 0:
        raise NotImplementedError(
            f"mics_shard_size: got {zero['mics_shard_size']}; MiCS holds every piece on several ranks, and inner"
            " products would be counted several times. Leave it out"
        )
