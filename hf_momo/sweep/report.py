"""The report on a sweep: scores by optimizer and learning rate, the best learning rate, and the width around it.

A learning rate of which any run has no score (diverged, crashed) is never the best one, nor within the width: the mean
of the seeds that survived is no result of that learning rate. A width is measured between points of the grid, so the
true one lies between it and the distance of the next points outside.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from hf_momo.optimizers.bounds import read_pilot_bound
from hf_momo.sweep.grid import Run, format_rate
from hf_momo.sweep.records import Outcome, Record
from hf_momo.sweep.settings import Sweep

# The width reaches down to this relative distance from the best score.
TOLERANCE = 0.01
_POINT_HEADER = ("optimizer", "learning rate", "mean", "deviation", "runs", "diverged", "crashed")
_BEST_HEADER = ("optimizer", "best lr", "score", f"within {TOLERANCE:.0%}", "width in decades")
_NOTE = f"""\
Deviation: sample standard deviation over seeds. Width: the learning rates around the best one whose mean is within
{TOLERANCE:.0%} (relative) of the best mean, measured between points of the grid; in parentheses what the next points
outside leave possible. A learning rate of which any run diverged or crashed is neither best nor within."""


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
        return len(self.scores) == self.runs > 0


class Width(NamedTuple):
    """The learning rates from ``low`` to ``high``, whose mean score is within ``TOLERANCE`` of the best.

    ``decades`` is log10 of high / low; ``at_most`` that of the next points outside, ``None`` where the grid ends.
    """

    low: float
    high: float
    decades: float
    at_most: float | None
    text: str


@dataclass(frozen=True)
class OptimizerResult:
    """The points of one optimizer by ascending learning rate."""

    name: str
    points: Sequence[Point]
    greater_is_better: bool

    @cached_property
    def best(self) -> Point | None:
        """The learning rate with the best mean; of equal ones the lowest."""
        sound = [point for point in self.points if point.is_sound]
        sign = 1 if self.greater_is_better else -1
        return max(sound, key=lambda point: sign * statistics.fmean(point.scores), default=None)

    @property
    def width(self) -> Width | None:
        """The width around the best learning rate."""
        best = self.best
        if best is None or best.mean is None:
            return None
        # A hair more than the tolerance for the rounding of the scores: 0.99 is within 1% of 1.
        reach = (TOLERANCE + 1e-9) * abs(best.mean)
        close = [point.is_sound and abs((point.mean or 0.0) - best.mean) <= reach for point in self.points]
        low = high = self.points.index(best)
        while low > 0 and close[low - 1]:
            low -= 1
        while high < len(close) - 1 and close[high + 1]:
            high += 1
        rates = [point.learning_rate for point in self.points]
        decades = math.log10(rates[high] / rates[low])
        ends = ["below"] * (low == 0) + ["above"] * (high == len(rates) - 1)
        if ends:
            text = f"{decades:.1f} or more (the grid ends {' and '.join(ends)})"
            return Width(rates[low], rates[high], decades, None, text)
        at_most = math.log10(rates[high + 1] / rates[low - 1])
        return Width(rates[low], rates[high], decades, at_most, f"{decades:.1f} (< {at_most:.1f})")


@dataclass(frozen=True)
class Report:
    """The runs of a sweep in ``folder`` that have ended, with their outcomes; ``pending`` others have not."""

    sweep: Sweep
    folder: Path
    runs: Sequence[tuple[Run, Outcome]]
    pending: int = 0

    @cached_property
    def optimizers(self) -> list[OptimizerResult]:
        """The result of every optimizer."""
        points: dict[str, dict[float, list[Outcome]]] = {}
        for run, outcome in self.runs:
            points.setdefault(run.name, {}).setdefault(run.learning_rate, []).append(outcome)
        greater = self.sweep.greater_is_better
        return [OptimizerResult(name, [*map(_point, own, own.values())], greater) for name, own in points.items()]

    def of(self, name: str, point: Point) -> list[tuple[Run, Outcome]]:
        """Return the runs of one learning rate of one optimizer, by seed."""
        return [each for each in self.runs if (each[0].name, each[0].learning_rate) == (name, point.learning_rate)]


def make_report(sweep: Sweep, folder: Path, ended: Sequence[tuple[Run, Record]]) -> Report:
    """Return the report on the runs that have ended, judged by the sweep's metric."""
    names = [*dict.fromkeys(run.name for run in sweep.grid.runs)]
    names += sorted({run.name for run, _ in ended} - {*names})
    runs = [(run, record.judge(sweep.metric)) for run, record in ended]
    runs.sort(key=lambda each: (names.index(each[0].name), each[0].learning_rate, each[0].seed))
    pending = {run.folder for run in sweep.grid.runs} - {run.folder for run, _ in runs}
    return Report(sweep, folder, runs, len(pending))


