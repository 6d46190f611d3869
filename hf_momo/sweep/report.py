"""What a sweep came to: scores by optimizer and learning rate, the best learning rate, and how wide its plateau is.

Two rules keep it honest. A learning rate of which any run has no score (diverged, crashed) cannot be the best one, nor
lie within the width: the mean of the seeds that survived is no result of that learning rate. And a width is measured
between points of the grid, so the true one lies between it and the distance of the next points outside.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_momo.sweep.files import read_json
from hf_momo.sweep.grid import Run, Variant
from hf_momo.sweep.records import RECORD_FILE, Outcome, read_record, run_folders
from hf_momo.sweep.settings import Sweep

# How far from the best score, relative to it, the width reaches.
TOLERANCE = 0.01


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended.

    Attributes:
        run: The point in the grid.
        outcome: What it came to.
        folder: Where it lies.
    """

    run: Run
    outcome: Outcome
    folder: Path


@dataclass(frozen=True)
class Point:
    """One learning rate of one optimizer.

    Attributes:
        learning_rate: Above 0.
        scores: Of the runs that are done, by seed.
        diverged: Number of runs that diverged.
        failed: Number of runs that crashed or left no metric.
    """

    learning_rate: float
    scores: tuple[float, ...]
    diverged: int
    failed: int

    @property
    def runs(self) -> int:
        """All that have ended."""
        return len(self.scores) + self.diverged + self.failed

    @property
    def mean(self) -> float | None:
        """Of the scores."""
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
    """The learning rates round the best one whose mean score is within ``TOLERANCE`` of its.

    Attributes:
        low: The lowest of them.
        high: The highest.
        below: The next point of the grid below ``low``, ``None`` at the end of the grid.
        above: The next one above ``high``.
    """

    low: float
    high: float
    below: float | None
    above: float | None

    @property
    def decades(self) -> float:
        """The width that was seen: log10 of high / low."""
        return math.log10(self.high / self.low)

    @property
    def at_most(self) -> float | None:
        """What it is below of for certain: the distance of the points outside, ``None`` if the grid ends before."""
        return None if self.below is None or self.above is None else math.log10(self.above / self.below)


@dataclass(frozen=True)
class Line:
    """All of one optimizer.

    Attributes:
        variant: The optimizer and what else was swept.
        points: By ascending learning rate.
        greater_is_better: Of the metric.
    """

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
        """Of the neighbourhood of the best learning rate."""
        if self.best is None:
            return None
        low = high = self.points.index(self.best)
        while low > 0 and self._is_close(self.points[low - 1]):
            low -= 1
        while high < len(self.points) - 1 and self._is_close(self.points[high + 1]):
            high += 1
        rates = [point.learning_rate for point in self.points]
        below = rates[low - 1] if low > 0 else None
        return Width(rates[low], rates[high], below, rates[high + 1] if high < len(rates) - 1 else None)

    def _is_close(self, point: Point) -> bool:
        if self.best is None or self.best.mean is None or point.mean is None or not point.is_sound:
            return False
        loss = self.best.mean - point.mean if self.greater_is_better else point.mean - self.best.mean
        # A hair more than the tolerance for the rounding of the scores: 0.99 is within 1% of 1.
        return loss <= (TOLERANCE + 1e-9) * abs(self.best.mean)


@dataclass(frozen=True)
class Report:
    """A sweep that has ended, or as far as it got.

    Attributes:
        sweep: Its settings, with the metric that was asked for.
        runs: Those that have ended, by optimizer, learning rate and seed.
        pending: Number of runs of the grid that have not.
    """

    sweep: Sweep
    runs: tuple[EndedRun, ...]
    pending: int

    @property
    def lines(self) -> list[Line]:
        """One for each optimizer."""
        by_variant: dict[Variant, dict[float, list[Outcome]]] = {}
        for ended in self.runs:
            by_variant.setdefault(ended.run.variant, {}).setdefault(ended.run.learning_rate, []).append(ended.outcome)
        return [
            Line(variant, tuple(_point(rate, outcomes) for rate, outcomes in by_rate.items()), self._greater)
            for variant, by_rate in by_variant.items()
        ]

    @property
    def _greater(self) -> bool:
        return self.sweep.greater_is_better

    def of(self, variant: Variant, learning_rate: float) -> list[EndedRun]:
        """The runs of one learning rate of one optimizer, by seed."""
        return [
            ended for ended in self.runs if ended.run.variant == variant and ended.run.learning_rate == learning_rate
        ]


def read_report(sweep: Sweep, folder: Path) -> Report:
    """Read every run in the folder of a sweep that has ended, those of earlier grids too.

    Args:
        sweep: Its settings; its metric decides what the runs came to.
        folder: The folder.

    Raises:
        UsageError: If a record cannot be read.
    """
    ended = []
    for run_folder in run_folders(folder):
        record = read_record(run_folder)
        if record is not None:
            ended.append(EndedRun(_run_of(run_folder), record.judge(sweep.metric), run_folder))
    order = list(sweep.grid.variants)
    variants = sorted({run.run.variant for run in ended} - set(order), key=lambda variant: variant.name)
    place = {variant: number for number, variant in enumerate([*order, *variants])}
    ended.sort(key=lambda run: (place[run.run.variant], run.run.learning_rate, run.run.seed))
    have = {run.run for run in ended}
    return Report(sweep, tuple(ended), sum(run not in have for run in sweep.grid.runs))


def _run_of(folder: Path) -> Run:
    content = read_json(folder / RECORD_FILE)
    variant = Variant(content["optim"], tuple(content["options"].items()))
    return Run(variant, float(content["learning_rate"]), int(content["seed"]))


def _point(rate: float, outcomes: Sequence[Outcome]) -> Point:
    scores = tuple(outcome.score for outcome in outcomes if outcome.score is not None)
    diverged = sum(outcome.status == "diverged" for outcome in outcomes)
    return Point(rate, scores, diverged, len(outcomes) - len(scores) - diverged)
