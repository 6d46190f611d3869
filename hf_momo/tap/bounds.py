"""Lower bounds of the loss that come with a batch, on their way to the optimizer."""

from __future__ import annotations

import torch
from torch import Tensor


class AnnouncedBound:
    """The bound of a loss that a training loop will scale before it calls ``accelerator.backward``."""

    def __init__(self) -> None:
        self._announced: tuple[Tensor, Tensor | float] | None = None

    def announce(self, lower_bound: Tensor | float, loss: Tensor) -> None:
        """Set a lower bound of ``loss``, from which the loss of the next ``accelerator.backward`` is computed."""
        self._announced = (loss, lower_bound)

    def take(self, loss: Tensor) -> Tensor | None:
        """Return the bound, scaled as its loss was on the way to ``loss``, and forget it; ``None`` if there is none.

        Args:
            loss: With its autograd graph, before ``backward``.

        Raises:
            RuntimeError: If ``loss`` was not computed from the loss that the bound was announced for.
        """
        if self._announced is None:
            return None
        (source, lower_bound), self._announced = self._announced, None
        # The derivative is the factor, exactly, whatever the training loop has divided the loss by.
        (factor,) = torch.autograd.grad(loss, source, torch.ones_like(loss), retain_graph=True, allow_unused=True)
        if factor is None:
            raise RuntimeError(
                "lower_bound: the loss that accelerator.backward got was not computed from the one that compute_loss"
                " returned with the bound; pass the bound of the loss itself:"
                " accelerator.backward(loss, lower_bound=bound)"
            )
        return (factor * as_tensor_like(lower_bound, factor)).sum()


def as_tensor_like(value: Tensor | float, like: Tensor) -> Tensor:
    """Return a number, or a tensor that broadcasts to ``like``, as a detached tensor of its dtype and device."""
    value = value.detach() if isinstance(value, Tensor) else torch.tensor(value)
    if value.dim() == 0 and value.device.type == "cpu":
        # Filled on the device: a copy from the host would wait for it.
        return torch.full_like(like.detach(), float(value))
    return value.to(like)
