"""The pictures of a report: score against learning rate, and the training curves of each optimizer's best one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from hf_momo.sweep.grid import format_rate
from hf_momo.sweep.records import read_history
from hf_momo.sweep.report import TOLERANCE, Best, Point, Report
from hf_momo.utils.pictures import STYLES, WIDTH, label, number_ticks, save

SCORES_PICTURE, CURVES_PICTURE = "score_by_learning_rate.png", "training_curves.png"
# Labels in the legend that are not of one optimizer.
_RANGE, _PARTIAL, _WITHIN, _BEST, _DIVERGED, _CRASHED, _SEEDS = _MARKS = (
    *("range over seeds", "mean of the other seeds", f"within {TOLERANCE:.0%} of the best", "best mean"),
    *("diverged", "crashed", "single seeds, of which the line is the mean"),
)
_GREY, _HEIGHT = "#555555", 4.6
# From this ratio of the worst to the best on, losses are drawn on a log axis.
_LOG_FROM = 5.0


def draw_report(report: Report, folder: Path) -> list[str]:
    """Draw the pictures of a report into ``folder``, and return their names; without a log there are no curves."""
    save(_draw_scores(report), folder / SCORES_PICTURE)
    curves = _draw_curves(report)
    if curves is None:
        (folder / CURVES_PICTURE).unlink(missing_ok=True)
        return [SCORES_PICTURE]
    save(curves, folder / CURVES_PICTURE)
    return [SCORES_PICTURE, CURVES_PICTURE]


def _draw_scores(report: Report) -> Figure:
    greater, points = report.sweep.greater_is_better, [point for own in report.points.values() for point in own]
    # Below the scores a row for each optimizer: where it is near its best, where it has no score.
    heights = (_HEIGHT - 1, 0.24 * len(report.points) + 0.15)
    figure = Figure(figsize=(WIDTH, sum(heights) + 1), layout="constrained")
    axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    for number, (name, own) in enumerate(report.points.items()):
        _draw_line(axes, name, own, STYLES[number % len(STYLES)])
        _draw_row(strip, number, own, report.bests[name], STYLES[number % len(STYLES)][0])
    label(axes, "", f"{report.sweep.metric} ({'higher' if greater else 'lower'} is better)")
    if not greater:
        _spread(axes, [score for point in points for score in (point.lowest, point.highest) if score is not None])
    label(strip, "learning rate", "")
    strip.grid(axis="y", visible=False)
    strip.set_yticks(range(len(report.points)), [*report.points], fontsize=8)
    strip.set_ylim(len(report.points) - 0.4, -0.6)
    strip.tick_params(axis="y", length=0)
    rates = [point.learning_rate for point in points]
    strip.set_xscale("log")
    strip.set_xlim(min(rates) / 1.6, max(rates) * 1.6)
    if max(rates) < 1e15 * min(rates):
        # Every decade, where matplotlib would leave some out.
        strip.xaxis.set_major_locator(LogLocator(numticks=16))
    strip.xaxis.set_minor_formatter(NullFormatter())
    _legend(figure)
    return figure


def _draw_line(axes: Axes, name: str, points: Sequence[Point], style: tuple[str, str, str]) -> None:
    colour, dashes, marker = style
    scored: list[Any] = [point for point in points if point.mean is not None]
    rates, means = [point.learning_rate for point in scored], [point.mean for point in scored]
    axes.plot(rates, means, color=colour, linestyle=dashes, linewidth=1.6, marker=marker, label=name)
    # The range and not the deviation, which on a log axis may reach below 0, and with few seeds beyond what was seen.
    band: dict[str, Any] = {"label": _RANGE} if any(point.lowest != point.highest for point in scored) else {}
    ends = [point.lowest for point in scored], [point.highest for point in scored]
    axes.fill_between(rates, *ends, color=colour, alpha=0.2, linewidth=0, **band)
    partial = [(point.learning_rate, point.mean) for point in scored if not point.is_sound]
    if partial:
        hollow: dict[str, Any] = {"linestyle": "", "marker": marker, "markerfacecolor": "white"}
        axes.plot(*zip(*partial, strict=True), markeredgecolor=colour, label=_PARTIAL, **hollow)


def _draw_row(strip: Axes, row: int, points: Sequence[Point], best: Best | None, colour: str) -> None:
    if best is not None:
        bar: dict[str, Any] = {"linewidth": 9, "solid_capstyle": "round"}
        if best.low == best.high:
            bar = {"marker": "o", "markersize": 9, "markeredgewidth": 0}
        strip.plot([best.low, best.high], [row, row], color=colour, alpha=0.4, label=_WITHIN, **bar)
        strip.plot(best.best_learning_rate, row, "o", color=colour, markersize=5, label=_BEST)
    for point in points:
        for count, mark, size, name in ((point.diverged, "x", 7, _DIVERGED), (point.crashed, "+", 9, _CRASHED)):
            if count:
                look: dict[str, Any] = {"markersize": size, "markeredgewidth": 1.8, "label": name}
                strip.plot(point.learning_rate, row, mark, color=colour, **look)
        if point.mean is not None and not point.is_sound:
            place: dict[str, Any] = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
            lost = f"{point.diverged + point.crashed} of {point.runs}"
            strip.annotate(lost, (point.learning_rate, row), color=_GREY, **place)


def _draw_curves(report: Report) -> Figure | None:
    histories = {
        (number, f"{name}, lr {format_rate(best.best_learning_rate)}"): [
            read_history(report.folder / run.folder) for run, _ in report.best_runs(name)
        ]
        for number, (name, best) in enumerate(report.bests.items())
        if best is not None
    }
    names = {"loss": "training loss", report.sweep.metric: report.sweep.metric, "eval_loss": "eval_loss"}
    curves = {key: {each: [_series(h, key) for h in runs] for each, runs in histories.items()} for key in names}
    shown = [key for key in curves if any(len(run) > 1 for runs in curves[key].values() for run in runs)][:2]
    if not shown:
        return None
    figure = Figure(figsize=(WIDTH, _HEIGHT), layout="constrained")
    for panel, key in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for (number, name), runs in curves[key].items():
            _draw_curve(panel, runs, STYLES[number % len(STYLES)], name)
        label(panel, "training step", names[key], from_zero=True)
        if key != report.sweep.metric:
            _spread(panel, [value for runs in curves[key].values() for run in runs for value in run.values()])
    _legend(figure)
    return figure


def _draw_curve(axes: Axes, runs: Sequence[Mapping[int, float]], style: tuple[str, str, str], name: str) -> None:
    colour, dashes, _ = style
    for run in runs if len(runs) > 1 else ():
        axes.plot([*run], [*run.values()], color=colour, linewidth=0.8, alpha=0.35, label=_SEEDS)
    common = sorted(set.intersection(*(set(run) for run in runs)))
    means = [statistics.fmean(run[step] for run in runs) for step in common]
    axes.plot(common, means, color=colour, linestyle=dashes, linewidth=1.8, label=name)


def _series(history: Sequence[Mapping[str, Any]], key: str) -> dict[int, float]:
    entries = [entry for entry in history if isinstance(entry.get(key), int | float) and "step" in entry]
    return {int(entry["step"]): float(entry[key]) for entry in entries if math.isfinite(entry[key])}


def _spread(axes: Axes, losses: Sequence[float]) -> None:
    """Use a log axis for losses of very different size, on which the best ones can be told apart."""
    if losses and min(losses) > 0 and max(losses) > _LOG_FROM * min(losses):
        axes.set_yscale("log")
        if max(losses) < 1e3 * min(losses):
            # 5 and 20 are read more easily than powers of ten.
            number_ticks(axes.yaxis, (1, 2, 5))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure) -> None:
    """Outside the panels, where it covers nothing, in as many columns as there is room for."""
    found = [axes.get_legend_handles_labels() for axes in figure.axes]
    handles = {name: handle for pairs in found for handle, name in zip(*pairs, strict=True)}
    names = sorted(handles, key=lambda name: name in _MARKS)
    for columns in (4, 3, 2, 1):
        options: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "frameon": False, "fontsize": 9}
        legend = figure.legend([handles[name] for name in names], names, **options)
        for handle, name in zip(legend.legend_handles, names, strict=True):
            if name in _MARKS and handle is not None:
                handle.set(color=_GREY, alpha=0.6)
        if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
            return
        legend.remove()
