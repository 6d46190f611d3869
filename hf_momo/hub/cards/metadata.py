"""The metadata block of a card, as the Hub understands it."""

import math
import re
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hf_momo.hub.cards.task import Record, TaskTexts, model_name, optim, scored_split


def card_data(record: Record, texts: TaskTexts) -> ModelCardData:
    """Return the metadata of a model, with its scores as a model index.

    ``base_model`` and ``datasets`` of the record must be names on the Hub, which rejects a path there.

    Raises:
        ValueError: If huggingface_hub refuses them.
    """
    results = _eval_results(record, texts)
    tags = [texts.pipeline_tag, record.get("task"), *record.get("tags", []), "hf_momo", optim(record)]
    return ModelCardData(
        language=record.get("languages") or list(texts.languages) or None,
        license=record.get("license"),
        base_model=record.get("base_model"),
        datasets=record.get("datasets") or None,
        library_name=record.get("library_name", "transformers"),
        pipeline_tag=texts.pipeline_tag,
        tags=[tag for tag in dict.fromkeys(tags) if tag],
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        # Without scores the block would hold it under a key that the Hub does not know.
        model_name=model_name(record) if results else None,
        eval_results=results or None,
    )


def _eval_results(record: Record, texts: TaskTexts) -> list[EvalResult]:
    split, metrics = scored_split(record["metrics"])
    name = texts.dataset_name or "private data"
    slug = "-".join(re.sub(r"[^\w.-]", " ", name.lower()).split())
    results = []
    for score in texts.scores:
        value = metrics.get(score.key)
        # A run that diverged has "nan" scores, which the JSON that the Hub makes of this block cannot hold.
        if score.metric is None or not isinstance(value, int | float) or not math.isfinite(value):
            continue
        signature: Any = metrics.get(score.signature) if score.signature else None
        results.append(
            EvalResult(
                task_type=texts.pipeline_tag or str(record.get("task") or "other"),
                dataset_type=(record.get("datasets") or [texts.dataset_type or slug])[0],
                dataset_name=name,
                dataset_split=None if split == "evaluation" else split,
                metric_type=score.metric,
                metric_name=score.name,
                metric_value=round(value, score.digits),
                metric_args={"signature": signature} if signature else None,
            )
        )
    return results
