"""MoMo on an ``accelerate.Accelerator``: the loss tap, and optimizers connected to it."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.registry import unwrap_optimizer
from hf_momo.tap.backends import (
    backend_name,
    check_prepared,
    check_supported,
    clear_padding,
    keep_one_group,
    shards_plain_tensors,
    zero_clipping_factor,
    zero_optimizer,
)
from hf_momo.tap.loss_tap import LossTap
from hf_momo.utils.versions import check_version

if TYPE_CHECKING:
    from accelerate import Accelerator

_TAP = "_hf_momo_tap"


def connect(accelerator: Accelerator, optimizer: Any) -> LossTap:
    """Bring every loss that ``accelerator.backward`` gets to ``optimizer``, whose loop calls a bare ``step()``.

    Before or after ``accelerator.prepare``, once or several times.

    Args:
        accelerator: The accelerator of the loop.
        optimizer: ``Momo`` or ``MomoAdam``, or accelerate's wrapper around one.

    Returns:
        The accelerator's tap.

    Raises:
        TypeError: If ``optimizer`` is neither.
        NotImplementedError: If the backend, or one of its settings, would make the step wrong.
        ValueError: Under DeepSpeed, if parameter groups have different settings.
    """
    inner = unwrap_optimizer(optimizer)
    if not isinstance(inner, MomoOptimizer):
        raise TypeError(f"optimizer: got {type(inner).__name__}, must be hf_momo.Momo or hf_momo.MomoAdam")
    tap = tap_accelerator(accelerator)
    inner.sharded = shards_plain_tensors(accelerator)
    if backend_name(accelerator) == "DEEPSPEED":
        tap.before_step = functools.partial(clear_padding, accelerator)
        tap.clipping = functools.partial(zero_clipping_factor, accelerator)
        if zero_optimizer(accelerator, inner) is None:
            keep_one_group(inner)
    tap.attach(inner)
    return tap


def tap_accelerator(accelerator: Accelerator) -> LossTap:
    """Record every loss that ``accelerator.backward`` gets, and every ``accelerator.clip_grad_norm_``.

    This is the one place where the loss stands as it is back-propagated, in every version of the Trainer and for every
    backend. Only this instance is wrapped; tapping it again returns the same tap.

    Its ``backward`` then also takes ``optimizer=``: the optimizer, or a list of them, whose gradients the loss makes,
    where several share an accelerator and the graph of the loss does not show it.

    Args:
        accelerator: The accelerator whose ``backward`` the training loop calls.

    Raises:
        NotImplementedError: If the backend, or one of its settings, would make the step wrong.
        ImportError: If accelerate is older than the oldest supported release.
    """
    tap: LossTap | None = getattr(accelerator, _TAP, None)
    if tap is not None:
        return tap
    check_version("accelerate")
    check_supported(accelerator)
    tap = LossTap()
    accelerator.backward = _tapped_backward(accelerator, tap)
    accelerator.clip_grad_norm_ = _tapped_clipping(accelerator, tap)
    accelerator.join_uneven_inputs = _refused_join
    setattr(accelerator, _TAP, tap)
    return tap


def _tapped_backward(accelerator: Accelerator, tap: LossTap) -> Any:
    backward = accelerator.backward
    checked: set[int] = set()

    # Before the call, because DeepSpeed's engine steps the optimizer inside of it.
    @functools.wraps(backward)
    def tapped_backward(loss: Tensor, *, optimizer: Any = None, **kwargs: Any) -> Any:
        for attached in tap.optimizers:
            if id(attached) not in checked:
                check_prepared(accelerator, attached)
                checked.add(id(attached))
        tap.record(
            _as_back_propagated(accelerator, loss, **kwargs),
            ends_window=accelerator.sync_gradients,
            step_was_skipped=accelerator.optimizer_step_was_skipped,
            optimizers=tap.reached_by(loss) if optimizer is None else _named(tap, optimizer),
        )
        return backward(loss, **kwargs)

    return tapped_backward


def _tapped_clipping(accelerator: Accelerator, tap: LossTap) -> Any:
    clip_grad_norm_ = accelerator.clip_grad_norm_

    @functools.wraps(clip_grad_norm_)
    def tapped_clip_grad_norm_(parameters: Any, max_norm: float, *args: Any, **kwargs: Any) -> Any:
        parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        norm = clip_grad_norm_(parameters, max_norm, *args, **kwargs)
        # Without synchronised gradients there is nothing to step yet. An infinite bound asks for the norm alone: the
        # Trainer logs it. DeepSpeed clips by itself, inside of its step.
        clipped = norm is not None and accelerator.sync_gradients and not math.isinf(max_norm)
        if clipped and backend_name(accelerator) != "DEEPSPEED":
            whole = norm.full_tensor() if hasattr(norm, "full_tensor") else torch.as_tensor(norm)
            several = len(tap.optimizers) > 1
            tap.record_clipping(whole, float(max_norm), optimizers=tap.having(parameters) if several else None)
        return norm

    return tapped_clip_grad_norm_


def _refused_join(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError(
        "join_uneven_inputs: a rank that has run out of batches takes no steps, and the others would wait for its loss"
        " for ever; use even_batches=True (accelerate's default), which gives every rank the same number of batches"
    )


def _named(tap: LossTap, optimizer: Any) -> list[MomoOptimizer]:
    given = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    inner: list[Any] = [unwrap_optimizer(each) for each in given]
    for each in inner:
        if not any(each is attached for attached in tap.optimizers):
            raise ValueError(
                f"optimizer: got a {type(each).__name__} that is not connected to this accelerator; make it with"
                " hf_momo.create_optimizer(..., accelerator=accelerator)"
            )
    return inner


def _as_back_propagated(
    accelerator: Any, loss: Tensor, scale_wrt_gas: bool = True, gradient: Tensor | None = None, **kwargs: Any
) -> Tensor:
    """The loss as scaled for the gradient: accelerate, or DeepSpeed's engine, divides it by the accumulation steps.

    With torch's ``gradient`` it is the sum of the losses that these weights make.
    """
    value = loss.detach()
    if hasattr(value, "full_tensor"):
        value = value.full_tensor()  # of a loss computed in parts, under tensor parallelism
    if value.dtype != torch.float64:
        value = value.float()
    steps: int = accelerator.gradient_accumulation_steps
    if backend_name(accelerator) == "DEEPSPEED":
        steps = accelerator.deepspeed_engine_wrapped.engine.gradient_accumulation_steps() if scale_wrt_gas else 1
    return (value.mean() if gradient is None else (value * gradient.detach()).sum()) / steps
