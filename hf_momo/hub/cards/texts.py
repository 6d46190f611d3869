"""The task texts of a record, or those of any run of a Trainer."""

from typing import Any

from hf_momo.hub.cards.task import Record, Score, TaskTexts, article_and_type, scored_split, size
from hf_momo.hub.cards.words import count

_LOSS = Score("loss", "loss", None, 3)
_BLEU = Score("bleu", "BLEU", "bleu", 2, "signature")
_PERPLEXITY = (
    Score("perplexity", "perplexity", "perplexity", 2),
    Score("bits_per_byte", "bits per byte", "bits_per_byte", 3),
)

_TRANSLATION = """\
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repository}")
model = AutoModelForSeq2SeqLM.from_pretrained("{repository}")
tokens = model.generate(**tokenizer("Some text.", return_tensors="pt"))
print(tokenizer.batch_decode(tokens, skip_special_tokens=True))
```"""

IMAGE_USAGE = """\
```python
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

processor = AutoImageProcessor.from_pretrained("{repository}")
model = AutoModelForImageClassification.from_pretrained("{repository}", trust_remote_code=True)
inputs = processor(Image.open("picture.png"), return_tensors="pt")
print(model.config.id2label[model(**inputs).logits.argmax().item()])
```

`trust_remote_code` lets transformers load the code of a model that it does not have from the repository."""

TEXT_USAGE = """\
```python
from transformers import pipeline

generate = pipeline("text-generation", model="{repository}")
print(generate({prompt}, max_new_tokens=40, do_sample=True)[0]["generated_text"])
```"""

# Task on the Hub: kind of model, scores in the order of the table, usage.
_TASKS = {
    "text-generation": (
        "causal language model",
        (*_PERPLEXITY, _LOSS),
        TEXT_USAGE.replace("{prompt}", '"Once upon a time"'),
    ),
    "translation": (
        "encoder-decoder",
        (_BLEU, Score("chrf", "chrF", "chrf", 2, "chrf_signature"), _LOSS),
        _TRANSLATION,
    ),
    "image-classification": ("image classifier", (Score("accuracy", "accuracy", "accuracy", 4), _LOSS), IMAGE_USAGE),
}


def texts_of(record: Record) -> TaskTexts:
    """Return the task texts that a record carries, or else what can be said of any run.

    Raises:
        TypeError: If ``record["card"]`` does not have the keys of ``TaskTexts``.
    """
    card = record.get("card")
    if card is None:
        return _generic_texts(record)
    return TaskTexts(**{**card, "scores": [Score(**score) for score in card.get("scores", ())]})


def _generic_texts(record: Record) -> TaskTexts:
    name, data = record.get("task"), record["data"]
    kind, known, usage = _TASKS.get(str(name), ("model", (), ""))
    names = ", ".join(data.get("names") or filter(None, [data.get("name")]))
    split, metrics = scored_split(record["metrics"])
    scores = [score for score in known if score.key in metrics]
    others = metrics.keys() - {score.key for score in scores}
    scores += [_score(key) for key, value in metrics.items() if key in others and isinstance(value, int | float)]
    examples = {part: count(number, "example") for part, number in data.get("examples", {}).items() if number}
    trained_on = examples.get("train", "")
    evaluated_on = f"{examples[split]} of the {split} data" if split in examples else f"the {split} data"
    limits = ["The license of the data, and of the base model if there is one, applies to this model"]
    if split == "evaluation":
        limits.insert(0, "The scores are of the data that the run was evaluated on, not of a separate test set")
    return TaskTexts(
        description=f"{article_and_type(record)} {kind} with {size(record)}",
        usage=usage if usage and record.get("library_name") != "peft" else _use_class(record),
        # The task of a record that no Trainer made need not be one of the Hub.
        pipeline_tag=name if name in _TASKS or "trainer" in record else None,
        scores=scores,
        origin="fine-tuned from a checkpoint that is not on the Hub" if record.get("fine_tuned") else "trained",
        trained_on=f"{trained_on} ({names})" if trained_on and names else trained_on or names,
        evaluated_on={split: evaluated_on},
        dataset_name=names,
        limits=limits,
    )


def _score(key: str) -> Score:
    return _BLEU if key == "bleu" else Score(key, key.replace("_", " "), key, 4)


def _use_class(record: Record) -> str:
    model: Any = record["model"]
    architecture = model.get("architecture") or model["type"]
    if record.get("library_name") == "peft":
        base = record.get("base_model") or "the base model"
        load = f'PeftModel.from_pretrained({architecture}.from_pretrained("{base}"), "{{repository}}")'
        imports = f"from peft import PeftModel\nfrom transformers import {architecture}"
        return f"The model is an adapter of its base model:\n\n```python\n{imports}\n\nmodel = {load}\n```"
    if model.get("in_transformers"):
        load = f'{architecture}.from_pretrained("{{repository}}")'
        return f"```python\nfrom transformers import {architecture}\n\nmodel = {load}\n```"
    return f"The class of the model, `{architecture}`, is in the code that trained it."
