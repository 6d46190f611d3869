"""The picture of a study: final scores over learning rates as lines, published ones as circles."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from hf_momo.utils.pictures import STYLES, save
from study_card.cells import Cell

# Optimizers with fewer learning rates are left to the table, where there are others.
LEAST_RATES = 3


def drawn_optimizers(cells: Sequence[Cell], bases: Sequence[str]) -> list[str]:
    """Return the optimizers that have a line in the picture; ``bases`` always have one."""
    rates = Counter(cell.optimizer for cell in cells)
    drawn = [name for name, number in rates.items() if number >= LEAST_RATES or name in bases]
    return drawn or list(rates)


def draw_scores(
    cells: Sequence[Cell],
    path: Path,
    metric: str,
    reference: str,
    bases: Sequence[str] = (),
    *,
    percent: bool = True,
    greater_is_better: bool = True,
) -> None:
    """Draw lines with the range over seeds, one for each of ``drawn_optimizers``, and a circle for a published mean.

    Args:
        cells: Cells of all optimizers.
        path: File of the picture.
        metric: Label of the score's axis.
        reference: Name of the circles in the legend.
        bases: Optimizers that are drawn however few learning rates they have.
        percent: Whether to draw scores in percent.
        greater_is_better: If false, the axis of the scores is logarithmic.
    """
    # Two panels: all scores, and a close-up of the best.
    names = drawn_optimizers(cells, bases)
    cells = sorted((cell for cell in cells if cell.optimizer in names), key=lambda cell: cell.learning_rate)
    columns = 5 if max(map(len, names)) < 20 else 2
    figure = Figure(figsize=(8.0, 7.0 if columns > 2 else 7.0 + 0.1 * len(names)))
    panels = figure.subplots(2, 1, sharex=True)
    factor = 100 if percent else 1
    for number, optimizer in enumerate(names):
        colour, style, _ = STYLES[number % len(STYLES)]
        own = [cell for cell in cells if cell.optimizer == optimizer]
        rates = [cell.learning_rate for cell in own]
        low, high = ([factor * end(cell.scores) for cell in own] for end in (min, max))
        published = [(cell.learning_rate, factor * cell.published[0]) for cell in own if cell.published is not None]
        for axes in panels:
            axes.plot(
                rates,
                [factor * cell.mean for cell in own],
                color=colour,
                linestyle=style,
                marker=".",
                label=optimizer,
                # The colours begin again after the last.
                alpha=1.0 if number < len(STYLES) else 0.4,
            )
            axes.fill_between(rates, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(*zip(*published, strict=True), "o", color=colour, fillstyle="none") if published else None
    for axes in panels:
        axes.set_xscale("log")
        axes.set_ylabel(f"{metric} (%)" if percent else metric)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    _scale(panels, [factor * cell.mean for cell in cells], greater_is_better)
    panels[1].set_xlabel("learning rate, or cap of the step size")
    if any(cell.published is not None for cell in cells):
        panels[0].plot([], [], "o", color="black", fillstyle="none", label=reference)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)
    save(figure, path)


def _scale(panels: Sequence[Axes], scores: Sequence[float], greater_is_better: bool) -> None:
    if greater_is_better:
        panels[0].set_ylim(0, 102)
        panels[1].set_ylim(max(scores) - 4, max(scores) + 0.5)
        return
    best = min(scores)
    panels[0].set_yscale("log")
    for formatter, axis in ((FuncFormatter(lambda value, _: f"{value:g}"), panels[0].yaxis),):
        axis.set_major_formatter(formatter)
        axis.set_minor_formatter(formatter if max(scores) < 10 * best else NullFormatter())
    panels[1].set_ylim(0.98 * best, 1.08 * best)
