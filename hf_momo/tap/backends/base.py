"""The questions that the tap asks a backend, with the answers of one process and DistributedDataParallel."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hf_momo.optimizers import MomoOptimizer


class Backend:
    """A backend that replicates the model; the other backends override what they do differently.

    Args:
        accelerator: The ``accelerate.Accelerator``.

    Attributes:
        needs_one_group: Whether the backend steps each parameter group separately, so that there may be only one.
        steps_in_backward: Whether ``accelerator.backward`` clips the gradients and steps the optimizer.
    """

    needs_one_group = False
    steps_in_backward = False

    def __init__(self, accelerator: Any) -> None:
        self.accelerator = accelerator

    @property
    def shards_plain_tensors(self) -> bool:
        """Whether plain tensors in a prepared optimizer are shards, each held by one rank."""
        return False

    def check_settings(self) -> None:
        """Refuse settings that would make the step wrong.

        Raises:
            NotImplementedError: Names the setting, the reason and what to use instead.
            ImportError: If the backend's library is older than the oldest supported release.
        """

    def adapt(self, optimizer: MomoOptimizer) -> None:
        """Set ``optimizer`` up for this backend, before or after ``accelerator.prepare``.

        Raises:
            ValueError: If its parameter groups do not suit the backend.
        """
        optimizer.sharded = self.shards_plain_tensors

    def check_prepared(self, optimizer: MomoOptimizer) -> None:
        """Refuse what shows only after ``accelerator.prepare``. Called before the first ``backward``.

        Raises:
            NotImplementedError: If the backend would split a step into several.
            ValueError: If the parameter groups do not suit the backend.
        """

    def loss_divisor(self, *, scale_wrt_gas: bool) -> int:
        """Return the number by which ``accelerator.backward`` divides the loss.

        Args:
            scale_wrt_gas: The argument of that name which DeepSpeed's ``backward`` takes.
        """
        steps: int = self.accelerator.gradient_accumulation_steps
        return steps

    def before_step(self, optimizer: MomoOptimizer) -> None:
        """Clear what the backend has left uninitialized in parameters or gradients."""

    def clipping_factor(self, optimizer: MomoOptimizer) -> Tensor | float:
        """Return the factor in (0, 1] by which the backend itself clipped the gradients of the coming step."""
        return 1.0
