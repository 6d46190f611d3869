"""Pictures of a run, drawn from the log that the Trainer keeps (`trainer_state.json`, `log_history`)."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

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
RUN_STYLES = ((BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PURPLE, ":"), (ORANGE, "-"), (SKY, "--"), (BLACK, "-."))
# 960 pixels wide: a README's column.
_WIDTH, _DPI = 8.0, 120

LogHistory = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Task:
    """What the pictures of a task show.

    Attributes:
        score: Name of its score, of which `eval_` before it is the key in the log and .png behind it the picture.
        score_label: What stands at the axis of the score.
        highest_score: The highest that there is.
        loss_unit: Of the loss.
    """

    score: str
    score_label: str
    highest_score: float
    loss_unit: str


TRANSLATION = Task("bleu", "BLEU (0 to 100)", 100.0, "nats per token")
IMAGE_CLASSIFICATION = Task("accuracy", "accuracy (share of the images)", 1.0, "nats per image")
CLICK_THROUGH_RATE = Task("auc", "area under the ROC curve", 1.0, "nats per row")
LANGUAGE_MODELING = Task("perplexity", "perplexity of a token", 100.0, "nats per token")

_TASKS = (TRANSLATION, IMAGE_CLASSIFICATION, CLICK_THROUGH_RATE)
# What `draw_run` may leave in a run's folder.
PICTURE_NAMES = ("loss.png", *(f"{task.score}.png" for task in _TASKS), "step_size.png")


def draw_run(history: LogHistory, folder: Path, title: str = "", task: Task = TRANSLATION) -> list[str]:
    """Draw loss.png, step_size.png and, where there are scores, e.g. bleu.png into `folder`.

    Args:
        history: `log_history` of the Trainer.
        folder: Where the pictures go; older ones are replaced.
        title: Stands above each picture, e.g. the optimizer's name.
        task: Whose score is drawn.

    Returns:
        The names of the files drawn.
    """
    drawn = {"loss.png": _draw_loss(history, title, task), "step_size.png": _draw_step_size(history, title, task)}
    if series(history, f"eval_{task.score}")[0]:
        drawn[f"{task.score}.png"] = _draw_score(history, title, task)
    for name, figure in drawn.items():
        save(figure, folder / name)
    return list(drawn)


def draw_comparison(histories: Mapping[str, LogHistory], path: Path, title: str = "") -> None:
    """Draw the training loss and the validation BLEU of several runs, one line a run.

    Args:
        histories: What a run is called in the legend, and its `log_history`.
        path: The picture.
        title: Stands above it.
    """
    figure, (loss_axes, bleu_axes) = plt.subplots(1, 2, figsize=(_WIDTH, 4.2))
    for number, (name, history) in enumerate(histories.items()):
        colour, style = RUN_STYLES[number % len(RUN_STYLES)]
        loss_axes.plot(*series(history, "loss"), color=colour, linestyle=style, label=name)
        bleu_axes.plot(*series(history, "eval_bleu"), color=colour, linestyle=style, marker="o", markersize=4)
    _label(loss_axes, "training step", "training loss (nats per token)")
    _label(bleu_axes, "training step", "validation BLEU (0 to 100)")
    bleu_axes.set_ylim(bottom=0)
    # One legend for both panels, outside them: inside it would cover the ends of the lines, which matter most.
    figure.legend(loc="outside lower center", frameon=False)
    figure.suptitle(title)
    save(figure, path)


def series(history: LogHistory, key: str) -> tuple[list[int], list[float]]:
    """The steps at which `key` was logged, and its values."""
    points = [(int(entry["step"]), float(entry[key])) for entry in history if entry.get(key) is not None]
    return [step for step, _ in points], [value for _, value in points]


def _draw_loss(history: LogHistory, title: str, task: Task) -> Figure:
    figure, axes = plt.subplots(figsize=(_WIDTH, 4.2))
    axes.plot(*series(history, "loss"), color=BLUE, label="training, mean since the last point")
    if series(history, "eval_loss")[0]:
        axes.plot(*series(history, "eval_loss"), color=VERMILION, marker="o", linestyle="--", label="validation")
    _label(axes, "training step", f"loss ({task.loss_unit})")
    axes.legend(frameon=False)
    axes.set_title(title)
    return figure


def _draw_score(history: LogHistory, title: str, task: Task) -> Figure:
    figure, axes = plt.subplots(figsize=(_WIDTH, 4.2))
    steps, values = series(history, f"eval_{task.score}")
    axes.plot(steps, values, color=BLUE, marker="o", label="validation, while training")
    # Three digits of what is at most 1 or 100.
    last = f"{values[-1]:.3f}" if task.highest_score <= 1 else f"{values[-1]:.1f}"
    axes.annotate(last, (steps[-1], values[-1]), textcoords="offset points", xytext=(0, 7), ha="center")
    _label(axes, "training step", task.score_label)
    axes.set_ylim(0, max(0.05 * task.highest_score, 1.15 * max(values)))
    axes.legend(frameon=False, loc="lower right")
    axes.set_title(title)
    return figure


def _draw_step_size(history: LogHistory, title: str, task: Task = TRANSLATION) -> Figure:
    if not series(history, "step_size")[0]:
        figure, axes = plt.subplots(figsize=(_WIDTH, 4.2))
        axes.plot(*series(history, "learning_rate"), color=BLACK, label="learning rate")
        _label(axes, "training step", "learning rate")
        _log_scale(axes, series(history, "learning_rate")[1])
        axes.legend(frameon=False)
        axes.set_title(title)
        return figure
    figure, (size_axes, capped_axes, bound_axes) = plt.subplots(
        3, 1, figsize=(_WIDTH, 7.5), sharex=True, height_ratios=(2.2, 1, 1.6)
    )
    # MoMo's bias correction divides step size and cap alike by 1 - beta^k, which matters for some 40 steps.
    cap = "cap (learning rate, before bias correction)"
    # Broad and light, so that it still shows where the step size runs along it.
    size_axes.plot(*series(history, "learning_rate"), color=ORANGE, linewidth=6, alpha=0.5, label=cap)
    size_axes.plot(*series(history, "step_size"), color=BLUE, label="step size applied")
    _label(size_axes, "", "step size")
    _log_scale(size_axes, series(history, "learning_rate")[1] + series(history, "step_size")[1])
    size_axes.legend(frameon=False)
    size_axes.set_title(title)
    capped_axes.plot(*series(history, "step_capped"), color=ORANGE)
    _label(capped_axes, "", "steps at the cap")
    capped_axes.set_ylim(-0.05, 1.05)
    capped_axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _draw_bound(bound_axes, history, task)
    return figure


def _draw_bound(axes: Axes, history: LogHistory, task: Task) -> None:
    losses = series(history, "loss")[1]
    steps, bounds = series(history, "lower_bound")
    axes.plot(*series(history, "loss"), color=BLUE, label="training loss")
    # A bound such as -1e12, which switches MoMo off, would press the loss into a flat line.
    if bounds and losses and min(bounds) > -3 * max(map(abs, losses)):
        axes.plot(steps, bounds, color=VERMILION, linestyle="-.", label="lower bound")
    elif bounds:
        axes.plot([], [], color=VERMILION, linestyle="-.", label=f"lower bound: {bounds[-1]:.3g}, far below")
    _label(axes, "training step", f"loss ({task.loss_unit})")
    axes.legend(frameon=False)


def _log_scale(axes: Axes, values: Sequence[float]) -> None:
    # A warm-up starts at 0, which has no place on a log axis; with nothing above 0 there is nothing to scale.
    if any(value > 0 for value in values):
        axes.set_yscale("log", nonpositive="mask")


def _label(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=0)


def save(figure: Figure, path: Path) -> None:
    """Write a picture whole or not at all, and forget the figure."""
    figure.set_layout_engine("constrained")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=_DPI, format="png")
    plt.close(figure)
    os.replace(partial, path)
