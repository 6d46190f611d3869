"""The loss tap on an ``accelerate.Accelerator``."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor

from hf_momo.loss_tap import LossTap

_TAP = "_hf_momo_tap"
_SUPPORTED = (
    "NO",
    "MULTI_CPU",
    "MULTI_GPU",
    "MULTI_XPU",
    "MULTI_HPU",
    "MULTI_NPU",
    "MULTI_MLU",
    "MULTI_MUSA",
    "MULTI_SDAA",
)


def tap_accelerator(accelerator: Accelerator) -> LossTap:
    """Record every loss that ``accelerator.backward`` gets, and every ``accelerator.clip_grad_norm_``.

    This is the one place where the loss stands as it is back-propagated, in every version of the Trainer and for every
    backend. Only this instance is wrapped; tapping it again returns the same tap.

    Args:
        accelerator: The accelerator whose ``backward`` the training loop calls.

    Raises:
        NotImplementedError: Under FSDP, DeepSpeed, Megatron-LM and XLA, where parameters are sharded.
    """
    tap: LossTap | None = getattr(accelerator, _TAP, None)
    if tap is not None:
        return tap
    check_supported(accelerator)
    tap = LossTap()
    backward, clip_grad_norm_ = accelerator.backward, accelerator.clip_grad_norm_

    # Before the call, because DeepSpeed's engine steps the optimizer inside of it.
    @functools.wraps(backward)
    def tapped_backward(loss: Tensor, **kwargs: Any) -> Any:
        tap.record(
            _as_back_propagated(accelerator, loss),
            ends_window=accelerator.sync_gradients,
            step_was_skipped=accelerator.optimizer_step_was_skipped,
        )
        return backward(loss, **kwargs)

    @functools.wraps(clip_grad_norm_)
    def tapped_clip_grad_norm_(parameters: Any, max_norm: float, *args: Any, **kwargs: Any) -> Any:
        norm = clip_grad_norm_(parameters, max_norm, *args, **kwargs)
        # Without synchronised gradients there is nothing to step yet. An infinite bound asks for the norm alone: the
        # Trainer logs it.
        if norm is not None and accelerator.sync_gradients and not math.isinf(max_norm):
            tap.record_clipping(torch.as_tensor(norm), float(max_norm))
        return norm

    accelerator.backward = tapped_backward
    accelerator.clip_grad_norm_ = tapped_clip_grad_norm_
    setattr(accelerator, _TAP, tap)
    return tap


def check_supported(accelerator: Accelerator) -> None:
    """Refuse backends where the step would be wrong.

    Raises:
        NotImplementedError: Naming the backend.
    """
    kind = accelerator.distributed_type
    name = kind.value if isinstance(kind, DistributedType) else str(kind)
    if name not in _SUPPORTED:
        raise NotImplementedError(
            f"accelerator: distributed_type is {name}, where parameters are sharded, which hf_momo does not support"
            " yet; use one process or DistributedDataParallel (MULTI_GPU, MULTI_CPU)"
        )


def _as_back_propagated(accelerator: Accelerator, loss: Tensor) -> Tensor:
    value = loss.detach()
    if value.dtype != torch.float64:
        value = value.float()
    steps: int = accelerator.gradient_accumulation_steps
    return value.mean() / steps
