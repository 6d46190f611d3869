"""The tasks of the recipes, and that of any other run of a Trainer."""

from collections.abc import Callable
from pathlib import PurePosixPath

from hf_momo.hub.cards import usage
from hf_momo.hub.cards.task import Record, Score, Task, scored_split
from hf_momo.hub.cards.words import count

# The second score of a model on Moses-tokenized text, which must not be taken for the first.
TOKENIZED_BLEU = "bleu_tokenized_lowercased"

# Flags by which a recipe takes a part of its data.
_PARTS = ("max_train_samples", "max_eval_samples", "max_predict_samples", "max_train_rows", "max_eval_rows")
# Of translation, which scores two splits: the one that a flag is about.
_PART_OF_SPLIT = {"max_eval_samples": "validation", "max_predict_samples": "test"}


def _translates(record: Record) -> str:
    data = record["data"]
    pair = f" that translates {data['source_lang']} to {data['target_lang']}" if data.get("source_lang") else ""
    return f"{_article(record)} encoder-decoder with {_size(record)}{pair}"


def _pairs(record: Record) -> str:
    data = record["data"]
    if "pairs" not in data:
        return _examples(record)
    source = f"the {data['name']} data" if data["name"] else f"{data['files']['train']} and its translation"
    return f"{count(data['pairs']['train'], 'sentence pair')} ({source})"


def _scored_sentences(record: Record, split: str) -> str:
    data = record["data"]
    if "pairs" not in data:
        return _scored_examples(record, split)
    settings = record["settings"]
    beams = settings["data"]["num_beams"] or settings["training"].get("generation_num_beams") or 1
    return f"{count(data['pairs'][split], 'sentence')} of {split}, beam {beams}"


def _limits_of_translation(record: Record) -> list[str]:
    limits = _limits_of_data(record)
    if record["data"].get("name") == "embedded":
        limits.append(
            "The sentences are synthetic: a small hand-written grammar of German and English makes them, so the "
            "scores say nothing about real translation"
        )
    elif record["settings"].get("model") and not record["settings"]["model"]["model_name_or_path"]:
        limits.append(
            f"The model has seen nothing but the {record['data']['pairs']['train']:,} pairs above, so it is worth "
            "little on text of another kind"
        )
    return limits


def _classifies(record: Record) -> str:
    image = record["data"].get("image")
    if not image:
        return f"{_article(record)} image classifier with {_size(record)}"
    shape = " x ".join(map(str, image))
    return f"{_article(record)} image classifier with {_size(record)} for images of {shape} in " + count(
        record["data"]["classes"], "class", "classes"
    )


def _images(record: Record) -> str:
    data = record["data"]
    return f"{count(data['splits']['train'], 'image')} ({data['name']})" if "splits" in data else _examples(record)


def _scored_images(record: Record, split: str) -> str:
    splits = record["data"].get("splits")
    return f"{count(splits[split], 'image')} of {split}" if splits else _scored_examples(record, split)


def _predicts_clicks(record: Record) -> str:
    return f"{_article(record)} model with {_size(record)} that predicts the probability of a click"


def _rows(record: Record) -> str:
    passes = f", {record['epochs']:g} passes over the log" if record["epochs"] > 1 else ""
    return f"{count(record['rows'], 'row')} ({record['data'].get('name') or 'a log in the format of Criteo'}{passes})"


def _scored_rows(record: Record, split: str) -> str:
    scores = record["metrics"][split]
    return (
        f"{count(scores['rows'], 'row')} of {split}, of which {scores['click_rate']:.1%} are clicks; predicting that "
        f"rate for every row has a log loss of {scores['constant_loss']:.4f}"
    )


def _models_language(record: Record) -> str:
    return f"{_article(record)} causal language model with {_size(record)}"


def _tokens(record: Record) -> str:
    data = record["data"]
    if "tokens" not in data:
        return _examples(record)
    name = data["name"] or (data.get("files") or {}).get("train") or "text"
    return f"{count(data['tokens']['train'], 'token')} ({name})"


def _scored_tokens(record: Record, split: str) -> str:
    data = record["data"]
    if "tokens" not in data:
        return _scored_examples(record, split)
    return f"{count(data['tokens'][split], 'token')} of {split}; perplexity is of a token of the model's own tokenizer"


def _other(record: Record) -> str:
    return f"{_article(record)} model with {_size(record)}"


def _examples(record: Record) -> str:
    data = record["data"]
    names = ", ".join(data.get("names") or [])
    if not data.get("examples", {}).get("train"):
        return names
    return count(data["examples"]["train"], "example") + (f" ({names})" if names else "")


