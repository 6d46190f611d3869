"""The card of a study as a page."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_momo.sweep.grid import format_rate
from study_card.cells import Cell

_NOTE = """\
Mean and sample standard deviation over {seeds}, in percent, of the last epoch and not the best one. *Diverged* is how
many runs ended with a loss that is not a number; they count with the score that their model ended with. Of {compared}
cells with a published value {agreeing} agree: their means are no more than {tolerance:g} points apart, or both have
learnt next to nothing (up to twice the score of guessing)."""


def render_page(
    cells: Sequence[Cell],
    runs: Sequence[Mapping[str, Any]],
    title: str,
    metric: str,
    reference: str,
    tolerance: float,
) -> str:
    """The page, with the picture that lies beside it.

    Args:
        cells: What the table shows.
        runs: Of which they were made.
        title: The heading.
        metric: Key of the score.
        reference: What the published values are called.
        tolerance: As in the cells.
    """
    header = ("optimizer", "learning rate or cap", metric, "diverged", reference, "difference", "agrees")
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    lines += ["| " + " | ".join(_row(cell)) + " |" for cell in cells]
    seeds = sorted({run["seed"] for run in runs})
    compared = [cell for cell in cells if cell.agrees is not None]
    note = _NOTE.format(
        seeds=f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}",
        compared=len(compared),
        agreeing=sum(cell.agrees is True for cell in compared),
        tolerance=100 * tolerance,
    )
    return (
        "\n\n".join([f"# {title}", "![score by learning rate](score.png)", "\n".join(lines), note, _how(runs)]) + "\n"
    )


def _row(cell: Cell) -> tuple[str, ...]:
    published, difference = "", ""
    if cell.published is not None:
        published = _percent(*cell.published)
        difference = f"{100 * (cell.mean - cell.published[0]):+.2f}"
    verdict = "" if cell.agrees is None else "yes" if cell.agrees else "**no**"
    mean = _percent(cell.mean, cell.deviation)
    diverged = str(cell.diverged) if cell.diverged else ""
    return (f"`{cell.optimizer}`", format_rate(cell.learning_rate), mean, diverged, published, difference, verdict)


def _percent(mean: float, deviation: float | None) -> str:
    return f"{100 * mean:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def _how(runs: Sequence[Mapping[str, Any]]) -> str:
    first = runs[0]
    seconds = sorted(run["train_runtime"] for run in runs if run["train_runtime"] is not None)
    hardware, versions = first["hardware"], first["versions"]
    machine = ", ".join(
        [str(hardware["device"]), *([f"{hardware['threads']} thread a run"] if hardware.get("threads") == 1 else [])]
    )
    splits = ", ".join(f"{count:,} {name}" for name, count in first["data"]["splits"].items())
    return (
        f"{len(runs)} runs of {first['steps']:,} steps on {splits} images ({first['data']['name']}), training for "
        f"{seconds[0]:.0f} to {seconds[-1]:.0f} seconds each ({machine}); "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + f". The first of them:\n\n```\n{first['command']}\n```\n\nrecord.json has every run."
    )
