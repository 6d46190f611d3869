"""The page of a study."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

from hf_momo.hub.cards import MARKER
from hf_momo.hub.cards.words import count, table
from hf_momo.sweep.grid import format_rate
from study_card.cells import Cell, format_score, read_cells
from study_card.picture import LEAST_RATES, drawn_optimizers
from study_card.widths import widths_table

PICTURE = "score.png"
_COMPARED = """\
Of {compared} cells with a published value, {agreeing} agree: the means differ by at most {tolerance:g} points, or \
both are at most twice the score of guessing."""

# Names of further scores in the table, by split and key.
_OTHER_SCORES = {
    ("validation", "loss"): "validation loss",
    ("validation", "perplexity"): "perplexity",
    ("validation", "auc"): "validation AUC",
    ("test", "loss"): "test loss",
    ("test", "auc"): "test AUC",
}

Record = Mapping[str, Any]


def render_study(record: Record, reference: Mapping[tuple[str, float], tuple[float, float]]) -> str:
    """Return the page, which shows the picture in the same folder.

    Args:
        record: Record of a study. Scores are shown with ``digits`` digits; without this key, in percent.
        reference: Published means and deviations; may be empty.

    Returns:
        Markdown with a metadata block.
    """
    cells = read_cells(record["runs"], reference, record["chance"], record["tolerance"])
    optimizers = list(dict.fromkeys(cell.optimizer.split(",")[0] for cell in cells))
    data = ModelCardData(library_name="transformers", tags=["hf_momo", "learning-rate-study", *optimizers])
    sections = [
        f"---\n{data.to_yaml()}\n---",
        f"<!-- {MARKER} -->",
        f"# {record['title']}",
        f"![score by learning rate]({PICTURE})",
        _cells_table(cells, record),
        _note(cells, record),
        *([widths_table(cells, record)] if record.get("bases") else []),
        _how(record["runs"]),
    ]
    notes = record.get("notes") or []
    limits = [*notes, "This folder holds the scores of a study, and no model"]
    sections += ["## Limits", "\n".join(f"- {limit.rstrip('.')}." for limit in limits)]
    return "\n\n".join(sections) + "\n"


def _cells_table(cells: Sequence[Cell], record: Record) -> str:
    name = record.get("metric_name") or record["metric"]
    reference = record.get("reference_name", "paper")
    others = [each for each in _OTHER_SCORES if _others(cells[0], each, record) is not None]
    header = ["optimizer", "learning rate or cap", name, "diverged", reference, "difference", "agrees"]
    header += [*(_OTHER_SCORES[each] for each in others), "steps at the cap"]
    rows = []
    for cell in cells:
        # A loss is no share, whatever the study's own score is.
        shown = {"digits": record.get("digits") or 3}
        beside = [format_score(*(_others(cell, each, record) or (0.0, None)), shown) for each in others]
        capped = [run["capped"] for run in _runs(cell, record) if run.get("capped") is not None]
        rows.append([*_row(cell, record), *beside, f"{statistics.fmean(capped):.0%}" if capped else ""])
    return table(header, rows)


def _row(cell: Cell, record: Record) -> list[str]:
    published, difference = "", ""
    if cell.published is not None:
        published = format_score(*cell.published, record)
        difference = f"{100 * (cell.mean - cell.published[0]):+.2f}"
    verdict = "" if cell.agrees is None else "yes" if cell.agrees else "**no**"
    mean = format_score(cell.mean, cell.deviation, record)
    diverged = str(cell.diverged) if cell.diverged else ""
    return [f"`{cell.optimizer}`", format_rate(cell.learning_rate), mean, diverged, published, difference, verdict]


def _runs(cell: Cell, record: Record) -> list[Record]:
    point = (cell.optimizer, cell.learning_rate)
    return [run for run in record["runs"] if (run["optimizer"], run["learning_rate"]) == point]


def _others(cell: Cell, score: tuple[str, str], record: Record) -> tuple[float, float | None] | None:
    """Return mean and deviation of a further score; ``None`` if a run lacks it or it is the study's own score."""
    split, key = score
    values = [((run.get("metrics") or {}).get(split) or {}).get(key) for run in _runs(cell, record)]
    found = [value for value in values if isinstance(value, int | float)]
    if len(found) < len(values) or tuple(found) == cell.scores:
        return None
    return statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None


def _note(cells: Sequence[Cell], record: Record) -> str:
    seeds = sorted({run["seed"] for run in record["runs"]})
    several = f"Mean and sample standard deviation over seeds {', '.join(map(str, seeds))}"
    shown = several if len(seeds) > 1 else f"The score of seed {seeds[0]}"
    percent = ", in percent" if record.get("digits") is None else ""
    sentences = [f"{shown}{percent}, at the end of training (not the best score)."]
    if any(cell.diverged for cell in cells):
        sentences.append(
            "*Diverged* is the number of runs whose loss was not finite at the end; they count with the score of "
            "their last model."
        )
    if len(drawn_optimizers(cells, record.get("bases", ()))) < len({cell.optimizer for cell in cells}):
        sentences.append(f"The picture shows those with at least {LEAST_RATES} learning rates and the bases.")
    compared = [cell for cell in cells if cell.agrees is not None]
    if compared:
        agreeing = sum(cell.agrees is True for cell in compared)
        tolerance = 100 * record["tolerance"]
        sentences.append(_COMPARED.format(compared=len(compared), agreeing=agreeing, tolerance=tolerance))
    return " ".join(sentences)


def _how(runs: Sequence[Record]) -> str:
    first = runs[0]
    seconds = sorted(run["train_runtime"] for run in runs if run["train_runtime"] is not None)
    hardware, versions = first["hardware"], first["versions"]
    threads = ["1 thread per run"] if hardware.get("threads") == 1 else []
    machine = ", ".join([str(hardware["device"]), *threads])
    return (
        f"{len(runs)} runs of {first['steps']:,} steps on {_data(first)}; "
        f"{seconds[0]:.0f} to {seconds[-1]:.0f} seconds of training per run ({machine}); "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + f". The command of the first run:\n\n```\n{first['command']}\n```\n\n`record.json` lists every run."
    )


def _data(run: Record) -> str:
    data = run["data"]
    for key, unit in (("pairs", "sentence pairs"), ("splits", "images"), ("tokens", "tokens")):
        if key in data:
            sizes = ", ".join(f"{number:,} {split}" for split, number in data[key].items())
            return f"{sizes} {unit} ({data['name'] or ', '.join(data['files'].values())})"
    scored = [f"{scores['rows']:,} of {split}" for split, scores in (run.get("metrics") or {}).items()]
    also = f" (and {' and '.join(scored)})" if scored else ""
    return f"{count(run['rows'], 'row')}{also}: {data['name']}"
