"""Pictures of a run, drawn from the log that the Trainer keeps (`trainer_state.json`, `log_history`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from hf_momo.hub.cards.pictures import draw_step_size
from hf_momo.utils.pictures import BLUE, STYLES, VERMILION, WIDTH, LogHistory, label, new_figure, save, series


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

# By the name of the task in a record.
TASKS = {
    "translation": TRANSLATION,
    "image-classification": IMAGE_CLASSIFICATION,
    "click-through-rate": CLICK_THROUGH_RATE,
    "language-modeling": LANGUAGE_MODELING,
}
# What `draw_run` may leave in a run's folder.
PICTURE_NAMES = ("loss.png", *(f"{task.score}.png" for task in TASKS.values()), "step_size.png")


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
    drawn = {
        "loss.png": _draw_loss(history, title, task),
        "step_size.png": draw_step_size(history, title, task.loss_unit),
    }
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
    figure = Figure(figsize=(WIDTH, 4.2))
    loss_axes, bleu_axes = figure.subplots(1, 2)
    for number, (name, history) in enumerate(histories.items()):
        colour, style, _ = STYLES[number % len(STYLES)]
        loss_axes.plot(*series(history, "loss"), color=colour, linestyle=style, label=name)
        bleu_axes.plot(*series(history, "eval_bleu"), color=colour, linestyle=style, marker="o", markersize=4)
    label(loss_axes, "training step", "training loss (nats per token)", from_zero=True)
    label(bleu_axes, "training step", "validation BLEU (0 to 100)", from_zero=True)
    bleu_axes.set_ylim(bottom=0)
    # One legend for both panels, outside them: inside it would cover the ends of the lines, which matter most.
    figure.legend(loc="outside lower center", frameon=False)
    figure.suptitle(title)
    save(figure, path)


def _draw_loss(history: LogHistory, title: str, task: Task) -> Figure:
    figure, axes = new_figure()
    axes.plot(*series(history, "loss"), color=BLUE, label="training, mean since the last point")
    if series(history, "eval_loss")[0]:
        axes.plot(*series(history, "eval_loss"), color=VERMILION, marker="o", linestyle="--", label="validation")
    label(axes, "training step", f"loss ({task.loss_unit})", from_zero=True)
    axes.legend(frameon=False)
    axes.set_title(title)
    return figure


def _draw_score(history: LogHistory, title: str, task: Task) -> Figure:
    figure, axes = new_figure()
    steps, values = series(history, f"eval_{task.score}")
    axes.plot(steps, values, color=BLUE, marker="o", label="validation, while training")
    # Three digits of what is at most 1 or 100.
    last = f"{values[-1]:.3f}" if task.highest_score <= 1 else f"{values[-1]:.1f}"
    axes.annotate(last, (steps[-1], values[-1]), textcoords="offset points", xytext=(0, 7), ha="center")
    label(axes, "training step", task.score_label, from_zero=True)
    axes.set_ylim(0, max(0.05 * task.highest_score, 1.15 * max(values)))
    axes.legend(frameon=False, loc="lower right")
    axes.set_title(title)
    return figure