def suggest_bound(report: Report) -> str | None:
    """Return the bound that later runs may take from the best run; ``None`` if that run logged no training loss."""
    sign = 1 if report.sweep.greater_is_better else -1
    bests = [each for result in report.optimizers if result.best for each in report.of(result.name, result.best)]
    if not bests:
        return None
    folder = report.folder / max(bests, key=lambda each: sign * (each[1].score or 0.0))[0].folder
    try:
        bound = read_pilot_bound(f"from={folder}")
    except ValueError:
        return None
    return f"lower_bound for later runs: {bound.value:g}, {bound}\n  --optim_args lower_bound=from={folder}"


def render_text(report: Report) -> str:
    """Return the report for a terminal."""
    points, bests = _aligned(_POINT_HEADER, _point_rows(report)), _aligned(_BEST_HEADER, _best_rows(report))
    return "\n\n".join([_title(report), points, bests, _NOTE, *_failures(report)])


def render_markdown(report: Report, pictures: Sequence[str]) -> str:
    """Return the report as a page, with the pictures that lie beside it."""
    shown = [f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in pictures]
    blocks = [f"# Sweep of {Path(report.sweep.script).name}", _title(report), *shown]
    blocks += [_markdown(_BEST_HEADER, _best_rows(report)), _NOTE, _markdown(_POINT_HEADER, _point_rows(report))]
    return "\n\n".join([*blocks, *_failures(report, "- ")]) + "\n"


def render_csv(report: Report) -> dict[str, str]:
    """Return the files with one row for each learning rate, for each optimizer and for each run, by their names."""
    bests: list[Sequence[object]] = []
    for result in report.optimizers:
        best, width = result.best, result.width
        row: list[object] = [None] * 7
        if best is not None and width is not None:
            at_most = None if width.at_most is None else round(width.at_most, 6)
            row = [best.learning_rate, best.mean, best.deviation, width.low, width.high]
            row += [round(width.decades, 6), at_most]
        bests.append([result.name, *row])
    runs = [(run.name, run.learning_rate, run.seed, outcome.status, outcome.score) for run, outcome in report.runs]
    points = "optimizer,learning_rate,mean,deviation,lowest,highest,runs,diverged,crashed"
    return {
        "points.csv": _csv(points, _points(report)),
        "best.csv": _csv("optimizer,best_learning_rate,mean,deviation,low,high,width_decades,width_at_most", bests),
        "runs.csv": _csv("optimizer,learning_rate,seed,status,score", runs),
    }


def _point(rate: float, outcomes: Sequence[Outcome]) -> Point:
    scores = tuple(outcome.score for outcome in outcomes if outcome.score is not None)
    diverged = sum(outcome.status == "diverged" for outcome in outcomes)
    return Point(rate, scores, diverged, len(outcomes) - len(scores) - diverged)


def _title(report: Report) -> str:
    better = "higher" if report.sweep.greater_is_better else "lower"
    pending = f"; {report.pending} runs have not ended yet" if report.pending else ""
    compared = {run.optim for run, _ in report.runs}
    own = "".join(f"\n{optim} with {word}" for optim, word in report.sweep.own_arguments if optim in compared)
    return f"{report.sweep.metric} ({better} is better), {len(report.runs)} runs{pending}{own}"


def _points(report: Report) -> list[tuple[Any, ...]]:
    return [
        (result.name, point.learning_rate, point.mean, point.deviation)
        + ((min(point.scores), max(point.scores)) if point.scores else (None, None))
        + (point.runs, point.diverged, point.failed)
        for result in report.optimizers
        for point in result.points
    ]


def _point_rows(report: Report) -> list[tuple[str, ...]]:
    return [
        (name, format_rate(rate), *(_number(each, report) for each in spread), *(str(count or "") for count in counts))
        for (name, rate, *spread), counts in ((row[:4], row[6:]) for row in _points(report))
    ]


def _best_rows(report: Report) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for result in report.optimizers:
        best, width = result.best, result.width
        if best is None or width is None:
            rows.append((result.name, "", "", "", ""))
            continue
        deviation = "" if best.deviation is None else f" ± {_number(best.deviation, report)}"
        score = f"{_number(best.mean, report)}{deviation}"
        reach = f"{format_rate(width.low)} to {format_rate(width.high)}"
        rows.append((result.name, format_rate(best.learning_rate), score, reach, width.text))
    return rows


def _number(value: float | None, report: Report) -> str:
    """Return a number with the decimals of the whole table, with which the best scores show four digits."""
    best = [abs(result.best.mean) for result in report.optimizers if result.best is not None and result.best.mean]
    decimals = min(10, max(0, 3 - math.floor(math.log10(max(best))))) if best else 4
    return "" if value is None else f"{value:.{decimals}f}" if abs(value) < 1e7 else f"{value:.3e}"


def _failures(report: Report, mark: str = "") -> list[str]:
    failed = [(run, outcome) for run, outcome in report.runs if outcome.status != "done"]
    rows = [f"{mark}{run.folder} {outcome.status}: {outcome.reason}" for run, outcome in failed]
    return ["\n".join(["Runs without a score:", *([""] if mark else []), *rows])] if rows else []


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for first, *others in [header, *rows]:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def _csv(header: str, rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header.split(","), *rows])
    return text.getvalue()
