"""Two estimates that can replace the slope and the gap of the loss model in the step size.

MoMo divides the gap between the loss model and the lower bound by the slope of the model. Averaging hides the noise of
large steps from the averaged gradient, so that slope can promise far more than a step keeps; and the bound may not be
known. ``SlopeAverage`` measures the slope on the gradient of each batch, and ``Progress`` takes the recent decrease of
the loss as the gap. Neither is in the paper. Both have a state of constant size, made of 0-d tensors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SLOPE_BETA = 0.9
"""Weight of the past in the average of the slope."""
MIN_PROGRESS = 0.01
"""Smallest gap from progress, as a share of the averaged loss."""


class SlopeAverage(NamedTuple):
    """Running average of the slopes of the batches, each divided by the largest learning rate of its step.

    The learning rate of the present step is multiplied back, so that a schedule does not lag behind by ten steps.
    """

    slope_avg: Tensor
    """Average of the slopes, each measured on the gradient as it was scaled by its sample weight."""
    slope_weight_avg: Tensor
    """Average of the sample weights: ``1 - SLOPE_BETA ** n`` after ``n`` steps while every weight is 1."""

    def updated(self, slope: Tensor, sample_weight: Tensor, lr: Tensor) -> tuple[SlopeAverage, Tensor]:
        """Return the average after a step, and its value at the learning rates of this step, per unit of weight.

        Args:
            slope: 0-d, the slope of this batch at the learning rates of this step.
            sample_weight: 0-d, factor by which the gradient of this batch was scaled.
            lr: 0-d, the largest learning rate of this step. Where it is 0 there is no slope, and the average is kept.
        """
        samples = (slope / lr, sample_weight)
        averages = (SLOPE_BETA * old + (1.0 - SLOPE_BETA) * new for old, new in zip(self, samples, strict=True))
        new = SlopeAverage(*(torch.where(lr > 0, mean, old) for mean, old in zip(averages, self, strict=True)))
        return new, torch.where(lr > 0, new.slope_avg / new.slope_weight_avg * lr, 0.0)


class Progress(NamedTuple):
    """Decrease of the loss over the last octave: its mean over steps (k/4, k/2] minus that over (k/2, k].

    Exact where ``k`` is a power of two. Between two of them, with ``P`` the last one, each octave stands for its mean:
    the result is the mean of the decreases from (P/4, P/2] to (P/2, P] and from there to (P, k], with the weights
    ``(2P - k) / k`` and ``2 (k - P) / k``. Losses count alike, whatever their sample weights.
    """

    loss_count: Tensor
    """Number of losses seen, ``k``."""
    octave_start: Tensor
    """The last power of two that ``k`` reached, ``P``."""
    octave_before: Tensor
    """Mean loss of steps (P/4, P/2]; before the second step the first loss."""
    octave_last: Tensor
    """Mean loss of steps (P/2, P]."""
    octave_mean: Tensor
    """Mean loss of steps (P, k]."""

    def updated(self, loss: Tensor) -> Progress:
        """Return the means after one more loss."""
        count = self.loss_count + 1
        mean = self.octave_mean + (loss - self.octave_mean) / (count - self.octave_start)
        ends = count >= 2 * self.octave_start
        before = torch.where(self.loss_count == 0, loss, self.octave_last)
        return Progress(
            count,
            torch.where(ends, count, self.octave_start),
            torch.where(ends, before, self.octave_before),
            torch.where(ends, mean, self.octave_last),
            torch.where(ends, 0.0, mean),
        )

    @property
    def decrease(self) -> Tensor:
        """0-d, decrease of the mean loss over the last octave; negative where the loss rises."""
        count, start, before, last, mean = self
        return ((2 * start - count) * (before - last) + 2 * (count - start) * (last - mean)) / count
