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
from typing import NamedTuple

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


class Point(NamedTuple):
    """One learning rate of one optimizer; the deviation is that of a sample (divisor n - 1)."""

    learning_rate: float
    mean: float | None
    deviation: float | None
    lowest: float | None
    highest: float | None
    runs: int
    diverged: int
    crashed: int

    @property
    def is_sound(self) -> bool:
        """Whether every run has a score."""
        return not self.diverged and not self.crashed


class Best(NamedTuple):
    """The best learning rate of an optimizer, and the width around it in decades.

    ``low`` and ``high`` are the ends of the range whose mean is within ``TOLERANCE`` of the best. The true width is
    below that between the next points outside, ``width_at_most``, which is ``None`` where the grid ends.
    """

    best_learning_rate: float
    mean: float
    deviation: float | None
    low: float
    high: float
    width_decades: float
    width_at_most: float | None


@dataclass(frozen=True)
class Report:
    """The runs of a sweep in ``folder`` that have ended, with their outcomes; ``pending`` others have not."""

    sweep: Sweep
    folder: Path
    runs: Sequence[tuple[Run, Outcome]]
    pending: int = 0

    @cached_property
    def points(self) -> dict[str, list[Point]]:
        """The points of every optimizer, by ascending learning rate."""
        outcomes: dict[str, dict[float, list[Outcome]]] = {}
        for run, outcome in self.runs:
            outcomes.setdefault(run.name, {}).setdefault(run.learning_rate, []).append(outcome)
        return {name: [_point(rate, own[rate]) for rate in own] for name, own in outcomes.items()}

    @cached_property
    def bests(self) -> dict[str, Best | None]:
        """The best of every optimizer; ``None`` for one of which no learning rate has all scores."""
        return {name: find_best(points, self.sweep.greater_is_better) for name, points in self.points.items()}

    def best_runs(self, name: str) -> list[tuple[Run, Outcome]]:
        """Return the runs of the best learning rate of one optimizer, by seed."""
        best = self.bests[name]
        rate = best and best.best_learning_rate
        return [each for each in self.runs if (each[0].name, each[0].learning_rate) == (name, rate)]


def make_report(sweep: Sweep, folder: Path, ended: Sequence[tuple[Run, Record]]) -> Report:
    """Return the report on the runs that have ended, judged by the sweep's metric."""
    names = [*dict.fromkeys(run.name for run in sweep.grid.runs)]
    names += sorted({run.name for run, _ in ended} - {*names})
    runs = [(run, record.judge(sweep.metric)) for run, record in ended]
    runs.sort(key=lambda each: (names.index(each[0].name), each[0].learning_rate, each[0].seed))
    pending = {run.folder for run in sweep.grid.runs} - {run.folder for run, _ in runs}
    return Report(sweep, folder, runs, len(pending))


def find_best(points: Sequence[Point], greater_is_better: bool) -> Best | None:
    """Return the point with the best mean, of equal ones that of the lowest learning rate, and its width."""
    sign = 1 if greater_is_better else -1
    sound = [point for point in points if point.is_sound]
    best = max(sound, key=lambda point: sign * (point.mean or 0.0), default=None)
    if best is None or best.mean is None:
        return None
    # A hair more than the tolerance for the rounding of the scores: 0.99 is within 1% of 1.
    reach = (TOLERANCE + 1e-9) * abs(best.mean)
    close = [point.is_sound and abs((point.mean or 0.0) - best.mean) <= reach for point in points]
    low = high = points.index(best)
    while low > 0 and close[low - 1]:
        low -= 1
    while high < len(close) - 1 and close[high + 1]:
        high += 1
    rates = [point.learning_rate for point in points]
    is_inside = low > 0 and high < len(rates) - 1
    at_most = round(math.log10(rates[high + 1] / rates[low - 1]), 6) if is_inside else None
    decades = round(math.log10(rates[high] / rates[low]), 6)
    return Best(best.learning_rate, best.mean, best.deviation, rates[low], rates[high], decades, at_most)


def describe_width(best: Best, points: Sequence[Point]) -> str:
    """Return the width with what the grid leaves open."""
    if best.width_at_most is not None:
        return f"{best.width_decades:.1f} (< {best.width_at_most:.1f})"
    ends = ["below"] * (best.low == points[0].learning_rate) + ["above"] * (best.high == points[-1].learning_rate)
    return f"{best.width_decades:.1f} or more (the grid ends {' and '.join(ends)})"


def suggest_bound(report: Report) -> str | None:
    """Return the bound that later runs may take from the best run; ``None`` if that run logged no training loss."""
    sign = 1 if report.sweep.greater_is_better else -1
    runs = [each for name in report.bests for each in report.best_runs(name)]
    if not runs:
        return None
    folder = report.folder / max(runs, key=lambda each: sign * (each[1].score or 0.0))[0].folder
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
    points = [(name, *point) for name, own in report.points.items() for point in own]
    bests = [(name, *(best or [None] * len(Best._fields))) for name, best in report.bests.items()]
    runs = [(run.name, run.learning_rate, run.seed, outcome.status, outcome.score) for run, outcome in report.runs]
    return {
        "points.csv": _csv(Point._fields, points),
        "best.csv": _csv(Best._fields, bests),
        "runs.csv": _csv(("learning_rate", "seed", "status", "score"), runs),
    }


def _point(rate: float, outcomes: Sequence[Outcome]) -> Point:
    scores = [outcome.score for outcome in outcomes if outcome.score is not None]
    mean, deviation = statistics.fmean(scores) if scores else None, statistics.stdev(scores) if scores[1:] else None
    diverged = sum(outcome.status == "diverged" for outcome in outcomes)
    counts = (len(outcomes), diverged, len(outcomes) - len(scores) - diverged)
    return Point(rate, mean, deviation, min(scores, default=None), max(scores, default=None), *counts)


def _title(report: Report) -> str:
    better = "higher" if report.sweep.greater_is_better else "lower"
    pending = f"; {report.pending} runs have not ended yet" if report.pending else ""
    compared = {run.optim for run, _ in report.runs}
    own = "".join(f"\n{optim} with {word}" for optim, word in report.sweep.own_arguments if optim in compared)
    return f"{report.sweep.metric} ({better} is better), {len(report.runs)} runs{pending}{own}"


def _point_rows(report: Report) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for name, points in report.points.items():
        for point in points:
            scores, counts = _numbers(report, point.mean, point.deviation), (point.runs, point.diverged, point.crashed)
            rows.append((name, format_rate(point.learning_rate), *scores, *(str(count or "") for count in counts)))
    return rows


def _best_rows(report: Report) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for name, best in report.bests.items():
        if best is None:
            rows.append((name, "", "", "", ""))
            continue
        score = " ± ".join(filter(None, _numbers(report, best.mean, best.deviation)))
        reach = f"{format_rate(best.low)} to {format_rate(best.high)}"
        width = describe_width(best, report.points[name])
        rows.append((name, format_rate(best.best_learning_rate), score, reach, width))
    return rows


def _numbers(report: Report, *values: float | None) -> list[str]:
    """Return numbers with the decimals of the whole table, with which the best scores show four digits."""
    best = [abs(best.mean) for best in report.bests.values() if best is not None and best.mean]
    decimals = min(10, max(0, 3 - math.floor(math.log10(max(best))))) if best else 4
    return ["" if x is None else f"{x:.{decimals}f}" if abs(x) < 1e7 else f"{x:.3e}" for x in values]


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


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("optimizer", *header), *rows])
    return text.getvalue()
