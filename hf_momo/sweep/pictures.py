"""The pictures of a report: score against learning rate, and the training curves of each optimizer's best one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from hf_momo.sweep.grid import format_rate
from hf_momo.sweep.records import read_history
from hf_momo.sweep.report import TOLERANCE, OptimizerResult, Report
from hf_momo.utils.pictures import STYLES, WIDTH, label, number_ticks, save

SCORES_PICTURE, CURVES_PICTURE = "score_by_learning_rate.png", "training_curves.png"

_GREY = "#555555"
_HEIGHT = 4.6
# From this ratio of the worst to the best on, what is better when lower is drawn on a log axis.
_LOG_FROM = 5.0

Series = Mapping[int, float]


def draw_report(report: Report, folder: Path) -> list[str]:
    """Draw the pictures of a report into ``folder``.

    Returns:
        The names of the files drawn; the curves only if the script left any.
    """
    if not report.runs:
        return []
    save(_draw_scores(report), folder / SCORES_PICTURE)
    curves = _draw_curves(report)
    if curves is None:
        (folder / CURVES_PICTURE).unlink(missing_ok=True)
        return [SCORES_PICTURE]
    save(curves, folder / CURVES_PICTURE)
    return [SCORES_PICTURE, CURVES_PICTURE]


def _draw_scores(report: Report) -> Figure:
    lines = report.optimizers
    # Below the scores a row for each optimizer: where it is near its best, where it has no score.
    heights = (_HEIGHT - 1, 0.24 * len(lines) + 0.15)
    figure = Figure(figsize=(WIDTH, sum(heights) + 1), layout="constrained")
    axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    for number, line in enumerate(lines):
        _draw_line(axes, line, STYLES[number % len(STYLES)])
        _draw_row(strip, number, line, STYLES[number % len(STYLES)][0])
    better = "higher" if report.sweep.greater_is_better else "lower"
    label(axes, "", f"{report.sweep.metric} ({better} is better)")
    if not report.sweep.greater_is_better:
        _spread(axes, [score for line in lines for point in line.points for score in point.scores])
    label(strip, "learning rate", "")
    strip.grid(axis="y", visible=False)
    strip.set_yticks(range(len(lines)), [line.variant.name for line in lines], fontsize=8)
    strip.set_ylim(len(lines) - 0.4, -0.6)
    strip.tick_params(axis="y", length=0)
    _scale_rates(strip, [point.learning_rate for line in lines for point in line.points])
    _score_legend(figure, axes, lines)
    return figure


def _draw_line(axes: Axes, line: OptimizerResult, style: tuple[str, str, str]) -> None:
    colour, dashes, marker = style
    points = [point for point in line.points if point.scores]
    rates = [point.learning_rate for point in points]
    means = [point.mean or 0.0 for point in points]
    axes.plot(rates, means, color=colour, linestyle=dashes, linewidth=1.6, marker=marker, label=line.variant.name)
    # The range and not the deviation, which on a log axis may reach below 0, and with few seeds beyond what was seen.
    lowest, highest = [min(point.scores) for point in points], [max(point.scores) for point in points]
    axes.fill_between(rates, lowest, highest, color=colour, alpha=0.2, linewidth=0)
    partial = [(point.learning_rate, point.mean) for point in points if not point.is_sound]
    if partial:
        hollow: dict[str, Any] = {"marker": marker, "linestyle": "", "markeredgecolor": colour}
        axes.plot(*zip(*partial, strict=True), markerfacecolor="white", **hollow)


def _draw_row(strip: Axes, row: int, line: OptimizerResult, colour: str) -> None:
    best, width = line.best, line.width
    if best is not None and width is not None:
        bar: dict[str, Any] = {"linewidth": 9, "solid_capstyle": "round"}
        if width.low == width.high:
            bar = {"marker": "o", "markersize": 9, "markeredgewidth": 0}
        strip.plot([width.low, width.high], [row, row], color=colour, alpha=0.4, **bar)
        strip.plot(best.learning_rate, row, "o", color=colour, markersize=5)
    for point in line.points:
        if point.diverged:
            strip.plot(point.learning_rate, row, "x", color=colour, markersize=7, markeredgewidth=1.8)
        if point.failed:
            strip.plot(point.learning_rate, row, "+", color=colour, markersize=9, markeredgewidth=1.8)
        if point.scores and not point.is_sound:
            count = f"{point.diverged + point.failed} of {point.runs}"
            place: dict[str, Any] = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
            strip.annotate(count, (point.learning_rate, row), color=_GREY, **place)


def _score_legend(figure: Figure, axes: Axes, lines: Sequence[OptimizerResult]) -> None:
    handles, labels = axes.get_legend_handles_labels()
    points = [point for line in lines for point in line.points]
    entries: list[tuple[bool, str, dict[str, Any]]] = [
        (any(len(point.scores) > 1 for point in points), "range over seeds", {"linewidth": 9, "alpha": 0.25}),
        (any(line.best for line in lines), "best mean", {"marker": "o", "markersize": 5, "linestyle": ""}),
        (any(line.best for line in lines), f"within {TOLERANCE:.0%} of the best", {"linewidth": 8, "alpha": 0.5}),
        (
            any(point.diverged for point in points),
            "diverged",
            {"marker": "x", "linestyle": "", "markeredgewidth": 1.8},
        ),
        (
            any(point.failed for point in points),
            "crashed",
            {"marker": "+", "markersize": 9, "linestyle": "", "markeredgewidth": 1.8},
        ),
        (
            any(point.scores and not point.is_sound for point in points),
            "mean of the other seeds",
            {"marker": "o", "linestyle": "", "markerfacecolor": "white"},
        ),
    ]
    shown = [(label, look) for is_there, label, look in entries if is_there]
    handles += [Line2D([], [], color=_GREY, **look) for _, look in shown]
    labels += [label for label, _ in shown]
    _legend(figure, handles, labels)


def _draw_curves(report: Report) -> Figure | None:
    bests = [(line, line.best) for line in report.optimizers if line.best is not None]
    histories = {
        f"{line.variant.name}, lr {format_rate(best.learning_rate)}": [
            read_history(run.folder) for run in report.of(line.variant, best.learning_rate)
        ]
        for line, best in bests
    }
    keys = [("loss", "training loss"), (report.sweep.metric, report.sweep.metric), ("eval_loss", "eval_loss")]
    found = {key: name for key, name in keys if _is_curve(histories, key)}
    if not found:
        return None
    shown = list(found.items())[:2]
    figure = Figure(figsize=(WIDTH, _HEIGHT), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    styles = {line.variant.name: STYLES[number % len(STYLES)] for number, line in enumerate(report.optimizers)}
    for panel, (key, name) in zip(panels, shown, strict=True):
        for (line, _), (name_and_rate, runs) in zip(bests, histories.items(), strict=True):
            _draw_curve(panel, [_series(history, key) for history in runs], styles[line.variant.name], name_and_rate)
        label(panel, "training step", name)
        values = [value for runs in histories.values() for history in runs for value in _series(history, key).values()]
        if key != report.sweep.metric:
            _spread(panel, values)
        panel.set_xlim(left=0)
    handles, labels = panels[0].get_legend_handles_labels()
    if any(len(runs) > 1 for runs in histories.values()):
        handles += [Line2D([], [], color=_GREY, linewidth=0.8, alpha=0.6)]
        labels += ["single seeds, of which the line is the mean"]
    _legend(figure, handles, labels)
    return figure


def _draw_curve(axes: Axes, runs: Sequence[Series], style: tuple[str, str, str], label: str) -> None:
    colour, dashes, _ = style
    for run in runs if len(runs) > 1 else ():
        axes.plot([*run], [*run.values()], color=colour, linewidth=0.8, alpha=0.35)
    common = sorted(set.intersection(*(set(run) for run in runs)))
    means = [sum(run[step] for run in runs) / len(runs) for step in common]
    axes.plot(common, means, color=colour, linestyle=dashes, linewidth=1.8, label=label)


def _series(history: Sequence[Mapping[str, Any]], key: str) -> dict[int, float]:
    entries = [entry for entry in history if isinstance(entry.get(key), int | float) and "step" in entry]
    return {int(entry["step"]): float(entry[key]) for entry in entries if math.isfinite(entry[key])}


def _is_curve(histories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], key: str) -> bool:
    return any(len(_series(history, key)) > 1 for runs in histories.values() for history in runs)


def _spread(axes: Axes, losses: Sequence[float]) -> None:
    """Losses of very different size go on a log axis, on which the best ones can be told apart."""
    if losses and min(losses) > 0 and max(losses) > _LOG_FROM * min(losses):
        axes.set_yscale("log")
        if max(losses) < 1e3 * min(losses):
            # 5 and 20 are read more easily than powers of ten.
            number_ticks(axes.yaxis, (1, 2, 5))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _scale_rates(axes: Axes, rates: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 1.6, max(rates) * 1.6)
    if max(rates) < 1e15 * min(rates):
        # Every decade, where matplotlib would leave some out.
        axes.xaxis.set_major_locator(LogLocator(numticks=16))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Outside the panels, where it covers nothing, in as many columns as there is room for."""
    for columns in (4, 3, 2, 1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
        if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
            return
        legend.remove()
