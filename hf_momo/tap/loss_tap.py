"""From what is back-propagated to ``optimizer.step(loss=...)``.

The optimizer must see exactly the loss whose gradient it gets: the sum, over the window of accumulated micro-batches,
of what was really back-propagated. Training loops of Hugging Face call ``optimizer.step()`` bare, so the sum is kept
here and handed over by torch's public step pre-hook; the optimizer stays a plain torch optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from hf_momo.optimizers import MomoOptimizer


@dataclass
class _Window:
    """What an attached optimizer was handed since its last step."""

    optimizer: MomoOptimizer
    handle: RemovableHandle
    loss: Tensor | None = None
    sample_weight: Tensor | float = 1.0
    ended: bool = False

    def open(self) -> None:
        self.loss, self.sample_weight, self.ended = None, 1.0, False

    def params(self) -> Iterable[Tensor]:
        # Looked up anew each time: accelerate swaps the parameters of an optimizer (FSDP2).
        return (param for group in self.optimizer.param_groups for param in group["params"])

    def gradients_are_gone(self, *, or_zero: bool) -> bool:
        # Looking for zeros waits for the device, as the scaler that skipped a step did.
        return all(param.grad is None or (or_zero and not param.grad.any()) for param in self.params())


class LossTap:
    """Sums the losses of one optimizer step, and what gradient clipping did to it.

    With several optimizers attached, each has a window of its own: a loss counts for those whose parameters it
    reaches.

    Attributes:
        before_step: Where a backend leaves tensors to be set right (DeepSpeed): called with an optimizer first.
        clipping: Where a backend clips inside of its own step (DeepSpeed): gives the factor for an optimizer.

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
        self._windows: dict[int, _Window] = {}
        self.before_step: Callable[[MomoOptimizer], None] | None = None
        self.clipping: Callable[[MomoOptimizer], Tensor | float] | None = None

    def attach(self, optimizer: MomoOptimizer) -> RemovableHandle:
        """Hand the loss to ``optimizer`` at every bare ``step()``; attaching twice changes nothing.

        Returns:
            A handle whose ``remove()`` detaches.
        """
        known = self._windows.get(id(optimizer))
        if known is not None and known.optimizer is optimizer:
            return known.handle
        handle = optimizer.register_step_pre_hook(self._before_step)
        self._windows[id(optimizer)] = _Window(optimizer, handle)
        return handle

    def detach(self) -> None:
        """Stop handing losses to the attached optimizers."""
        for window in self._windows.values():
            window.handle.remove()
        self._windows.clear()

    @property
    def optimizers(self) -> list[MomoOptimizer]:
        """The attached optimizers."""
        return [window.optimizer for window in self._windows.values()]

    def reached_by(self, loss: Tensor) -> list[MomoOptimizer]:
        """The attached optimizers whose parameters ``loss`` was computed from; the only one, where there is one.

        Args:
            loss: With its autograd graph, before ``backward``.

        Raises:
            RuntimeError: If that cannot be told: the graph ends at other tensors than the optimizers' parameters, as
                with FSDP2, DeepSpeed and reentrant checkpointing.
        """
        if len(self._windows) < 2:
            return self.optimizers
        leaves = _leaves(loss)
        reached = [each.optimizer for each in self._windows.values() if any(id(p) in leaves for p in each.params())]
        if not reached:
            raise RuntimeError(
                f"loss: {len(self._windows)} MoMo optimizers share this accelerator, and the graph of the loss does"
                " not show whose parameters it was computed from. Name the optimizer, or a list of them:"
                " accelerator.backward(loss, optimizer=optimizer)"
            )
        return reached

    def record(
        self,
        loss: Tensor,
        *,
        ends_window: bool,
        step_was_skipped: bool = False,
        optimizers: Iterable[MomoOptimizer] | None = None,
    ) -> None:
        """Add a micro-batch, before its backward pass.

        Args:
            loss: Detached, 0-d: the loss as scaled for the gradient.
            ends_window: Whether the optimizer may step after this micro-batch. The next one then begins a new window
                where the gradients are gone, even if that step never came (a gradient scaler that skipped it, a batch
                lost to an out-of-memory retry): the sum would otherwise hold two windows. Where gradients still stand
                (a loop that accumulates by hand, or has two losses) it adds to them, and so does its loss.
            step_was_skipped: Whether a gradient scaler skipped the last step. Gradients that were then zeroed in place
                are gone too.
            optimizers: Those of the attached ones whose gradients this loss adds to. All of them, if left out.
        """
        # With two optimizers a loss may reach parameters whose gradients are then zeroed without a step (a GAN's
        # discriminator), in place too.
        or_zero = step_was_skipped or len(self._windows) > 1
        for window in self._chosen(optimizers):
            if window.ended and window.gradients_are_gone(or_zero=or_zero):
                window.open()
            window.loss = loss if window.loss is None else window.loss + loss
            window.ended = ends_window

    def record_clipping(
        self, norm: Tensor, max_norm: float, *, optimizers: Iterable[MomoOptimizer] | None = None
    ) -> None:
        """Take note that gradients of total norm ``norm`` were scaled to at most ``max_norm``.

        The factor is that of ``torch.nn.utils.clip_grad_norm_``. Clipping twice in one window multiplies.

        Args:
            norm: 0-d, before clipping.
            max_norm: The bound.
            optimizers: Those of the attached ones whose gradients were clipped. All of them, if left out.
        """
        factor = (max_norm / (norm.detach() + 1e-6)).clamp(max=1.0)
        for window in self._chosen(optimizers):
            window.sample_weight = factor * window.sample_weight

    def having(self, params: Iterable[Tensor]) -> list[MomoOptimizer]:
        """The attached optimizers that hold any of ``params``."""
        given = {id(param) for param in params}
        return [each.optimizer for each in self._windows.values() if any(id(p) in given for p in each.params())]

    def open_window(self) -> None:
        """Forget what was recorded, for all attached optimizers."""
        for window in self._windows.values():
            window.open()

    def _chosen(self, optimizers: Iterable[MomoOptimizer] | None) -> list[_Window]:
        if optimizers is None:
            return list(self._windows.values())
        chosen = {id(optimizer) for optimizer in optimizers}
        return [window for key, window in self._windows.items() if key in chosen]

    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        window = self._windows[id(optimizer)]
        if self.before_step is not None:
            self.before_step(window.optimizer)
        given = kwargs.get("loss") is not None or any(argument is not None for argument in args[1:])
        if given or kwargs.get("closure") is not None:
            window.open()
            return None
        if window.loss is None:
            return None
        factor = self.clipping(window.optimizer) if self.clipping is not None else 1.0
        kwargs = {**kwargs, "loss": window.loss, "sample_weight": factor * window.sample_weight}
        window.open()
        return args, kwargs


def _leaves(loss: Tensor) -> set[int]:
    """Ids of the tensors that ``loss.backward()`` would accumulate gradients in."""
    found, seen, stack = set(), set(), [loss.grad_fn]
    while stack:
        node: Any = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        stack += [parent for parent, _ in node.next_functions]
    return found
