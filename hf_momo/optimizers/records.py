"""The results of a step, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LastStep:
    """Results of the last committed step. Reading it waits for the device.

    Attributes:
        step_size: Step size applied in each parameter group, bias-corrected, in units of ``lr``: ``lr`` itself while
            the cap is binding.
        capped: Whether the cap ``lr`` was binding, so that the step was that of the base method.
        loss_avg: Running average of the loss (not bias-corrected).
        lower_bound: Lower bound of the loss after the step: the average, where bounds came with the batches.
        num_steps: Steps committed so far.
        capped_steps: Number of these steps that were capped.
        skipped_steps: Number of steps not taken because the loss or a gradient was not finite.
        zero_steps: Number of committed steps of size 0, because the model of the loss was at or below the bound, or
            because the update led uphill.
        uphill_steps: Number of these steps whose update would have raised the model of the loss; only the updates of
            an optimizer in ``MomoWrapper`` can.
        gap: How far the loss was to fall at most in this step, in units of the loss: the distance of the model of the
            loss to the bound, or the progress. ``None`` without ``slope="batch"`` and ``gap="progress"``.
        slope: Decrease of the loss in a step at the cap, by the slope in use. ``None`` where ``gap`` is. Below the cap
            ``step_size`` is ``gap / (caution * slope)`` times ``lr``.
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
    gap: float | None = None
    slope: float | None = None

    @classmethod
    def of(cls, groups: Sequence[Mapping[str, Any]]) -> LastStep:
        """Return the results that stand in parameter groups."""
        first = groups[0]
        excess = float(first["bound_excess_avg"]) / (float(first["weight_avg"]) or 1.0)
        gap, slope = (float(first[name]) if name in first else None for name in ("last_gap", "last_slope"))
        return cls(
            step_size=tuple(float(each["step_size"]) for each in groups),
            capped=float(first["step_scale"]) >= 1.0,
            loss_avg=float(first["loss_avg"]),
            lower_bound=float(first["lower_bound"]) + excess,
            num_steps=int(first["num_steps"]),
            capped_steps=int(first["capped_steps"]),
            skipped_steps=int(first["skipped_steps"]),
            zero_steps=int(first["zero_steps"]),
            uphill_steps=int(first.get("uphill_steps", 0)),
            gap=gap,
            slope=slope,
        )
