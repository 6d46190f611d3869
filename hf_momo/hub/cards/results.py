"""The table of scores: the model of the card in its first row, runs that it is compared with below."""

from typing import Any

from hf_momo.hub.cards.task import Record, Score, TaskTexts, momo_curve, scored_split
from hf_momo.hub.cards.training import capped_by_quarter, capped_share
from hf_momo.hub.cards.words import cell, number, table

_SETTINGS = ("optim", "optim_args", "learning_rate", "lr_scheduler_type", "max_grad_norm")
_RUN = ("command", "model", "optimizer", "steps", "epochs", "seed", "versions", "hardware", "metrics")
# Options of optimizers for the weights of their averages.
_BETAS = ("betas", "beta", "momentum")


def summarize(record: Record) -> dict[str, Any]:
    """Return the part of a record that the card of another run of the same task needs for its table."""
    training = record["settings"]["training"]
    curve = momo_curve(record)
    return {
        **{key: training.get(key) for key in _SETTINGS},
        **{key: record[key] for key in _RUN},
        "capped": capped_share(curve) if curve else None,
        "capped_by_quarter": capped_by_quarter(curve) if curve else None,
    }


def results(record: Record, texts: TaskTexts) -> str:
    """Return the table, with what was scored and how below it."""
    split, metrics = scored_split(record["metrics"])
    if not metrics:
        return "The model was not evaluated."
    scores = [score for score in texts.scores if score.key in metrics]
    comparisons = record.get("comparisons") or []
    rows = [_row(row, scores, split) for row in (summarize(record), *comparisons)]
    header = ["optimizer", "betas", "clipped at", "model", "schedule", "cap or learning rate", "steps", "seed"]
    header += ["capped steps (by quarter of the run)", *(f"{split} {score.name}" for score in scores)]
    first = "The first row is this model." if comparisons else ""
    scored = texts.evaluated_on.get(split)
    below = [first, f"Scored on {scored}." if scored else "", _signatures(scores, metrics), texts.scores_note]
    return f"{table(header, rows)}\n\n{' '.join(each for each in below if each)}"


def _row(row: Record, scores: list[Score], split: str) -> list[str]:
    metrics = row["metrics"].get(split) or {}
    betas = [str(row["optimizer"][name]) for name in _BETAS if row["optimizer"].get(name) is not None]
    return [
        f"`{row['optim']}`" + (f" with `{row['optim_args']}`" if row["optim_args"] else ""),
        betas[0] if betas else "",
        cell(row["max_grad_norm"]) if row["max_grad_norm"] else "",
        str(row["model"]["type"]),
        str(row["lr_scheduler_type"] or ""),
        f"{row['learning_rate']:g}",
        f"{row['steps']:,}",
        str(row["seed"]),
        _capped(row),
        *(number(metrics.get(score.key), score.digits) for score in scores),
    ]


def _capped(row: Record) -> str:
    if row["capped"] is None:
        return ""
    # Older records do not hold the shares by quarter.
    quarters = ", ".join(format(share, ".0%") for share in row.get("capped_by_quarter") or [])
    return format(row["capped"], ".1%") + (f" ({quarters})" if quarters else "")


def _signatures(scores: list[Score], metrics: Record) -> str:
    signatures = {each.name: metrics.get(each.signature) for each in scores if each.signature}
    signed = [f"{name} `{signature}`" for name, signature in signatures.items() if signature]
    return f"{'; '.join(signed)}." if signed else ""
