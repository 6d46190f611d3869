"""Small records: the tensors of a group in one step, and what a step did."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hf_momo import sharding


@dataclass(frozen=True)
class LastStep:
    """What the last committed step did. Reading it waits for the device.

    Attributes:
        step_size: Step size of each parameter group, in units of ``lr``.
        capped: Whether the cap ``lr`` was binding, so that the step was that of SGD or Adam.
        loss_avg: Running average of the loss (not bias-corrected).
        lower_bound: Lower bound of the loss after the step.
        num_steps: Steps committed so far.
        capped_steps: How many of them were capped.
        skipped_steps: Steps not taken because the loss or a gradient was not finite.
    """

    step_size: tuple[float, ...]
    capped: bool
    loss_avg: float
    lower_bound: float
    num_steps: int
    capped_steps: int
    skipped_steps: int


@dataclass(frozen=True)
class GroupTensors:
    """Local tensors of one parameter group in one step: those that have state, in the order of the group.

    ``grads`` holds a zero (expanded, no memory) where this batch gave no gradient: the loss did not depend on it.
    """

    params: list[Tensor]
    grads: list[Tensor]
    states: list[dict[str, Tensor]]

    def state(self, name: str) -> list[Tensor]:
        """The state tensors called ``name``, one a parameter."""
        return [sharding.local_tensor(state[name]) for state in self.states]

    def without_empty(self) -> GroupTensors:
        """The same without tensors of no elements, which have nothing to add to a sum."""
        rows = [row for row in zip(self.params, self.grads, self.states, strict=True) if row[0].numel() > 0]
        return (
            GroupTensors(*(list(column) for column in zip(*rows, strict=True))) if rows else GroupTensors([], [], [])
        )
