"""The translation task: its scores, and the texts of its model card."""

import json
from typing import Any

from common.tasks import Task
from hf_momo.hub.cards.task import Record, Score, article_and_type, scored_split, size
from hf_momo.hub.cards.words import cell, count

# BLEU of Moses tokens, which is not comparable with BLEU of text.
TOKENIZED_BLEU = "bleu_tokenized_lowercased"

_USAGE = """\
```python
from transformers import pipeline

translate = pipeline("translation", model="{repository}", trust_remote_code=True)
translate({example})
```

`trust_remote_code` lets transformers load `translation_pipeline.py` from the repository: since version 5 it has no
translation pipeline of its own. Without it, `AutoModelForSeq2SeqLM` and `AutoTokenizer` load the model as usual.
"""
_ADAPTER_USAGE = """\
The repository holds LoRA adapters, which PEFT adds to their base model:

```python
from peft import AutoPeftModelForSeq2SeqLM
from transformers import AutoTokenizer, GenerationConfig

model = AutoPeftModelForSeq2SeqLM.from_pretrained("{repository}")
tokenizer = AutoTokenizer.from_pretrained("{repository}")
settings = GenerationConfig.from_pretrained("{repository}")
tokens = model.generate(**tokenizer({example}, return_tensors="pt"), generation_config=settings)
print(tokenizer.decode(tokens[0], skip_special_tokens=True))
```
"""
_SAMPLES = """
Translations of evaluation sentences at even intervals, not selected:

| source | reference | translation |
|---|---|---|
"""
_TOKENIZED_NOTE = (
    f"BLEU and chrF are of the detokenized text. {TOKENIZED_BLEU} is of the lower-cased Moses tokens, as the "
    "literature reports it for such data, and not comparable with BLEU."
)


class _Translation(Task):
    name = "translation"
    pipeline_tag = "translation"
    scores = (
        Score("bleu", "BLEU", "bleu", 2, "signature"),
        Score("chrf", "chrF", "chrf", 2, "chrf_signature"),
        Score("loss", "loss", None, 3),
        Score(TOKENIZED_BLEU, TOKENIZED_BLEU, None, 2, f"{TOKENIZED_BLEU}_signature"),
    )
    score_label = "BLEU (0 to 100)"
    highest_score = 100.0
    loss_unit = "nats per token"
    parts = {"max_train_samples": None, "max_eval_samples": "validation", "max_predict_samples": "test"}  # noqa: RUF012

    def description(self, record: Record) -> str:
        data = record["data"]
        pair = f" that translates {data['source_lang']} to {data['target_lang']}" if data.get("source_lang") else ""
        return f"{article_and_type(record)} encoder-decoder with {size(record)}{pair}"

    def trained_on(self, record: Record) -> str:
        data = record["data"]
        source = f"the {data['name']} data" if data["name"] else f"{data['files']['train']} and its translation"
        return f"{count(data['pairs']['train'], 'sentence pair')} ({source})"

    def evaluated_on(self, record: Record, split: str) -> str:
        settings = record["settings"]
        beams = settings["data"]["num_beams"] or settings["training"].get("generation_num_beams") or 1
        return f"{count(record['data']['pairs'][split], 'sentence')} of {split}, beam {beams}"

    def usage(self, record: Record) -> str:
        samples = record.get("samples") or []
        is_adapter = record.get("library_name") == "peft"
        # A pipeline puts the prefix in front by itself.
        prefix = (record["settings"]["data"].get("source_prefix") or "") if is_adapter else ""
        example = json.dumps(prefix + (samples[0]["source"] if samples else "Ein Hund."), ensure_ascii=False)
        text = (_ADAPTER_USAGE if is_adapter else _USAGE).replace("{example}", example)
        if record["settings"]["data"].get("moses_tokenized"):
            text += "\nThe model reads and writes Moses tokens, like its training data, and not plain text.\n"
        rows = [[cell(sample[key]) for key in ("source", "reference", "translation")] for sample in samples]
        return text + (_SAMPLES if rows else "") + "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def limits(self, record: Record) -> list[str]:
        limits, data = super().limits(record), record["data"]
        if data.get("name") == "embedded":
            limits.append(
                "The sentences are synthetic: a small hand-written grammar of German and English generates them, so "
                "the scores say nothing about real translation"
            )
        elif not record["settings"]["model"]["model_name_or_path"]:
            limits.append(
                f"The model was trained on no more than {data['pairs']['train']:,} sentence pairs, so expect poor "
                "translations of other kinds of text"
            )
        return limits

    def texts(self, record: Record) -> dict[str, Any]:
        data = record["data"]
        texts = super().texts(record)
        texts["languages"] = [data[side] for side in ("source_lang", "target_lang") if data.get(side)]
        texts["dataset_type"] = "" if data.get("name") else "parallel-text"
        texts["scores_note"] = _TOKENIZED_NOTE if TOKENIZED_BLEU in scored_split(record["metrics"])[1] else ""
        return texts


TRANSLATION = _Translation()
