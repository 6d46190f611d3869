"""How to use a model, as code."""

import json
from collections.abc import Mapping
from typing import Any

from hf_momo.hub.cards.task import Record, repository

_PIPELINE = """\
```python
from transformers import pipeline

translate = pipeline("translation", model="{name}", trust_remote_code=True)
translate({example})
```

`trust_remote_code` lets transformers load `translation_pipeline.py` from the model's folder: since version 5 it has no
translation pipeline of its own. Without it, `AutoModelForSeq2SeqLM` and `AutoTokenizer` load the model as usual."""

_SEQ2SEQ = """\
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForSeq2SeqLM.from_pretrained("{name}")
tokens = model.generate(**tokenizer("Some text.", return_tensors="pt"))
print(tokenizer.batch_decode(tokens, skip_special_tokens=True))
```"""

_IMAGES = """\
```python
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

processor = AutoImageProcessor.from_pretrained("{name}")
model = AutoModelForImageClassification.from_pretrained("{name}", trust_remote_code=True)
inputs = processor(Image.open("picture.png"), return_tensors="pt")
print(model.config.id2label[model(**inputs).logits.argmax().item()])
```

`trust_remote_code` lets transformers load the model's own code from its folder, where transformers has none."""

_CLICKS = """\
```python
import torch
from transformers import AutoModel

model = AutoModel.from_pretrained("{name}", trust_remote_code=True).eval()
counts = torch.zeros(1, model.config.num_dense_features)
codes = torch.zeros(1, len(model.config.hash_sizes), dtype=torch.int64)
print(model(dense=torch.log1p(counts), categories=codes).logits.sigmoid())
```

The output is the probability of a click. `dense` takes the logarithm of 1 + count of each number, `categories` the
numbers that the hexadecimal codes are, as `recipes/click_through/criteo.py` of hf_momo reads them.
`trust_remote_code` lets transformers load the model's own code from its folder."""

_LANGUAGE = """\
```python
from transformers import pipeline

generate = pipeline("text-generation", model="{name}")
print(generate({example}, max_new_tokens=40, do_sample=True)[0]["generated_text"])
```"""

_CLASS = """\
```python
from transformers import {architecture}

model = {architecture}.from_pretrained("{name}")
```"""

_ADAPTER = """\
The model is an adapter of its base model:

```python
from peft import PeftModel
from transformers import {architecture}

model = PeftModel.from_pretrained({architecture}.from_pretrained("{base}"), "{name}")
```"""


def use_translation(record: Record) -> str:
    """With the pipeline that the recipe saves; a model of another script by its class."""
    if not record.get("samples"):
        return _SEQ2SEQ.format(name=repository(record))
    text = _PIPELINE.format(name=repository(record), example=quoted(record["samples"][0]["source"]))
    if record["settings"].get("data", {}).get("moses_tokenized"):
        text += "\n\nThe model takes and gives Moses tokens, as its training data has them, and not plain text."
    return text + "\n\n" + _samples(record["samples"])


def use_images(record: Record) -> str:
    """With its image processor."""
    return _IMAGES.format(name=repository(record))


def use_clicks(record: Record) -> str:
    """On tensors."""
    return _CLICKS.format(name=repository(record))


def use_language(record: Record) -> str:
    """With transformers' pipeline, and what came of it."""
    samples = record.get("samples") or [{"prompt": "Once upon a time"}]
    text = _LANGUAGE.format(name=repository(record), example=quoted(samples[0]["prompt"]))
    if "text" in samples[0]:
        fence = "`" * 4
        text += "\n\nFrom the end of training, drawn once and not chosen:\n\n"
        text += f"{fence}\n{samples[0]['prompt']}{samples[0]['text']}\n{fence}"
    return text


def use_class(record: Record) -> str:
    """By the class of the model, where transformers or the base model has it."""
    model = record["model"]
    options = {"architecture": model.get("architecture"), "name": repository(record), "base": record.get("base_model")}
    if record.get("library_name") == "peft":
        base = options["base"] or "the base model"
        return _ADAPTER.format(**{**options, "base": base})
    if model.get("in_transformers"):
        return _CLASS.format(**options)
    return f"The model's class, {options['architecture'] or model['type']}, comes with the code that trained it."


def quoted(text: str) -> str:
    """Text as a Python literal."""
    return json.dumps(text, ensure_ascii=False)


def _samples(samples: list[Mapping[str, Any]]) -> str:
    lines = ["Translations of the evaluation data, evenly spaced over it and not chosen:", ""]
    lines += ["| source | reference | translation |", "|---|---|---|"]
    for sample in samples:
        cells = (" ".join(sample[key].replace("|", "\\|").split()) for key in ("source", "reference", "translation"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
