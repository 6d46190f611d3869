"""The picture of the step size over a run. Needs matplotlib."""

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


def draw_step_size(
    history: LogHistory, title: str = "", loss_unit: str = "", *, bias_corrected: bool = True
) -> Figure:
    """Draw the step size with its cap, the share of capped steps, and the loss with its lower bound.

    For an optimizer without an adaptive step size, draw the learning rate.

    Args:
        history: Log entries, as in ``log_history`` of the Trainer.
        title: Title of the picture.
        loss_unit: Unit of the loss, e.g. ``nats per token``; empty if unknown.
        bias_corrected: Whether the logged step size is comparable with the learning rate from the first step on, as
            in every record with ``step_size_is_bias_corrected``.
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
    cap = "cap (learning rate)" if bias_corrected else "cap (learning rate, before bias correction)"
    # Broad and light, so that it stays visible under the step size.
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
    # A bound such as -1e12, which keeps every step at the cap, would flatten the line of the loss.
    if bounds and losses and min(bounds) > -3 * max(map(abs, losses)):
        axes.plot(steps, bounds, color=VERMILION, linestyle="-.", label="lower bound")
    elif bounds:
        axes.plot([], [], color=VERMILION, linestyle="-.", label=f"lower bound: {bounds[-1]:.3g}, far below")
    label(axes, "training step", f"loss ({loss_unit})" if loss_unit else "loss", from_zero=True)
    axes.legend(frameon=False)


def _log_scale(axes: Axes, values: Sequence[float]) -> None:
    # A warm-up starts at 0, which a log axis cannot show.
    positive = [value for value in values if value > 0]
    if not positive:
        return
    axes.set_yscale("log", nonpositive="mask")
    if max(positive) < 30 * min(positive):
        # Within a decade the default ticks, at powers of ten, can leave the axis without a number.
        number_ticks(axes.yaxis, (1, 2, 3, 5))
