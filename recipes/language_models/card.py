"""The language modeling task: its scores, and the texts of its model card."""

import json

from common.tasks import Task
from hf_momo.hub.cards.task import Record, Score, article_and_type, size
from hf_momo.hub.cards.texts import TEXT_USAGE
from hf_momo.hub.cards.words import count

# The fence is longer than any in a sample.
_SAMPLE = """

Text of the trained model, drawn once and not selected:

````
{text}
````"""


class _LanguageModeling(Task):
    name = "language-modeling"
    pipeline_tag = "text-generation"
    scores = (
        Score("perplexity", "perplexity", "perplexity", 2),
        Score("bits_per_byte", "bits per byte", "bits_per_byte", 3),
        Score("loss", "loss", None, 3),
    )
    score_label = "perplexity of a token"
    highest_score = 100.0
    loss_unit = "nats per token"

    def description(self, record: Record) -> str:
        return f"{article_and_type(record)} causal language model with {size(record)}"

    def trained_on(self, record: Record) -> str:
        data = record["data"]
        name = data["name"] or (data.get("files") or {}).get("train") or "text"
        return f"{count(data['tokens']['train'], 'token')} ({name})"

    def evaluated_on(self, record: Record, split: str) -> str:
        tokens = count(record["data"]["tokens"][split], "token")
        return f"{tokens} of {split}; perplexity is per token of the model's own tokenizer"

    def usage(self, record: Record) -> str:
        sample = next(iter(record.get("samples") or []), {"prompt": "Once upon a time"})
        usage = TEXT_USAGE.replace("{prompt}", json.dumps(sample["prompt"], ensure_ascii=False))
        return usage + (_SAMPLE.replace("{text}", sample["prompt"] + sample["text"]) if "text" in sample else "")


LANGUAGE_MODELING = _LanguageModeling()