def _scored_examples(record: Record, split: str) -> str:
    number = record["data"].get("examples", {}).get(split)
    return f"{count(number, 'example')} of the {split} data" if number else f"the {split} data"


def _limits_of_data(record: Record) -> list[str]:
    data = record["settings"].get("data") or {}
    split, _ = scored_split(record["metrics"])
    two = "max_predict_samples" in data
    elsewhere = {flag for flag, of in _PART_OF_SPLIT.items() if two and of != split}
    taken = [f"{flag} {data[flag]:,}" for flag in _PARTS if data.get(flag) and flag not in elsewhere]
    return [f"A part of the data was taken ({', '.join(taken)}), and the scores are of that part"] if taken else []


def _limits_of_others(record: Record) -> list[str]:
    limits = _limits_of_data(record)
    split, _ = scored_split(record["metrics"])
    if split == "evaluation":
        limits.append("The scores are of the data that training was evaluated on, and not of a test set kept apart")
    return limits


def _article(record: Record) -> str:
    kind = PurePosixPath(record["model"]["type"]).name
    # A letter read by its name (m2m_100, mlp) begins with a vowel too; of the words none is worth a dictionary.
    vowel = kind[:1].lower() in "aeio" or (kind[:1].lower() in "mflnrsx" and not kind[1:2].isalpha())
    return f"{'An' if vowel else 'A'} {kind}"


def _size(record: Record) -> str:
    model = record["model"]
    trained = model.get("trained_parameters", model["parameters"])
    some = f" ({trained:,} of them trained)" if trained != model["parameters"] else ""
    return f"{model['parameters']:,} parameters{some}"


_LOSS = Score("loss", "loss", None, 3)
_BLEU = Score("bleu", "BLEU", "bleu", 2, "signature")
_TRANSLATION_SCORES = (
    _BLEU,
    Score("chrf", "chrF", "chrf", 2, "chrf_signature"),
    _LOSS,
    Score(TOKENIZED_BLEU, TOKENIZED_BLEU, None, 2, f"{TOKENIZED_BLEU}_signature"),
)
_LANGUAGE_SCORES = (
    Score("perplexity", "perplexity", "perplexity", 2),
    Score("bits_per_byte", "bits per byte", "bits_per_byte", 3),
    _LOSS,
)
_CLICK_SCORES = (Score("auc", "AUC", "roc_auc", 4), Score("loss", "log loss", "log_loss", 4))
_IMAGE_SCORES = (Score("accuracy", "accuracy", "accuracy", 4), _LOSS)

_TRANSLATION = Task(
    "translation",
    _TRANSLATION_SCORES,
    _translates,
    _pairs,
    _scored_sentences,
    usage.use_translation,
    _limits_of_translation,
)
_LANGUAGE = Task(
    "text-generation",
    _LANGUAGE_SCORES,
    _models_language,
    _tokens,
    _scored_tokens,
    usage.use_language,
    _limits_of_others,
)
_TASKS = {
    "translation": _TRANSLATION,
    "image-classification": Task(
        "image-classification",
        _IMAGE_SCORES,
        _classifies,
        _images,
        _scored_images,
        usage.use_images,
        _limits_of_others,
    ),
    "click-through-rate": Task(
        # The Hub's name for predicting a column from others.
        "tabular-classification",
        _CLICK_SCORES,
        _predicts_clicks,
        _rows,
        _scored_rows,
        usage.use_clicks,
        _limits_of_data,
    ),
    "language-modeling": _LANGUAGE,
}


def task_of(record: Record) -> Task:
    """The task of a record: one of the recipes', or one made of what the record holds."""
    name = record.get("task")
    if name in _TASKS and "trainer" not in record:
        return _TASKS[name]
    known = _LANGUAGE if name == "text-generation" else _TASKS.get(str(name))
    described: Callable[[Record], str] = known.what if known else _other
    used = known.usage if known and record.get("library_name") != "peft" else usage.use_class
    _, metrics = scored_split(record["metrics"])
    scores = [score for score in (known.scores if known else ()) if score.key in metrics]
    named = {score.key for score in scores}
    scores += [_score(key) for key, value in metrics.items() if key not in named and isinstance(value, int | float)]
    return Task(name, tuple(scores), described, _examples, _scored_examples, used, _limits_of_others)


def _score(key: str) -> Score:
    return _BLEU if key == "bleu" else Score(key, key.replace("_", " "), key, 4)
