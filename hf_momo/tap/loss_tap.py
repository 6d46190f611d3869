"""The bookkeeping between ``backward`` and ``step``: windows, losses and clipping factors.

The optimizer must see exactly the loss whose gradient it gets: the sum, over the window of accumulated micro-batches,
of what was back-propagated. Hugging Face's training loops call ``optimizer.step()`` without arguments, so the sum is
kept here and handed over by a step pre-hook, which is public in torch. The optimizer stays a plain torch optimizer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from hf_momo.optimizers import MomoOptimizer
from hf_momo.tap import gradients
from hf_momo.tap.backends import Backend
from hf_momo.tap.bounds import AnnouncedBound

logger = logging.getLogger(__name__)

_HANDLES: WeakKeyDictionary[MomoOptimizer, RemovableHandle] = WeakKeyDictionary()
"""The hook of every attached optimizer. It has one tap, the last it was attached to: another would miss its losses."""


@dataclass
class _Window:
    """Records for one attached optimizer since its last step."""

    handle: RemovableHandle
    loss: Tensor | None = None
    lower_bound: Tensor | None = None
    sample_weight: Tensor | float = 1.0
    ended: bool = False
    released: bool = False
    gradient: Any = None
    warned: bool = False

    def open(self) -> None:
        self.loss, self.lower_bound, self.sample_weight, self.ended, self.gradient = None, None, 1.0, False, None

    def add(self, loss: Tensor, lower_bound: Tensor | None) -> None:
        if self.loss is not None and (lower_bound is None) != (self.lower_bound is None):
            raise ValueError(
                "lower_bound: given for some micro-batches of one optimizer step and not for others; give it for all"
                " of them, or for none, which then have the bound of the optimizer"
            )
        if lower_bound is not None:
            self.lower_bound = lower_bound if self.lower_bound is None else self.lower_bound + lower_bound
        self.loss = loss if self.loss is None else self.loss + loss

    @property
    def active(self) -> bool:
        hooks = self.handle.hooks_dict_ref()
        return not self.released and hooks is not None and self.handle.id in hooks


class LossTap:
    """Sums the losses of each optimizer step and the factors by which gradient clipping scaled its gradients.

    With several optimizers attached, each has its own window, and a loss counts for those whose parameters it reaches.
    Optimizers are held weakly: an attached optimizer lives no longer than it would without the tap.

    Args:
        backend: The backend of the accelerator, if there is one.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> from hf_momo import Momo
        >>> optimizer, tap = Momo([weight]), LossTap()
        >>> _ = tap.attach(optimizer)
        >>> loss = weight.square().sum()
        >>> tap.record(loss.detach(), ends_window=True)
        >>> loss.backward()
        >>> _ = optimizer.step()  # as a loop calls it that knows nothing of MoMo
        >>> float(optimizer.last_step.loss_avg)
        2.0
    """

    def __init__(self, backend: Backend | None = None) -> None:
        self.backend = backend
        self.announced_bound = AnnouncedBound()
        self._windows: WeakKeyDictionary[MomoOptimizer, _Window] = WeakKeyDictionary()

    def attach(self, optimizer: MomoOptimizer) -> RemovableHandle:
        """Hand the recorded loss to ``optimizer`` at every ``step()`` without a loss; attaching twice changes nothing.

        Returns:
            A handle whose ``remove()`` detaches the optimizer.
        """
        known = self._windows.get(optimizer)
        if known is not None:
            known.released = False
            if known.active:
                return known.handle
        if optimizer in _HANDLES:
            _HANDLES[optimizer].remove()
        handle = _HANDLES[optimizer] = optimizer.register_step_pre_hook(self._before_step)
        self._windows[optimizer] = _Window(handle)
        return handle

    def detach(self) -> None:
        """Detach all optimizers."""
        for window in self._windows.values():
            window.handle.remove()
        self._windows.clear()

    def release(self) -> None:
        """Let go of all optimizers, as ``accelerator.free_memory`` does, until each is attached or prepared again."""
        for window in self._windows.values():
            window.open()
            window.released = True

    def resume(self, prepared: Iterable[Any]) -> None:
        """Attach again those of the released optimizers that are in ``prepared``."""
        if any(window.released for window in self._windows.values()):
            for optimizer in prepared:
                if optimizer in self._windows:
                    self._windows[optimizer].released = False

    @property
    def optimizers(self) -> list[MomoOptimizer]:
        """The attached optimizers."""
        return [optimizer for optimizer, window in self._windows.items() if window.active]

    def reached_by(self, loss: Tensor) -> list[MomoOptimizer]:
        """Return the attached optimizers whose parameters ``loss`` was computed from; a single one always.

        The list is empty where the graph ends at other tensors than the optimizers' parameters, as with FSDP2 and
        reentrant checkpointing.

        Args:
            loss: With its autograd graph, before ``backward``.
        """
        if len(self.optimizers) < 2:
            return self.optimizers
        leaves = gradients.leaves(loss)
        return [each for each in self.optimizers if any(id(param) in leaves for param in gradients.params_of(each))]

    def record(
        self,
        loss: Tensor,
        *,
        ends_window: bool,
        step_was_skipped: bool = False,
        optimizers: Iterable[MomoOptimizer] | None = None,
        lower_bound: Tensor | None = None,
    ) -> None:
        """Add a micro-batch, before its backward pass.

        Args:
            loss: Detached, 0-d: the loss as scaled for the gradient.
            ends_window: Whether the optimizer may step after this micro-batch.
            step_was_skipped: See ``open_abandoned``.
            optimizers: The attached optimizers whose gradients this loss adds to; all of them by default.
            lower_bound: 0-d, a lower bound of the loss of this micro-batch, scaled as ``loss`` is. ``None`` is the
                bound of the optimizer.

        Raises:
            ValueError: If a bound was given for some micro-batches of the window only.
        """
        chosen = self._chosen(optimizers)
        self.open_abandoned(chosen, step_was_skipped=step_was_skipped)
        for optimizer in chosen:
            window = self._windows[optimizer]
            window.add(loss, lower_bound)
            window.ended = ends_window

    def open_abandoned(self, optimizers: Iterable[MomoOptimizer], *, step_was_skipped: bool) -> None:
        """Open a new window for those optimizers whose last window ended without a step, before a backward pass.

        A gradient scaler skips steps, and an out-of-memory retry loses them. The sum would then hold two windows. If
        the gradients still stand (a loop that accumulates by hand, or has two losses), the window goes on.

        Args:
            optimizers: Attached optimizers.
            step_was_skipped: Whether a gradient scaler skipped the last step. Gradients that were then zeroed in
                place count as gone.
        """
        # With two optimizers, a loss may reach parameters whose gradients are then zeroed without a step (the
        # discriminator of a GAN), also in place.
        or_zero = step_was_skipped or len(self.optimizers) > 1
        for optimizer in optimizers:
            window = self._windows[optimizer]
            if window.ended and gradients.are_gone(optimizer, or_zero=or_zero):
                window.open()

    def record_clipping(
        self, norm: Tensor, max_norm: float, *, optimizers: Iterable[MomoOptimizer] | None = None
    ) -> None:
        """Record that gradients of total norm ``norm`` were scaled to at most ``max_norm``.

        The factor is that of ``torch.nn.utils.clip_grad_norm_``. Clipping twice in one window multiplies.

        Args:
            norm: 0-d, before clipping.
            max_norm: The maximum norm.
            optimizers: The attached optimizers whose gradients were clipped; all of them by default.
        """
        factor = (max_norm / (norm.detach() + 1e-6)).clamp(max=1.0)
        for optimizer in self._chosen(optimizers):
            window = self._windows[optimizer]
            window.sample_weight = factor * window.sample_weight
        self.note_gradients()

    def note_gradients(self) -> None:
        """Remember the gradients as they are now, to warn at the next step if something unknown has changed them.

        Only the version counter of one gradient per optimizer is read: no tensor is touched, no device waited for.
        """
        for optimizer in self.optimizers:
            self._windows[optimizer].gradient = gradients.first_version(optimizer)

    def optimizers_holding(self, params: Iterable[Tensor]) -> list[MomoOptimizer]:
        """Return the attached optimizers that hold any of ``params``."""
        given = {id(param) for param in params}
        return [each for each in self.optimizers if any(id(param) in given for param in gradients.params_of(each))]

    def open_window(self) -> None:
        """Forget what was recorded, for all attached optimizers."""
        for window in self._windows.values():
            window.open()

    def _chosen(self, optimizers: Iterable[MomoOptimizer] | None) -> list[MomoOptimizer]:
        if optimizers is None:
            return self.optimizers
        ids = {id(optimizer) for optimizer in optimizers}
        return [each for each in self.optimizers if id(each) in ids]

    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        assert isinstance(optimizer, MomoOptimizer)
        window = self._windows[optimizer]
        if self.backend is not None:
            self.backend.before_step(optimizer)
        given = kwargs.get("loss") is not None or any(argument is not None for argument in args[1:])
        if given or kwargs.get("closure") is not None:
            window.open()
            return None
        if window.loss is None:
            self._check_makes_state(optimizer, window)
            return None
        self._warn_of_changed_gradients(optimizer, window)
        factor = 1.0 if self.backend is None else self.backend.clipping_factor(optimizer)
        kwargs = {**kwargs, "loss": window.loss, "sample_weight": factor * window.sample_weight}
        if window.lower_bound is not None:
            kwargs["lower_bound"] = window.lower_bound
        window.open()
        return args, kwargs

    def _check_makes_state(self, optimizer: MomoOptimizer, window: _Window) -> None:
        """Refuse a step without a loss, unless every lr is 0: so torch's distributed checkpoint has state made."""
        if all(float(group["lr"]) == 0.0 for group in optimizer.param_groups):
            return
        if window.released:
            remedy = (
                "accelerator.free_memory() has let go of this optimizer. Pass it to accelerator.prepare() again, or"
                " call hf_momo.connect(accelerator, optimizer)"
            )
        elif self.backend is None:
            remedy = "call tap.record(loss.detach(), ends_window=True) before loss.backward()"
        else:
            remedy = (
                "call accelerator.backward(loss) instead of loss.backward(), in a Trainer's training_step"
                " self.accelerator.backward(loss), and then step() once"
            )
        raise ValueError(
            "loss: got none, because none was recorded for this optimizer since its last step, and MoMo's step size is"
            f" worked out from the value of the loss; {remedy}"
        )

    def _warn_of_changed_gradients(self, optimizer: MomoOptimizer, window: _Window) -> None:
        if window.gradient is None or window.warned:
            return
        now = gradients.first_version(optimizer)
        if now is None or now[0] != window.gradient[0] or now == window.gradient:
            return
        window.warned = True
        logger.warning(
            "gradients were changed between accelerator.backward and step() by something other than"
            " accelerator.clip_grad_norm_, so they no longer belong to the loss that %s is given; where they were made"
            " smaller, its steps become larger. Clip with accelerator.clip_grad_norm_, and scale the loss instead of"
            " the gradients",
            type(optimizer).__name__,
        )
