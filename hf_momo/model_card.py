"""A Hub model card from the record of a run: every number in the text comes from the record.

The record is the JSON that a recipe leaves as ``record.json``; README.md can be made from it again at any time.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]

# The second score of a model on Moses-tokenized text, which must not be taken for the first.
TOKENIZED_BLEU = "bleu_tokenized_lowercased"

_USAGE = """\
```python
from transformers import pipeline

translate = pipeline("translation", model="{name}", trust_remote_code=True)
translate({example})
```

`trust_remote_code` lets transformers load `translation_pipeline.py` from the model's folder: since version 5 it has no
translation pipeline of its own. Without it, `AutoModelForSeq2SeqLM` and `AutoTokenizer` load the model as usual.
"""


def write_model_card(record: Record, folder: str | Path) -> None:
    """Write ``record.json`` and the ``README.md`` made from it.

    Args:
        record: The record of a run.
        folder: Made where it does not exist.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(render_model_card(record), encoding="utf-8")


def render_model_card(record: Record) -> str:
    """Render the model card of a translation run.

    Args:
        record: The record of a run, as ``recipes/translation.py`` leaves it. Optional keys: ``name`` (of the model),
            ``comparisons`` (summaries of other runs, see ``summarize``) and ``pictures`` (file names).

    Returns:
        Markdown with the metadata block of the Hub.
    """
    sections = [
        f"---\n{_metadata(record)}\n---",
        f"# {_name(record)}",
        _opening(record),
        "## Results",
        _results(record),
        "## What the step size did",
        _step_size(record),
        *(f"![{Path(picture).stem.replace('_', ' ')}]({picture})" for picture in record.get("pictures", [])),
        "## How to use it",
        _usage(record),
        "Translations of the test data, evenly spaced over it and not chosen:",
        _samples(record["samples"]),
        "## How it was trained",
        _training(record),
        "## Limits",
        _limits(record),
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _usage(record: Record) -> str:
    source = record["samples"][0]["source"]
    usage = _USAGE.format(name=_name(record), example=json.dumps(source, ensure_ascii=False))
    if record["settings"]["data"].get("moses_tokenized"):
        usage += "\nThe model takes and gives Moses tokens, as its training data has them, and not plain text.\n"
    return usage


def summarize(record: Record) -> dict[str, Any]:
    """What the card of another run says about this one in its table."""
    keys = ("command", "model", "optimizer", "steps", "epochs", "seed", "versions", "hardware", "metrics")
    training = record["settings"]["training"]
    settings = ("optim", "optim_args", "learning_rate", "lr_scheduler_type", "max_grad_norm")
    chosen = {key: training[key] for key in settings}
    curve = [entry for entry in record["curve"] if "step_size" in entry]
    capped = {
        "capped": _capped_share(curve, 0.0, 1.0) if curve else None,
        "capped_by_quarter": [_capped_share(curve, k / 4, (k + 1) / 4) for k in range(4)] if curve else None,
    }
    return chosen | {key: record[key] for key in keys} | capped


def _metadata(record: Record) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    data, optim = record["data"], record["settings"]["training"]["optim"]
    split, metrics = _scored_split(record["metrics"])
    dataset: dict[str, Any] = {
        "dataset_name": _data_name(record),
        "dataset_type": data["name"] or "parallel-text",
        "dataset_split": split,
    }
    values = (("bleu", "BLEU", "signature"), ("chrf", "chrF", "chrf_signature"))
    results = [
        EvalResult(
            task_type="translation",
            metric_type=kind,
            metric_name=name,
            metric_value=round(metrics[kind], 2),
            metric_args={"signature": metrics[signature]},
            **dataset,
        )
        for kind, name, signature in values
    ]
    return ModelCardData(
        language=[data["source_lang"], data["target_lang"]],
        library_name="transformers",
        pipeline_tag="translation",
        tags=["translation", "hf_momo", optim],
        metrics=["bleu", "chrf"],
        model_name=_name(record),
        eval_results=results,
    ).to_yaml()


def _name(record: Record) -> str:
    data, optim = record["data"], record["settings"]["training"]["optim"]
    return str(record.get("name") or f"{data['source_lang']}-{data['target_lang']}-{optim}")


def _data_name(record: Record) -> str:
    """The data set's own name, or the file that was scored."""
    data = record["data"]
    files = data["files"] or {}
    return str(data["name"] or files.get(_scored_split(record["metrics"])[0]) or "parallel text")


def _scored_split(metrics: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The split whose score counts: test where there is one."""
    split = "test" if "test" in metrics else "validation"
    return split, metrics[split]


def _opening(record: Record) -> str:
    model, data, settings = record["model"], record["data"], record["settings"]
    base = settings["model"]["model_name_or_path"]
    origin = f"fine-tuned from {base}" if base else "trained from scratch"
    source = f"the {data['name']} data" if data["name"] else f"{data['files']['train']} and its translation"
    is_momo = any("step_size" in entry for entry in record["curve"])
    momo = ", whose learning rate is a cap on an adaptive step size ([MoMo](https://arxiv.org/abs/2305.07583))"
    return (
        f"A {model['type']} encoder-decoder with {model['parameters']:,} parameters that translates "
        f"{data['source_lang']} to {data['target_lang']}, {origin} on {data['pairs']['train']:,} sentence pairs "
        f"({source}) with `{settings['training']['optim']}`{momo if is_momo else ''}."
    )


def _results(record: Record) -> str:
    rows = [summarize(record), *record.get("comparisons", [])]
    split, metrics = _scored_split(record["metrics"])
    tokenized = TOKENIZED_BLEU in metrics
    lines = [
        f"| optimizer | betas | clipped at | model | schedule | learning rate | steps | seed "
        f"| capped steps (by quarter of the run) | {split} BLEU | {split} chrF | {split} loss |"
        + (f" {TOKENIZED_BLEU} |" if tokenized else ""),
        "|" + "---|" * (13 if tokenized else 12),
    ]
    for row in rows:
        scores = row["metrics"][split]
        lines.append(
            f"| {_optimizer_cell(row)} | {_cell(row['optimizer'].get('betas', ''))} | {row['max_grad_norm'] or ''} "
            f"| {row['model']['type']} | {row['lr_scheduler_type']} "
            f"| {row['learning_rate']:g} | {row['steps']:,} | {row['seed']} "
            f"| {_capped_cell(row)} "
            f"| {scores['bleu']:.2f} | {scores['chrf']:.2f} | {scores['loss']:.3f} |"
            + (f" {scores[TOKENIZED_BLEU]:.2f} |" if tokenized else "")
        )
    settings = record["settings"]
    beams = settings["data"]["num_beams"] or settings["training"].get("generation_num_beams") or 1
    below = (
        f"The first row is this model. {_count(record['data']['pairs'][split], 'sentence')}, beam {beams}; BLEU "
        f"`{metrics['signature']}`, chrF `{metrics['chrf_signature']}`."
    )
    if tokenized:
        below += (
            f" BLEU and chrF are of the detokenized text. {TOKENIZED_BLEU} is another score, of the Moses tokens in "
            f"lower case, as the literature reports it for such data: `{metrics[f'{TOKENIZED_BLEU}_signature']}`."
        )
    return "\n".join([*lines, "", below])


def _optimizer_cell(row: Record) -> str:
    return f"`{row['optim']}`" + (f" with `{row['optim_args']}`" if row["optim_args"] else "")


def _capped_cell(row: Record) -> str:
    if row["capped"] is None:
        return ""
    # Rows of cards made before quarters were counted have none.
    quarters = ", ".join(format(share, ".0%") for share in row.get("capped_by_quarter") or [])
    return format(row["capped"], ".1%") + (f" ({quarters})" if quarters else "")


def _step_size(record: Record) -> str:
    curve = [entry for entry in record["curve"] if "step_size" in entry]
    if not curve:
        return "This optimizer takes the learning rate as it is; only MoMo's adapt the step size."
    shares = [_capped_share(curve, low, high) for low, high in ((0.0, 1.0), (0.0, 0.25), (0.75, 1.0))]
    sizes = [entry["step_size"] for entry in curve if entry["step_size"] > 0]
    bounds = [entry["lower_bound"] for entry in curve]
    bound = (
        f"The lower bound of the loss was {bounds[0]:g} throughout."
        if min(bounds) == max(bounds)
        else f"The lower bound of the loss began at {bounds[0]:.3g} and ended at {bounds[-1]:.3g}, "
        f"between {min(bounds):.3g} and {max(bounds):.3g} on the way."
    )
    caps = [entry["learning_rate"] for entry in curve if entry["learning_rate"] > 0]
    skipped = int(curve[-1]["skipped_steps"])
    were = f"{_count(skipped, 'step')} skipped because a number was not finite" if skipped else "No step was skipped"
    return (
        f"The cap was binding in {shares[0]:.1%} of the {curve[-1]['step']:,} logged steps: in {shares[1]:.1%} of the "
        f"first quarter and {shares[2]:.1%} of the last; where it binds, MoMo takes the step that its base optimizer "
        f"would. At the logged steps the step size ran {_from_to(sizes)}, the scheduled learning "
        f"rate {_from_to(caps)}. {bound} {were}."
    )


def _from_to(values: Sequence[float]) -> str:
    return f"from {min(values, default=0.0):.2g} to {max(values, default=0.0):.2g}"


def _capped_share(curve: Sequence[Record], low: float, high: float) -> float:
    """Share of capped steps in a part of the training; an entry holds for all steps since the one before it."""
    last = curve[-1]["step"]
    total = capped = 0.0
    before = 0
    for entry in curve:
        steps = max(0.0, min(entry["step"], high * last) - max(before, low * last))
        total += steps
        capped += steps * entry["step_capped"]
        before = entry["step"]
    return capped / total if total else 0.0


def _samples(samples: Sequence[Mapping[str, str]]) -> str:
    lines = ["| source | reference | translation |", "|---|---|---|"]
    for sample in samples:
        cells = (sample[key].replace("|", "\\|") for key in ("source", "reference", "translation"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _training(record: Record) -> str:
    training, model = record["settings"]["training"], record["settings"]["model"]
    sizes = {name: value for name, value in model.items() if value is not None}
    chosen = {name: value for name, value in training.items() if value not in (None, False)}
    hardware, versions = record["hardware"], record["versions"]
    where = f"{hardware['device']}, {_count(hardware['processes'], 'process', 'processes')}"
    if "threads" in hardware:
        where += f", {_count(hardware['threads'], 'thread')}"
    lines = [
        f"```\n{record['command']}\n```",
        "",
        f"{record['steps']:,} steps, {record['epochs']:.2f} epochs on {where}; "
        f"{', '.join(f'{name} {number}' for name, number in versions.items())}.",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {_cell(value)} |" for name, value in {**sizes, **chosen}.items()),
        f"| optimizer | {_cell(record['optimizer'])} |",
    ]
    return "\n".join(lines)


def _limits(record: Record) -> str:
    pairs = f"{record['data']['pairs']['train']:,} pairs above"
    seen = (
        f"Fine-tuning has seen only the {pairs}"
        if record["settings"]["model"]["model_name_or_path"]
        else f"The model has seen nothing but the {pairs}, so it is worth little on text of another kind"
    )
    return (
        f"One run with seed {record['seed']}; another seed gives another score. {seen}. It stands here to show "
        "what the optimizer does. The licence of the data holds for what was trained on it."
    )


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(each)}" for name, each in value.items() if each is not None)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _count(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
