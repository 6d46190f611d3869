"""DeepSpeed ZeRO, stages 1 to 3.

Everything that is read from DeepSpeed beyond its documentation goes through ``_required``: a release that has moved an
attribute stops with an error, since any default would make the step wrong. ``tests/integration/test_internals.py``
lists these attributes.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import torch.distributed as dist
from torch import Tensor

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.registry import unwrap_optimizer
from hf_momo.tap.backends.base import Backend
from hf_momo.utils.versions import OLDEST, check_version


class DeepSpeed(Backend):
    """ZeRO: flattens each parameter group into a partition per rank, clips and steps inside ``backward``."""

    needs_one_group = True
    steps_in_backward = True

    def __init__(self, accelerator: Any) -> None:
        super().__init__(accelerator)
        # A partition never changes, so each ZeRO optimizer's padding is worked out once.
        self._padding: WeakKeyDictionary[Any, list[list[tuple[int, int]]]] = WeakKeyDictionary()

    @property
    def shards_plain_tensors(self) -> bool:
        """Whether plain tensors are shards: always."""
        return True

    def check_settings(self) -> None:
        """Refuse settings that would make the step wrong.

        Raises:
            NotImplementedError: Names the setting, the reason and what to use instead.
            ImportError: If DeepSpeed is older than the oldest supported release.
        """
        check_version("deepspeed")
        if self._stage not in (1, 2, 3):
            raise NotImplementedError(
                f"zero_stage: got {self._stage}, must be 1, 2 or 3; without ZeRO use DistributedDataParallel, which"
                " does the same"
            )
        device = (self._zero_config.get("offload_optimizer") or {}).get("device", "none")
        if device not in (None, "none"):
            raise NotImplementedError(
                f"offload_optimizer_device: got {device!r}, must be 'none': ZeRO would step with its own kernel, piece"
                " by piece, and MoMo's step size needs all pieces in one step"
            )
        if self._zero_config.get("mics_shard_size", -1) > 0:
            raise NotImplementedError(
                f"mics_shard_size: got {self._zero_config['mics_shard_size']}; MiCS holds every shard on several"
                " ranks, so inner products would be counted several times. Remove the setting"
            )

    def adapt(self, optimizer: MomoOptimizer) -> None:
        """Set ``optimizer`` up, and merge its parameter groups if ZeRO has not flattened them yet.

        Raises:
            ValueError: If the groups have different settings.
        """
        super().adapt(optimizer)
        if self._zero_optimizer(optimizer) is None:
            keep_one_group(optimizer)

    def check_prepared(self, optimizer: MomoOptimizer) -> None:
        """Refuse partitions that ZeRO steps one by one.

        Raises:
            NotImplementedError: If ZeRO-3 made sub-groups.
            ValueError: If there are several parameter groups.
        """
        zero = self._zero_optimizer(optimizer)
        if zero is None:
            return
        parts = len(_required(zero, "fp32_partitioned_groups_flat")) if self._stage == 3 else 1
        if len(optimizer.param_groups) > 1:
            raise ValueError(
                f"param_groups: got {len(optimizer.param_groups)}, must be one under DeepSpeed, which steps each by"
                " itself; connect the optimizer before accelerator.prepare, which merges groups of equal settings"
            )
        if parts > 1:
            raise NotImplementedError(
                f"sub_group_size: ZeRO-3 splits the parameters of this rank into {parts} sub-groups and steps each by"
                " itself, while MoMo's step size needs all of them in one step; set zero_optimization.sub_group_size"
                " of the DeepSpeed configuration to more than the number of parameters of a rank (1e12)"
            )

    def loss_divisor(self, *, scale_wrt_gas: bool) -> int:
        """Return the accumulation steps of DeepSpeed's engine, or 1 if the caller has scaled the loss."""
        if not scale_wrt_gas:
            return 1
        steps: int = self.accelerator.deepspeed_engine_wrapped.engine.gradient_accumulation_steps()
        return steps

    def before_step(self, optimizer: MomoOptimizer) -> None:
        """Set the padding of ZeRO-3's flat parameters and gradients to zero.

        ZeRO-3 cuts each parameter into pieces of equal length and leaves the excess of the last ones uninitialized.
        An elementwise optimizer never notices. In an inner product over the flat tensor, 0 times an infinity or a NaN
        is a NaN, and every step is skipped. This is repeated before each step because a checkpoint restores the
        padding that it was saved with. The other stages have no such padding.
        """
        if self._stage != 3:
            return
        zero = self._prepared(optimizer)
        if zero not in self._padding:
            self._padding[zero] = [padding(map(_piece, params)) for params in _required(zero, "fp16_groups")]
        for flat, spans in zip(_required(zero, "fp32_partitioned_groups_flat"), self._padding[zero], strict=True):
            for tensor in (flat.detach(), flat.grad):
                for start, length in spans if tensor is not None else ():
                    tensor.narrow(0, start, length).zero_()

    def clipping_factor(self, optimizer: MomoOptimizer) -> Tensor | float:
        """Return the factor in (0, 1] by which ZeRO has scaled the gradients of the step that it is about to take.

        This is the expression of ``unscale_and_clip_grads``: ``1 / max(1, (norm + 1e-6) / gradient_clipping)``.
        """
        zero = self._prepared(optimizer)
        bound = float(_required(zero, "clip_grad"))
        if bound <= 0.0:
            return 1.0
        norm = _required(zero, "_global_grad_norm")
        if isinstance(norm, Tensor):
            return (bound / (norm.detach() + 1e-6)).clamp(max=1.0)
        return min(1.0, bound / (float(norm) + 1e-6))

    @property
    def _zero_config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.accelerator.state.deepspeed_plugin.deepspeed_config.get("zero_optimization", {})
        return config

    @property
    def _stage(self) -> int:
        return int(self._zero_config.get("stage", 0))

    def _zero_optimizer(self, optimizer: MomoOptimizer) -> Any:
        """Return DeepSpeed's wrapper around ``optimizer``, or ``None`` before ``accelerator.prepare``."""
        wrappers = (each.optimizer for each in self.accelerator._optimizers)
        return next((zero for zero in wrappers if zero is not optimizer and unwrap_optimizer(zero) is optimizer), None)

    def _prepared(self, optimizer: MomoOptimizer) -> Any:
        zero = self._zero_optimizer(optimizer)
        if zero is None:
            raise RuntimeError(
                f"optimizer: this {type(optimizer).__name__} was not prepared by the accelerator that it is connected"
                " to, so its gradient clipping and its padding are unknown; call accelerator.prepare(model, optimizer)"
            )
        return zero


