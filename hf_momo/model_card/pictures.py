"""The picture of what the step size did, from the log of a run. Needs matplotlib."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from hf_momo.files import write_whole

# Okabe and Ito's palette, which people with any form of colour blindness can tell apart; its yellow is left out
# because it does not show on white.
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE, BLACK = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#000000",
)
# 960 pixels wide: a README's column.
WIDTH, _DPI = 8.0, 120

LogHistory = Sequence[Mapping[str, Any]]


def draw_step_size(history: LogHistory, title: str = "", loss_unit: str = "") -> Figure:
    """Draw step size and cap, the share of capped steps, and the loss above its lower bound.

    Of another optimizer, which takes the learning rate as it is, draw that alone.

    Args:
        history: Log entries, as `log_history` of the Trainer has them.
        title: Stands above the picture.
        loss_unit: Of the loss, e.g. `nats per token`; empty where it is not known.
    """
    if not series(history, "step_size")[0]:
        figure, axes = new_figure()
        axes.plot(*series(history, "learning_rate"), color=BLACK, label="learning rate")
        label(axes, "training step", "learning rate")
        _log_scale(axes, series(history, "learning_rate")[1])
        axes.legend(frameon=False)
        axes.set_title(title)
        return figure
    figure = Figure(figsize=(WIDTH, 7.5))
    size_axes, capped_axes, bound_axes = figure.subplots(3, 1, sharex=True, height_ratios=(2.2, 1, 1.6))
    # MoMo's bias correction divides step size and cap alike by 1 - beta^k, which matters for some 40 steps.
    cap = "cap (learning rate, before bias correction)"
    # Broad and light, so that it still shows where the step size runs along it.
    size_axes.plot(*series(history, "learning_rate"), color=ORANGE, linewidth=6, alpha=0.5, label=cap)
    size_axes.plot(*series(history, "step_size"), color=BLUE, label="step size applied")
    label(size_axes, "", "step size")
    _log_scale(size_axes, series(history, "learning_rate")[1] + series(history, "step_size")[1])
    size_axes.legend(frameon=False)
    size_axes.set_title(title)
    capped_axes.plot(*series(history, "step_capped"), color=ORANGE)
    label(capped_axes, "", "steps at the cap")
    capped_axes.set_ylim(-0.05, 1.05)
    capped_axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _draw_bound(bound_axes, history, loss_unit)
    return figure


def _draw_bound(axes: Axes, history: LogHistory, loss_unit: str) -> None:
    losses = series(history, "loss")[1]
    steps, bounds = series(history, "lower_bound")
    axes.plot(*series(history, "loss"), color=BLUE, label="training loss")
    # A bound such as -1e12, which switches MoMo off, would press the loss into a flat line.
    if bounds and losses and min(bounds) > -3 * max(map(abs, losses)):
        axes.plot(steps, bounds, color=VERMILION, linestyle="-.", label="lower bound")
    elif bounds:
        axes.plot([], [], color=VERMILION, linestyle="-.", label=f"lower bound: {bounds[-1]:.3g}, far below")
    label(axes, "training step", f"loss ({loss_unit})" if loss_unit else "loss")
    axes.legend(frameon=False)


def series(history: LogHistory, key: str) -> tuple[list[int], list[float]]:
    """The steps at which `key` was logged, and its values."""
    points = [(int(entry["step"]), float(entry[key])) for entry in history if entry.get(key) is not None]
    return [step for step, _ in points], [value for _, value in points]


def new_figure() -> tuple[Figure, Axes]:
    """A picture with one panel."""
    figure = Figure(figsize=(WIDTH, 4.2))
    return figure, figure.subplots()


def label(axes: Axes, x_label: str, y_label: str) -> None:
    """Name the axes, and let the steps begin at 0."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=0)


def save(figure: Figure, path: Path) -> None:
    """Write a picture whole or not at all; the same picture is the same file."""
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    content = io.BytesIO()
    figure.savefig(content, dpi=_DPI, format="png", metadata={"Software": None})
    write_whole(path, content.getvalue())


def _log_scale(axes: Axes, values: Sequence[float]) -> None:
    # A warm-up starts at 0, which has no place on a log axis; with nothing above 0 there is nothing to scale.
    positive = [value for value in values if value > 0]
    if not positive:
        return
    axes.set_yscale("log", nonpositive="mask")
    if max(positive) < 30 * min(positive):
        # Within a decade or so powers of ten alone would leave the axis without a number.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
