"""The results of a step, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LastStep:
    """Results of the last committed step. Reading it waits for the device.

    Attributes:
        step_size: Step size applied in each parameter group, bias-corrected, in units of ``lr``: ``lr`` itself while
            the cap is binding.
        capped: Whether the cap ``lr`` was binding, so that the step was that of the base method.
        loss_avg: Running average of the loss (not bias-corrected).
        lower_bound: Lower bound of the loss after the step.
        num_steps: Steps committed so far.
        capped_steps: Number of these steps that were capped.
        skipped_steps: Number of steps not taken because the loss or a gradient was not finite.
        zero_steps: Number of committed steps of size 0, because the model of the loss was at or below the bound, or
            because the update led uphill.
        uphill_steps: Number of these steps whose update would have raised the model of the loss; only the updates of
            an optimizer in ``MomoWrapper`` can.
    """

    step_size: tuple[float, ...]
    capped: bool
    loss_avg: float
    lower_bound: float
    num_steps: int
    capped_steps: int
    skipped_steps: int
    zero_steps: int
    uphill_steps: int = 0