def keep_one_group(optimizer: MomoOptimizer) -> None:
    """Merge parameter groups of equal settings into the first.

    Raises:
        ValueError: If their settings differ.
    """
    first, *others = optimizer.param_groups
    for name in optimizer.per_group_options:
        values = [group[name] for group in optimizer.param_groups if group["params"]]
        if any(value != values[0] for value in values):
            raise ValueError(
                f"{name}: got {', '.join(map(str, values))} in the parameter groups, must be one value under"
                " DeepSpeed: ZeRO flattens every group and steps it by itself, and MoMo's step size needs all of them"
                " in one step. Give one value, or use FSDP2"
            )
    if not first["params"] and others:
        first.update({name: others[0][name] for name in optimizer.per_group_options})
    for group in others:
        first["params"].extend(group["params"])
    del optimizer.param_groups[1:]


def padding(sizes: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Return the spans of a flat tensor that belong to no parameter.

    The flat tensor holds one piece of every parameter, one after the other.

    Args:
        sizes: For each parameter its number of elements, the length of a piece, and the index of this rank's piece.

    Returns:
        Start and length of each span.

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
    rank = dist.get_rank(_required(param, "ds_process_group"))
    return _required(param, "ds_numel"), _required(param, "partition_numel")(), rank


def _required(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        release = import_module("deepspeed").__version__
        raise RuntimeError(
            f"deepspeed {release}: {type(owner).__name__} has no attribute {name!r}, which hf_momo needs for a correct"
            f" step under ZeRO. hf_momo does not support this release yet; install an earlier one, from"
            f" {OLDEST['deepspeed']} on, or use FSDP2"
        ) from None
