"""What a step did, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LastStep:
    """What the last committed step did. Reading it waits for the device.

    Attributes:
        step_size: Step size of each parameter group as applied: bias-corrected, and equal to ``lr`` at the cap.
        capped: Whether the cap ``lr`` was binding, so that the step was that of SGD or Adam.
        loss_avg: Running average of the loss (not bias-corrected).
        lower_bound: Lower bound of the loss after the step.
        num_steps: Steps committed so far.
        capped_steps: How many of them were capped.
        skipped_steps: Steps not taken because the loss or a gradient was not finite.
        zero_steps: How many of ``num_steps`` had step size 0, because the averaged loss was below the lower bound.
    """

    step_size: tuple[float, ...]
    capped: bool
    loss_avg: float
    lower_bound: float
    num_steps: int
    capped_steps: int
    skipped_steps: int
    zero_steps: int = 0
