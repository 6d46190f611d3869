"""Pictures of a run, drawn from the log of the Trainer (``trainer_state.json``, ``log_history``)."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from common.tasks import Task
from hf_momo.hub.cards.pictures import draw_step_size
from hf_momo.utils.pictures import BLUE, STYLES, VERMILION, WIDTH, LogHistory, label, new_figure, save, series


def draw_run(
    history: LogHistory, folder: Path, task: Task, title: str = "", *, step_size_is_bias_corrected: bool = True
) -> list[str]:
    """Draw the loss, the step size and, if there are any, the scores during training into the folder of a run.

    Args:
        history: ``log_history`` of the Trainer.
        folder: Folder for the pictures; older ones are replaced.
        task: Task of the run.
        title: Title of each picture, e.g. the name of the optimizer.
        step_size_is_bias_corrected: Entry of that name in the record; older records have none.

    Returns:
        The names of the pictures.
    """
    drawn = {
        "loss.png": _draw_loss(history, title, task),
        "step_size.png": draw_step_size(history, title, task.loss_unit, bias_corrected=step_size_is_bias_corrected),
    }
    score = task.scores[0].key
    if series(history, f"eval_{score}")[0]:
        drawn[f"{score}.png"] = _draw_score(history, title, task)
    for name, figure in drawn.items():
        save(figure, folder / name)
    return list(drawn)


def draw_comparison(histories: Mapping[str, LogHistory], path: Path, title: str = "") -> None:
    """Draw the training loss and, if there is any, the validation BLEU of several runs, one line per run.

    Args:
        histories: ``log_history`` of each run, by its name in the legend.
        path: File of the picture.
        title: Title of the picture.
    """
    figure = Figure(figsize=(WIDTH, 4.2))
    keys = {"loss": "training loss (nats per token)", "eval_bleu": "validation BLEU (0 to 100)"}
    shown = [key for key in keys if any(series(history, key)[0] for history in histories.values())]
    panels = dict(zip(shown, figure.subplots(1, len(shown), squeeze=False)[0], strict=True))
    for number, (name, history) in enumerate(histories.items()):
        colour, style, _ = STYLES[number % len(STYLES)]
        for key, axes in panels.items():
            marker = "o" if key == "eval_bleu" else None
            axes.plot(*series(history, key), color=colour, linestyle=style, marker=marker, markersize=4, label=name)
    for key, axes in panels.items():
        label(axes, "training step", keys[key], from_zero=True)
    if "eval_bleu" in panels:
        panels["eval_bleu"].set_ylim(bottom=0)
    # One legend outside both panels: inside it would cover the ends of the lines, which matter most.
    figure.legend(*panels[shown[0]].get_legend_handles_labels(), loc="outside lower center", frameon=False)
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
    steps, values = series(history, f"eval_{task.scores[0].key}")
    axes.plot(steps, values, color=BLUE, marker="o", label="validation, while training")
    # Three digits of a score that is at most 1 or 100.
    last = f"{values[-1]:.3f}" if task.highest_score <= 1 else f"{values[-1]:.1f}"
    axes.annotate(last, (steps[-1], values[-1]), textcoords="offset points", xytext=(0, 7), ha="center")
    label(axes, "training step", task.score_label, from_zero=True)
    axes.set_ylim(0, max(0.05 * task.highest_score, 1.15 * max(values)))
    axes.legend(frameon=False, loc="lower right")
    axes.set_title(title)
    return figure
