"""Small records: the tensors of a group in one step, and what a step did."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress

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
    ``replicas`` says how many ranks hold the same piece of a parameter.
    """

    params: list[Tensor]
    grads: list[Tensor]
    states: list[dict[str, Tensor]]
    replicas: list[int]

    def state(self, name: str) -> list[Tensor]:
        """The state tensors called ``name``, one a parameter."""
        return [sharding.local_tensor(state[name]) for state in self.states]

    def without_empty(self) -> GroupTensors:
        """The same without tensors of no elements, which have nothing to add to a sum."""
        filled = [param.numel() > 0 for param in self.params]
        return self if all(filled) else self._where(filled)

    def by_replicas(self) -> dict[int, GroupTensors]:
        """The same, split by the number of replicas; at least one part, which may be empty."""
        counts = dict.fromkeys(self.replicas) or {1: None}
        if len(counts) == 1:
            return dict.fromkeys(counts, self)
        return {count: self._where([replicas == count for replicas in self.replicas]) for count in counts}

    def _where(self, chosen: list[bool]) -> GroupTensors:
        return GroupTensors(
            list(compress(self.params, chosen)),
            list(compress(self.grads, chosen)),
            list(compress(self.states, chosen)),
            list(compress(self.replicas, chosen)),
        )
