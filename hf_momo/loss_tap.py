"""From what is back-propagated to ``optimizer.step(loss=...)``.

The optimizer must see exactly the loss whose gradient it gets: the sum, over the window of accumulated micro-batches,
of what was really back-propagated. Training loops of Hugging Face call ``optimizer.step()`` bare, so the sum is kept
here and handed over by torch's public step pre-hook; the optimizer stays a plain torch optimizer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from hf_momo.optimizers import MomoOptimizer


class LossTap:
    """Sums the losses of one optimizer step, and what gradient clipping did to it.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = torch.optim.SGD  # any loop that calls a bare optimizer.step()
        >>> from hf_momo import Momo
        >>> optimizer, tap = Momo([weight]), LossTap()
        >>> _ = tap.attach(optimizer)
        >>> loss = weight.square().sum()
        >>> tap.record(loss.detach(), ends_window=True)
        >>> loss.backward()
        >>> _ = optimizer.step()
        >>> float(optimizer.last_step.loss_avg)
        2.0
    """

    def __init__(self) -> None:
        self._loss: Tensor | None = None
        self._sample_weight: Tensor | float = 1.0
        self._window_ended = False
        self._handles: dict[int, tuple[MomoOptimizer, RemovableHandle]] = {}

    def attach(self, optimizer: MomoOptimizer) -> RemovableHandle:
        """Hand the loss to ``optimizer`` at every bare ``step()``; attaching twice changes nothing.

        Returns:
            A handle whose ``remove()`` detaches.
        """
        known = self._handles.get(id(optimizer))
        if known is not None and known[0] is optimizer:
            return known[1]
        handle = optimizer.register_step_pre_hook(self._before_step)
        self._handles[id(optimizer)] = (optimizer, handle)
        return handle

    def detach(self) -> None:
        """Stop handing losses to the attached optimizers."""
        for _, handle in self._handles.values():
            handle.remove()
        self._handles.clear()

    def record(self, loss: Tensor, *, ends_window: bool, step_was_skipped: bool = False) -> None:
        """Add a micro-batch, before its backward pass.

        Args:
            loss: Detached, 0-d: the loss as scaled for the gradient.
            ends_window: Whether the optimizer may step after this micro-batch. The next one then begins a new window
                where the gradients are gone, even if that step never came (a gradient scaler that skipped it, a batch
                lost to an out-of-memory retry): the sum would otherwise hold two windows. Where gradients still stand
                (a loop that accumulates by hand, or has two losses) it adds to them, and so does its loss.
            step_was_skipped: Whether a gradient scaler skipped the last step. Gradients that were then zeroed in place
                are gone too.
        """
        if self._window_ended and self._gradients_are_gone(or_zero=step_was_skipped):
            self.open_window()
        self._loss = loss if self._loss is None else self._loss + loss
        self._window_ended = ends_window

    def record_clipping(self, norm: Tensor, max_norm: float) -> None:
        """Take note that gradients of total norm ``norm`` were scaled to at most ``max_norm``.

        The factor is that of ``torch.nn.utils.clip_grad_norm_``. Clipping twice in one window multiplies.
        """
        factor = (max_norm / (norm.detach() + 1e-6)).clamp(max=1.0)
        self._sample_weight = factor * self._sample_weight

    def open_window(self) -> None:
        """Forget what was recorded."""
        self._loss = None
        self._sample_weight = 1.0
        self._window_ended = False

    def _gradients_are_gone(self, *, or_zero: bool) -> bool:
        # Looking for zeros waits for the device, as the scaler that skipped a step did.
        optimizers = [optimizer for optimizer, _ in self._handles.values()]
        grads = (param.grad for each in optimizers for group in each.param_groups for param in group["params"])
        return all(grad is None or (or_zero and not grad.any()) for grad in grads)

    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        given = kwargs.get("loss") is not None or any(argument is not None for argument in args[1:])
        if given or kwargs.get("closure") is not None:
            self.open_window()
            return None
        if self._loss is None:
            return None
        kwargs = {**kwargs, "loss": self._loss, "sample_weight": self._sample_weight}
        self.open_window()
        return args, kwargs
