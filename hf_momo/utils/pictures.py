"""Size, palette, axes and saving of all pictures of this project. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from hf_momo.utils.files import write_whole

# The palette of Okabe and Ito, which is safe for colour-blind readers, without yellow, which is hard to see on white.
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE, BLACK = (
    *("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#000000"),
)
# Colour, dashes and marker of each line of a picture.
STYLES = (
    *((BLUE, "-", "o"), (VERMILION, "--", "s"), (GREEN, "-.", "^"), (PURPLE, ":", "D")),
    *((ORANGE, "-", "v"), (SKY, "--", "P"), (BLACK, "-.", "X")),
)
# 960 pixels wide, the width of a README.
WIDTH, _DPI = 8.0, 120

LogHistory = Sequence[Mapping[str, Any]]


def series(history: LogHistory, key: str) -> tuple[list[int], list[float]]:
    """Return the steps at which ``key`` was logged, and its values."""
    points = [(int(entry["step"]), float(entry[key])) for entry in history if entry.get(key) is not None]
    return [step for step, _ in points], [value for _, value in points]


def new_figure(height: float = 4.2) -> tuple[Figure, Axes]:
    """Return a figure with one panel, ``WIDTH`` inches wide."""
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.subplots()


def label(axes: Axes, x_label: str, y_label: str, *, from_zero: bool = False) -> None:
    """Label the axes and draw a light grid; with ``from_zero`` the x axis begins at 0."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if from_zero:
        axes.set_xlim(left=0)


def number_ticks(axis: Axis, subs: Sequence[float]) -> None:
    """Label a log axis with plain numbers at ``subs`` times the powers of ten, for values within a few decades."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all; the same figure gives the same file."""
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    content = io.BytesIO()
    figure.savefig(content, dpi=_DPI, format="png", metadata={"Software": None})
    write_whole(path, content.getvalue())
