"""The table of scores: the model of the card in its first row, other runs below it."""

from typing import Any

from hf_momo.hub.cards.task import Record, Score, momo_curve, scored_split
from hf_momo.hub.cards.tasks import task_of
from hf_momo.hub.cards.training import capped_by_quarter, capped_share
from hf_momo.hub.cards.words import cell, number, table

_SETTINGS = ("optim", "optim_args", "learning_rate", "lr_scheduler_type", "max_grad_norm")
_RUN = ("command", "model", "optimizer", "steps", "epochs", "seed", "versions", "hardware", "metrics")


def summarize(record: Record) -> dict[str, Any]:
    """What the card of another run says about this one in its table.

    Args:
        record: Of a run of the same task.
    """
    training = record["settings"]["training"]
    curve = momo_curve(record)
    return {
        **{key: training.get(key) for key in _SETTINGS},
        **{key: record[key] for key in _RUN},
        "capped": capped_share(curve) if curve else None,
        "capped_by_quarter": capped_by_quarter(curve) if curve else None,
    }


def results(record: Record) -> str:
    """The table, with what was scored and how below it."""
    split, metrics = scored_split(record["metrics"])
    if not metrics:
        return "The model was not evaluated."
    task = task_of(record)
    scores = [score for score in task.scores if score.key in metrics]
    comparisons = record.get("comparisons") or []
    rows = [_row(row, scores, split) for row in (summarize(record), *comparisons)]
    header = ["optimizer", "betas", "clipped at", "model", "schedule", "cap or learning rate", "steps", "seed"]
    header += ["capped steps (by quarter of the run)", *(f"{split} {score.name}" for score in scores)]
    first = "The first row is this model." if comparisons else ""
    scored = task.evaluated_on(record, split)
    below = [first, f"Scored on {scored}." if scored else "", *_signatures(scores, metrics)]
    return f"{table(header, rows)}\n\n{' '.join(each for each in below if each)}"


def _row(row: Record, scores: list[Score], split: str) -> list[str]:
    metrics = row["metrics"].get(split) or {}
    optimizer = row["optimizer"]
    return [
        f"`{row['optim']}`" + (f" with `{row['optim_args']}`" if row["optim_args"] else ""),
        _exact(optimizer.get("betas", optimizer.get("beta", optimizer.get("momentum")))),
        cell(row["max_grad_norm"]) if row["max_grad_norm"] else "",
        str(row["model"]["type"]),
        str(row["lr_scheduler_type"] or ""),
        f"{row['learning_rate']:g}",
        f"{row['steps']:,}",
        str(row["seed"]),
        _capped(row),
        *(number(metrics.get(score.key), score.digits) for score in scores),
    ]


def _exact(value: Any) -> str:
    return "" if value is None else str(value)


def _capped(row: Record) -> str:
    if row["capped"] is None:
        return ""
    # Rows of cards made before quarters were counted have none.
    quarters = ", ".join(format(share, ".0%") for share in row.get("capped_by_quarter") or [])
    return format(row["capped"], ".1%") + (f" ({quarters})" if quarters else "")


def _signatures(scores: list[Score], metrics: Record) -> list[str]:
    signed = [(each.name, metrics[each.signature]) for each in scores if each.signature and each.signature in metrics]
    sentences = ["; ".join(f"{name} `{signature}`" for name, signature in signed) + "."] if signed else []
    if len(signed) > 2:
        sentences.append(
            f"BLEU and chrF are of the detokenized text. {signed[-1][0]} is another score, of the Moses tokens in "
            "lower case, as the literature reports it for such data."
        )
    return sentences
