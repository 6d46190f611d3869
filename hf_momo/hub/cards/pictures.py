"""The picture of what the step size did, from the log of a run. Needs matplotlib."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hf_momo.utils.pictures import (
    BLACK,
    BLUE,
    ORANGE,
    VERMILION,
    WIDTH,
    LogHistory,
    label,
    new_figure,
    number_ticks,
    series,
)


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
        label(axes, "training step", "learning rate", from_zero=True)
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
    label(size_axes, "", "step size", from_zero=True)
    _log_scale(size_axes, series(history, "learning_rate")[1] + series(history, "step_size")[1])
    size_axes.legend(frameon=False)
    size_axes.set_title(title)
    capped_axes.plot(*series(history, "step_capped"), color=ORANGE)
    label(capped_axes, "", "steps at the cap", from_zero=True)
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
    label(axes, "training step", f"loss ({loss_unit})" if loss_unit else "loss", from_zero=True)
    axes.legend(frameon=False)


def _log_scale(axes: Axes, values: Sequence[float]) -> None:
    # A warm-up starts at 0, which has no place on a log axis; with nothing above 0 there is nothing to scale.
    positive = [value for value in values if value > 0]
    if not positive:
        return
    axes.set_yscale("log", nonpositive="mask")
    if max(positive) < 30 * min(positive):
        # Within a decade or so powers of ten alone would leave the axis without a number.
        number_ticks(axes.yaxis, (1, 2, 3, 5))
