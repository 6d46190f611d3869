"""The tables of a report: for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from hf_momo.sweep.grid import format_rate
from hf_momo.sweep.report import TOLERANCE, OptimizerResult, Point, Report, Width

_POINT_HEADER = ("optimizer", "learning rate", "mean", "deviation", "runs", "diverged", "crashed")
_BEST_HEADER = ("optimizer", "best lr", "score", f"within {TOLERANCE:.0%}", "width in decades")
_NOTE = f"""\
Deviation: sample standard deviation over seeds. Width: the learning rates round the best one whose mean is within
{TOLERANCE:.0%} (relative) of the best mean, measured between points of the grid; in brackets what the next points
outside leave possible. A learning rate of which any run diverged or crashed is neither best nor within."""


def render_text(report: Report) -> str:
    """Return the report for a terminal."""
    blocks = [_title(report), _aligned(_POINT_HEADER, _point_rows(report)), _aligned(_BEST_HEADER, _best_rows(report))]
    return "\n\n".join([*blocks, _NOTE, *_failures(report)])


def render_markdown(report: Report, pictures: Sequence[str]) -> str:
    """Return the report as a page, with the pictures that lie beside it."""
    shown = [f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in pictures]
    blocks = [f"# Sweep of {Path(report.sweep.script).name}", _title(report), *shown]
    blocks += [_markdown(_BEST_HEADER, _best_rows(report)), _NOTE, _markdown(_POINT_HEADER, _point_rows(report))]
    return "\n\n".join([*blocks, *_failures(report, "- ")]) + "\n"


def points_csv(report: Report) -> str:
    """Return one row for each learning rate of each optimizer."""
    header = ("optimizer", "learning_rate", "mean", "deviation", "lowest", "highest", "runs", "diverged", "crashed")
    rows = []
    for result in report.optimizers:
        for point in result.points:
            ends = (min(point.scores), max(point.scores)) if point.scores else (None, None)
            counts = (point.runs, point.diverged, point.failed)
            rows.append((result.variant.name, point.learning_rate, point.mean, point.deviation, *ends, *counts))
    return _csv(header, rows)


def best_csv(report: Report) -> str:
    """Return one row for each optimizer."""
    header = ("optimizer", "best_learning_rate", "mean", "deviation", "low", "high", "width_decades", "width_at_most")
    rows: list[Sequence[object]] = []
    for result in report.optimizers:
        best, width = result.best, result.width
        if best is None or width is None:
            rows.append([result.variant.name, *[None] * (len(header) - 1)])
            continue
        at_most = None if width.at_most is None else round(width.at_most, 6)
        reach = (width.low, width.high, round(width.decades, 6), at_most)
        rows.append((result.variant.name, best.learning_rate, best.mean, best.deviation, *reach))
    return _csv(header, rows)


def runs_csv(report: Report) -> str:
    """Return one row for each run."""
    rows = [
        (run.run.variant.name, run.run.learning_rate, run.run.seed, run.outcome.status, run.outcome.score)
        for run in report.runs
    ]
    return _csv(("optimizer", "learning_rate", "seed", "status", "score"), rows)


def describe_width(width: Width) -> str:
    """Return a width with what the grid leaves open.

    Example:
        >>> describe_width(Width(1e-3, 1e-2, below=1e-4, above=1e-1)), describe_width(Width(1e-3, 1e-2, None, 1e-1))
        ('1.0 (< 3.0)', '1.0 or more (the grid ends below)')
    """
    if width.at_most is not None:
        return f"{width.decades:.1f} (< {width.at_most:.1f})"
    ends = [name for name, rate in (("below", width.below), ("above", width.above)) if rate is None]
    return f"{width.decades:.1f} or more (the grid ends {' and '.join(ends)})"


def _title(report: Report) -> str:
    better = "higher" if report.sweep.greater_is_better else "lower"
    pending = f"; {report.pending} runs have not ended yet" if report.pending else ""
    compared = {result.variant.optim for result in report.optimizers}
    own = "".join(f"\n{optim} with {word}" for optim, word in report.sweep.own_arguments if optim in compared)
    return f"{report.sweep.metric} ({better} is better), {len(report.runs)} runs{pending}{own}"


def _point_rows(report: Report) -> list[tuple[str, ...]]:
    decimals = _decimals(report)
    return [_point_row(result, point, decimals) for result in report.optimizers for point in result.points]


def _point_row(result: OptimizerResult, point: Point, decimals: int) -> tuple[str, ...]:
    scores = (_number(point.mean, decimals), _number(point.deviation, decimals))
    counts = (str(point.runs), *(str(count) if count else "" for count in (point.diverged, point.failed)))
    return (result.variant.name, format_rate(point.learning_rate), *scores, *counts)


def _best_rows(report: Report) -> list[tuple[str, ...]]:
    decimals = _decimals(report)
    rows: list[tuple[str, ...]] = []
    for result in report.optimizers:
        best, width = result.best, result.width
        if best is None or width is None:
            rows.append((result.variant.name, "", "", "", ""))
            continue
        deviation = "" if best.deviation is None else f" ± {_number(best.deviation, decimals)}"
        reach = f"{format_rate(width.low)} to {format_rate(width.high)}"
        score = f"{_number(best.mean, decimals)}{deviation}"
        rows.append((result.variant.name, format_rate(best.learning_rate), score, reach, describe_width(width)))
    return rows


def _decimals(report: Report) -> int:
    """Return the decimals of the whole table, with which the best scores show four digits."""
    best = [abs(result.best.mean) for result in report.optimizers if result.best is not None and result.best.mean]
    return min(10, max(0, 3 - math.floor(math.log10(max(best))))) if best else 4


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}" if abs(value) < 1e7 else f"{value:.3e}"


def _failures(report: Report, mark: str = "") -> list[str]:
    failed = [run for run in report.runs if run.outcome.status != "done"]
    rows = [f"{mark}{run.run.folder} {run.outcome.status}: {run.outcome.reason}" for run in failed]
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
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
