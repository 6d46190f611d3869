"""The metadata block of a card, as the Hub understands it."""

import math
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hf_momo.hub.cards.task import Record, Task, model_name, optim, scored_split
from hf_momo.hub.cards.tasks import task_of

# What stands for the data set of a score where it has no name.
_NO_NAME = "private data"


def card_data(record: Record) -> ModelCardData:
    """The metadata of a model, its scores as a model-index.

    Names of base model and data sets come from the record's `base_model` and `datasets`, where only those of the Hub
    stand: it rejects a path there.

    Raises:
        ValueError: From huggingface_hub, if they are not valid.
    """
    task = task_of(record)
    results = _eval_results(record, task)
    data = record["data"]
    languages = record.get("languages") or [data[key] for key in ("source_lang", "target_lang") if data.get(key)]
    tags = [task.pipeline_tag, record.get("task"), *record.get("tags", []), "hf_momo", optim(record)]
    return ModelCardData(
        language=languages or None,
        license=record.get("license"),
        base_model=record.get("base_model"),
        datasets=record.get("datasets") or None,
        library_name=record.get("library_name", "transformers"),
        pipeline_tag=task.pipeline_tag,
        tags=[tag for tag in dict.fromkeys(tags) if tag],
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        # Without scores it would stand in the block as a key that the Hub does not know.
        model_name=model_name(record) if results else None,
        eval_results=results or None,
    )


def _eval_results(record: Record, task: Task) -> list[EvalResult]:
    split, metrics = scored_split(record["metrics"])
    name = _data_name(record, split)
    results = []
    for score in task.scores:
        value = metrics.get(score.key)
        # Of a run that diverged: "nan" is no number in the JSON that the Hub makes of this block.
        if score.metric is None or not isinstance(value, int | float) or not math.isfinite(value):
            continue
        signature: Any = metrics.get(score.signature) if score.signature else None
        results.append(
            EvalResult(
                task_type=task.pipeline_tag or str(record.get("task") or "other"),
                dataset_type=_data_type(record, name),
                dataset_name=name,
                dataset_split=None if split == "evaluation" else split,
                metric_type=score.metric,
                metric_name=score.name,
                metric_value=round(value, score.digits),
                metric_args={"signature": signature} if signature else None,
            )
        )
    return results


def _data_name(record: Record, split: str) -> str:
    """The data set's own name, or the file that was scored."""
    data = record["data"]
    files = data.get("files") or {}
    scored = files.get(split)
    scored = scored[0] if isinstance(scored, list) else scored
    return str(data.get("name") or ", ".join(data.get("names") or []) or scored or _NO_NAME)


def _data_type(record: Record, name: str) -> str:
    """Its name on the Hub; where it has none, one word for it."""
    hub = record.get("datasets") or []
    if hub:
        return str(hub[0])
    data = record["data"]
    if data.get("source_lang") and not data.get("name"):
        return "parallel-text"
    return "-".join("".join(letter if letter.isalnum() or letter in "._-" else " " for letter in name.lower()).split())
