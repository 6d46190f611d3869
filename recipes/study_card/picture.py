"""The picture of a study: final score over the learning rate, ours as lines and the published ones as circles."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from common.pictures import RUN_STYLES
from hf_momo.model_card.pictures import save
from study_card.cells import Cell


def draw_scores(cells: Sequence[Cell], path: Path, metric: str, reference: str) -> None:
    """Draw a line with the range over seeds for every optimizer, and a circle for every published mean.

    Args:
        cells: Of all optimizers.
        path: The picture.
        metric: What stands at the axis of the score.
        reference: What the circles are called.
    """
    # Two panels: learning rates of which some have learnt nothing, and a close look at the best.
    figure = Figure(figsize=(8.0, 7.0))
    panels = figure.subplots(2, 1, sharex=True)
    for number, optimizer in enumerate(dict.fromkeys(cell.optimizer for cell in cells)):
        colour, style = RUN_STYLES[number % len(RUN_STYLES)]
        own = [cell for cell in cells if cell.optimizer == optimizer]
        rates = [cell.learning_rate for cell in own]
        low, high = ([100 * end(cell.scores) for cell in own] for end in (min, max))
        published = [(cell.learning_rate, 100 * cell.published[0]) for cell in own if cell.published is not None]
        for axes in panels:
            axes.plot(rates, [100 * cell.mean for cell in own], color=colour, linestyle=style, label=optimizer)
            axes.fill_between(rates, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(*zip(*published, strict=True), "o", color=colour, fillstyle="none") if published else None
    for axes in panels:
        axes.set_xscale("log")
        axes.set_ylabel(f"{metric} (%)")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    best = 100 * max(cell.mean for cell in cells)
    panels[0].set_ylim(0, 102)
    panels[1].set_ylim(best - 4, best + 0.5)
    panels[1].set_xlabel("learning rate, or cap of the step size")
    panels[0].plot([], [], "o", color="black", fillstyle="none", label=reference)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    save(figure, path)
