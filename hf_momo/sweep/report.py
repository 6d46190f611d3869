"""The results of a sweep: scores by optimizer and learning rate, the best learning rate, and the width around it.

A learning rate of which any run has no score (diverged, crashed) is never the best one, nor within the width: the mean
of the seeds that survived is no result of that learning rate. A width is measured between points of the grid, so the
true one lies between it and the distance of the next points outside.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_momo.optimizers.bounds import read_pilot_bound
from hf_momo.sweep.grid import Run, Variant
from hf_momo.sweep.records import Outcome, Record
from hf_momo.sweep.settings import Sweep

# The width reaches down to this relative distance from the best score.
TOLERANCE = 0.01


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended, its outcome and its folder."""

    run: Run
    outcome: Outcome
    folder: Path


@dataclass(frozen=True)
class Point:
    """One learning rate of one optimizer: the scores by seed, and how many runs have none."""

    learning_rate: float
    scores: tuple[float, ...]
    diverged: int
    failed: int

    @property
    def runs(self) -> int:
        """Number of runs that have ended."""
        return len(self.scores) + self.diverged + self.failed

    @property
    def mean(self) -> float | None:
        """Mean of the scores."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the scores (divisor n - 1), from two on."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def is_sound(self) -> bool:
        """Whether every run has a score."""
        return bool(self.scores) and not self.diverged and not self.failed


@dataclass(frozen=True)
class Width:
    """The learning rates from ``low`` to ``high``, whose mean score is within ``TOLERANCE`` of the best.

    ``below`` and ``above`` are the next points of the grid outside, ``None`` where the grid ends.
    """

    low: float
    high: float
    below: float | None
    above: float | None

    @property
    def decades(self) -> float:
        """The width that was seen, log10 of high / low."""
        return math.log10(self.high / self.low)

    @property
    def at_most(self) -> float | None:
        """Upper bound of the width, the distance of the points outside; ``None`` if the grid ends before."""
        return None if self.below is None or self.above is None else math.log10(self.above / self.below)


@dataclass(frozen=True)
class OptimizerResult:
    """The points of one optimizer by ascending learning rate."""

    variant: Variant
    points: tuple[Point, ...]
    greater_is_better: bool

    @property
    def best(self) -> Point | None:
        """The learning rate with the best mean; of equal ones the lowest."""
        sound = [point for point in self.points if point.is_sound]
        sign = 1 if self.greater_is_better else -1
        return max(sound, key=lambda point: sign * (point.mean or 0.0), default=None)

    @property
    def width(self) -> Width | None:
        """The width around the best learning rate."""
        if self.best is None:
            return None
        low = high = self.points.index(self.best)
        while low > 0 and self._is_close(self.points[low - 1]):
            low -= 1
        while high < len(self.points) - 1 and self._is_close(self.points[high + 1]):
            high += 1
        rates = [None, *(point.learning_rate for point in self.points), None]
        return Width(self.points[low].learning_rate, self.points[high].learning_rate, rates[low], rates[high + 2])

    def _is_close(self, point: Point) -> bool:
        if self.best is None or self.best.mean is None or point.mean is None or not point.is_sound:
            return False
        loss = self.best.mean - point.mean if self.greater_is_better else point.mean - self.best.mean
        # A hair more than the tolerance for the rounding of the scores: 0.99 is within 1% of 1.
        return loss <= (TOLERANCE + 1e-9) * abs(self.best.mean)


@dataclass(frozen=True)
class Report:
    """The runs of a sweep that have ended, by optimizer, learning rate and seed; ``pending`` others have not."""

    sweep: Sweep
    runs: tuple[EndedRun, ...]
    pending: int

    @property
    def optimizers(self) -> list[OptimizerResult]:
        """The result of every optimizer."""
        by_variant: dict[Variant, dict[float, list[Outcome]]] = {}
        for ended in self.runs:
            by_variant.setdefault(ended.run.variant, {}).setdefault(ended.run.learning_rate, []).append(ended.outcome)
        return [
            OptimizerResult(variant, tuple(map(_point, by_rate, by_rate.values())), self.sweep.greater_is_better)
            for variant, by_rate in by_variant.items()
        ]

    def of(self, variant: Variant, learning_rate: float) -> list[EndedRun]:
        """Return the runs of one learning rate of one optimizer, by seed."""
        return [
            ended for ended in self.runs if ended.run.variant == variant and ended.run.learning_rate == learning_rate
        ]


def make_report(sweep: Sweep, ended: Sequence[tuple[Run, Record]], folder: Path) -> Report:
    """Return the report on the runs that have ended, judged by the sweep's metric."""
    order = list(sweep.grid.variants)
    order += sorted({run.variant for run, _ in ended} - set(order), key=lambda variant: variant.name)
    runs = [EndedRun(run, record.judge(sweep.metric), folder / run.folder) for run, record in ended]
    runs.sort(key=lambda ended: (order.index(ended.run.variant), ended.run.learning_rate, ended.run.seed))
    folders = {run.folder for run, _ in ended}
    return Report(sweep, tuple(runs), sum(run.folder not in folders for run in sweep.grid.runs))


def suggest_bound(report: Report) -> str | None:
    """Return the bound that later runs may take from the best run; ``None`` if that run logged no training loss."""
    sign = 1 if report.sweep.greater_is_better else -1
    bests = [
        ended
        for result in report.optimizers
        if result.best is not None
        for ended in report.of(result.variant, result.best.learning_rate)
    ]
    best = max(bests, key=lambda ended: sign * (ended.outcome.score or 0.0), default=None)
    if best is None:
        return None
    try:
        bound = read_pilot_bound(f"from={best.folder}")
    except ValueError:
        return None
    return f"lower_bound for later runs: {bound.value:g}, {bound}\n  --optim_args lower_bound=from={best.folder}"


def _point(rate: float, outcomes: Sequence[Outcome]) -> Point:
    scores = tuple(outcome.score for outcome in outcomes if outcome.score is not None)
    diverged = sum(outcome.status == "diverged" for outcome in outcomes)
    return Point(rate, scores, diverged, len(outcomes) - len(scores) - diverged)
