"""The tap on an ``accelerate.Accelerator``: wraps the methods of one instance, and connects optimizers to it."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import Tensor

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.registry import list_optimizers, unwrap_optimizer
from hf_momo.tap import gradients
from hf_momo.tap.backends import Backend, backend_of
from hf_momo.tap.bounds import as_tensor_like
from hf_momo.tap.loss_tap import LossTap
from hf_momo.utils.versions import check_version

if TYPE_CHECKING:
    from accelerate import Accelerator

_TAP = "_hf_momo_tap"


def connect(accelerator: Accelerator, optimizer: Any) -> LossTap:
    """Hand every loss passed to ``accelerator.backward`` to ``optimizer``, whose loop calls ``step()`` without one.

    Call it before or after ``accelerator.prepare``, once or several times.

    Args:
        accelerator: The accelerator of the loop.
        optimizer: An optimizer of this package, or accelerate's wrapper around one.

    Returns:
        The accelerator's tap.

    Raises:
        TypeError: If ``optimizer`` is another optimizer.
        NotImplementedError: If the backend, or one of its settings, would make the step wrong.
        ValueError: Under DeepSpeed, if parameter groups have different settings.
    """
    inner = unwrap_optimizer(optimizer)
    if not isinstance(inner, MomoOptimizer):
        raise TypeError(
            f"optimizer: got {type(inner).__name__}, must be an optimizer of hf_momo: {', '.join(list_optimizers())}"
        )
    tap = tap_accelerator(accelerator)
    assert tap.backend is not None
    tap.backend.adapt(inner)
    tap.attach(inner)
    return tap


def tap_accelerator(accelerator: Accelerator) -> LossTap:
    """Wrap the methods of ``accelerator`` that make, change or free gradients, and return its tap.

    ``backward`` is the one place where the loss stands as it is back-propagated, in every version of the Trainer and
    under every backend. Only this instance is wrapped; wrapping it again returns the same tap.

    The wrapped ``backward`` also takes ``optimizer=``: the optimizer, or a list of them, whose gradients the loss
    makes. It is needed only where several optimizers share the accelerator and neither the graph of the loss nor the
    gradients tell. It also takes ``lower_bound=``: a lower bound of this loss, such as the loss of a teacher on the
    same batch, in units of ``loss`` as it is passed. It must be given for all micro-batches of a step or for none.

    Args:
        accelerator: The accelerator whose ``backward`` the training loop calls.

    Raises:
        NotImplementedError: If the backend, or one of its settings, would make the step wrong.
        ImportError: If accelerate, or the backend's library, is older than the oldest supported release.
    """
    tap: LossTap | None = getattr(accelerator, _TAP, None)
    if tap is not None:
        return tap
    check_version("accelerate")
    backend = backend_of(accelerator)
    backend.check_settings()
    tap = LossTap(backend)
    accelerator.backward = _tapped_backward(accelerator, tap)
    accelerator.clip_grad_norm_ = _tapped_clipping(accelerator, tap)
    accelerator.clip_grad_value_ = _refused_clipping(accelerator, tap)
    accelerator.free_memory = _releasing_free_memory(accelerator, tap)
    accelerator.join_uneven_inputs = _refused_join
    setattr(accelerator, _TAP, tap)
    return tap


def _tapped_backward(accelerator: Accelerator, tap: LossTap) -> Any:
    backward, backend = accelerator.backward, _backend(tap)
    checked: WeakSet[MomoOptimizer] = WeakSet()

    @functools.wraps(backward)
    def tapped_backward(
        loss: Tensor, *, optimizer: Any = None, lower_bound: Tensor | float | None = None, **kwargs: Any
    ) -> Any:
        tap.resume(map(unwrap_optimizer, accelerator._optimizers))
        for attached in tap.optimizers:
            if attached not in checked:
                backend.check_prepared(attached)
                checked.add(attached)
        named = tap.reached_by(loss) if optimizer is None else _named(tap, optimizer)
        bound = tap.announced_bound.take(loss)
        if lower_bound is not None:
            bound = as_tensor_like(lower_bound, loss)
        # Before the call, because DeepSpeed steps the optimizer inside of it.
        record = functools.partial(
            tap.record,
            _as_back_propagated(backend, loss, **kwargs),
            ends_window=accelerator.sync_gradients,
            step_was_skipped=accelerator.optimizer_step_was_skipped,
            lower_bound=None if bound is None else _as_back_propagated(backend, bound, **kwargs),
        )
        if named or not tap.optimizers:
            record(optimizers=named)
            result = backward(loss, **kwargs)
        else:
            tap.open_abandoned(tap.optimizers, step_was_skipped=accelerator.optimizer_step_was_skipped)
            before = [(attached, gradients.versions(attached)) for attached in tap.optimizers]
            result = backward(loss, **kwargs)
            record(optimizers=_changed(before))
        # A gradient scaler and a backend that steps by itself change the gradients without a word, and rightly.
        if accelerator.scaler is None and not backend.steps_in_backward:
            tap.note_gradients()
        return result

    return tapped_backward


def _tapped_clipping(accelerator: Accelerator, tap: LossTap) -> Any:
    clip_grad_norm_, backend = accelerator.clip_grad_norm_, _backend(tap)

    @functools.wraps(clip_grad_norm_)
    def tapped_clip_grad_norm_(parameters: Any, max_norm: float, *args: Any, **kwargs: Any) -> Any:
        parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        norm = clip_grad_norm_(parameters, max_norm, *args, **kwargs)
        if backend.steps_in_backward:
            return norm
        # Unsynchronized gradients are not stepped yet. With an infinite bound the caller only wants the norm: the
        # Trainer logs it.
        if norm is not None and accelerator.sync_gradients and not math.isinf(max_norm):
            whole = norm.full_tensor() if hasattr(norm, "full_tensor") else torch.as_tensor(norm)
            several = len(tap.optimizers) > 1
            holding = tap.optimizers_holding(parameters) if several else None
            tap.record_clipping(whole, float(max_norm), optimizers=holding)
        tap.note_gradients()
        return norm

    return tapped_clip_grad_norm_


def _refused_clipping(accelerator: Accelerator, tap: LossTap) -> Any:
    clip_grad_value_ = accelerator.clip_grad_value_

    @functools.wraps(clip_grad_value_)
    def refused_clip_grad_value_(*args: Any, **kwargs: Any) -> Any:
        if tap.optimizers:
            raise NotImplementedError(
                "clip_grad_value_: it clips every element by itself, so no factor tells MoMo how much smaller the"
                " gradient is than that of the loss, and its steps would become larger; use"
                " accelerator.clip_grad_norm_, which is accounted for"
            )
        return clip_grad_value_(*args, **kwargs)

    return refused_clip_grad_value_


def _releasing_free_memory(accelerator: Accelerator, tap: LossTap) -> Any:
    free_memory = accelerator.free_memory

    # accelerator.clear calls it too.
    @functools.wraps(free_memory)
    def releasing_free_memory(*objects: Any) -> Any:
        tap.release()
        return free_memory(*objects)

    return releasing_free_memory


def _refused_join(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError(
        "join_uneven_inputs: a rank that has run out of batches takes no steps, and the others would wait for its loss"
        " for ever; use even_batches=True (accelerate's default), which gives every rank the same number of batches"
    )


def _backend(tap: LossTap) -> Backend:
    assert tap.backend is not None
    return tap.backend


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


def _changed(before: list[tuple[MomoOptimizer, list[Any]]]) -> list[MomoOptimizer]:
    """Return the optimizers whose gradients differ from ``before``.

    Raises:
        RuntimeError: If none does: FSDP2 keeps the gradients of unsynchronized micro-batches elsewhere.
    """
    changed = [optimizer for optimizer, old in before if gradients.versions(optimizer) != old]
    if not changed:
        raise RuntimeError(
            f"loss: {len(before)} MoMo optimizers share this accelerator, and neither the graph of the loss nor the"
            " gradients tell whose parameters it was computed from. Name the optimizer, or a list of them:"
            " accelerator.backward(loss, optimizer=optimizer). If one is left from an earlier training, call"
            " accelerator.free_memory() before the next"
        )
    return changed


def _as_back_propagated(
    backend: Backend, loss: Tensor, scale_wrt_gas: bool = True, gradient: Tensor | None = None, **kwargs: Any
) -> Tensor:
    """Return the loss as scaled for the gradient; with torch's ``gradient``, the weighted sum of the losses."""
    value = loss.detach()
    if hasattr(value, "full_tensor"):
        value = value.full_tensor()  # a loss computed in parts, under tensor parallelism
    if value.dtype != torch.float64:
        value = value.float()
    total = value.mean() if gradient is None else (value * gradient.detach()).sum()
    return total / backend.loss_divisor(scale_wrt_gas=scale_wrt_gas)
