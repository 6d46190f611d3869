"""The slope of the batches and the progress by themselves, against their definitions."""

import math
from itertools import pairwise

import pytest
import torch

from hf_momo.estimates import Progress, SlopeAverage


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def empty(cls):
    return cls(*(tensor(0.0) for _ in cls._fields))


def decreases(losses):
    """Return the decrease after every loss."""
    progress, found = empty(Progress), []
    for loss in losses:
        progress = progress.updated(tensor(float(loss)))
        found.append(float(progress.decrease))
    return found


def octave_means(losses):
    """Return the means over (k/4, k/2] and (k/2, k] as defined."""
    k = len(losses)
    windows = ([x for j, x in enumerate(losses, 1) if low < j <= high] for low, high in ((k / 4, k / 2), (k / 2, k)))
    return [sum(window) / len(window) for window in windows]


@pytest.mark.parametrize("k", [2, 4, 8, 64, 512])
def test_progress_is_exact_at_powers_of_two(k):
    losses = (torch.rand(k, generator=torch.Generator().manual_seed(k)) * 5).double().tolist()
    before, after = octave_means(losses)
    assert decreases(losses)[-1] == pytest.approx(before - after, rel=1e-12, abs=1e-12)


def test_progress_between_powers_of_two():
    """A loss that falls by one per octave: the definition gives 1 at every step, and octave means at least 0.8."""
    found = decreases([-math.log2(step) for step in range(1, 2049)])
    assert all(0.8 < value < 1.01 for value in found[63:])
    # Its error is largest in the middle of an octave, and no step is far from its neighbours.
    assert max(abs(a - b) for a, b in pairwise(found[63:])) < 0.03


def test_progress_of_the_first_steps_and_of_a_rising_loss():
    """One loss tells nothing; the decrease is negative where the loss rises."""
    assert decreases([3.0, 2.0, 2.5]) == pytest.approx([0.0, 1.0, 1 / 3 * 1.0 + 2 / 3 * -0.5])
    assert decreases([float(step) for step in range(1, 9)])[-1] == pytest.approx(-3.0)


def test_slope_of_equal_batches_follows_the_schedule():
    """With gradients that stay, the average is the slope of the present step, whatever the schedule and clipping were.

    A warm-up multiplies the learning rate by up to 2 per step: an average of the slopes themselves would lag behind.
    """
    average = empty(SlopeAverage)
    for lr, weight in ((0.0, 1.0), (0.01, 1.0), (0.02, 0.3), (1.0, 0.7), (0.0, 1.0), (0.5, 1.0)):
        average, slope = average.updated(tensor(3.0 * weight * lr), tensor(weight), tensor(lr))
        assert float(slope) == pytest.approx(3.0 * lr, rel=1e-12)
    # Steps at learning rate 0 have no slope and do not count.
    assert float(average.slope_weight_avg) == pytest.approx(0.1 * (0.729 + 0.3 * 0.81 + 0.7 * 0.9 + 1.0), rel=1e-12)


def test_slopes_are_averaged_with_bias_correction():
    average = empty(SlopeAverage)
    for k, sample in enumerate((5.0, 1.0, 4.0)):
        average, slope = average.updated(tensor(sample), tensor(1.0), tensor(1.0))
        weights = [0.9**age for age in reversed(range(k + 1))]
        expected = sum(w * x for w, x in zip(weights, (5.0, 1.0, 4.0), strict=False)) / sum(weights)
        assert float(slope) == pytest.approx(expected, rel=1e-12)
