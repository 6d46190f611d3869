"""The parts of a card that depend on the task, and look-ups in a record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """A number by which models of a task are compared.

    Attributes:
        key: Key among the metrics of a split.
        name: Name in the table.
        metric: Name of the metric on the Hub; ``None`` for a score that only the table shows.
        digits: Number of digits after the point.
        signature: Key of the text that says how the score was computed.
    """

    key: str
    name: str
    metric: str | None
    digits: int
    signature: str | None = None


@dataclass(frozen=True)
class TaskTexts:
    """The parts of a card that depend on the task.

    A script puts them into its record as ``record["card"] = dataclasses.asdict(texts)``. The card can then be made
    wherever the record is, without the code of the script.

    Attributes:
        description: The model and what it does, e.g. ``An m2m_100 encoder-decoder that translates de to en``.
        usage: How to use the model, in Markdown. ``{repository}`` stands for the name of the repository.
        pipeline_tag: Name of the task on the Hub.
        scores: Scores in the order of the table; those without a value are left out.
        scores_note: Sentence below the table of scores.
        origin: Where the weights come from, e.g. ``trained from scratch``; a base model on the Hub is named instead.
        trained_on: The training data and their size; empty if unknown.
        evaluated_on: The evaluation data and their size, by split.
        dataset_name: Name of the evaluation data in the metadata.
        dataset_type: One word for them if the Hub does not have them; left out, it is made of the name.
        languages: Language codes of the data.
        limits: Sentences about what the scores do not say.
    """

    description: str
    usage: str
    pipeline_tag: str | None = None
    scores: Sequence[Score] = ()
    scores_note: str = ""
    origin: str = "trained"
    trained_on: str = ""
    evaluated_on: Mapping[str, str] = field(default_factory=dict)
    dataset_name: str = ""
    dataset_type: str = ""
    languages: Sequence[str] = ()
    limits: Sequence[str] = ()


def optim(record: Record) -> str:
    """Return the name of the optimizer, as in ``--optim``."""
    return str(record["settings"]["training"]["optim"])


def model_name(record: Record) -> str:
    """Return the name of the model, without its owner."""
    return str(record.get("name") or f"{record.get('task') or record['model']['type']}-{optim(record)}")


def repository(record: Record) -> str:
    """Return the name by which code loads the model."""
    return str(record.get("repo_id") or model_name(record))


def scored_split(metrics: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the split whose scores count and these scores: test, else validation, else the first; ``""`` if none."""
    split = next((name for name in ("test", "validation") if metrics.get(name)), next(iter(metrics), ""))
    return split, metrics.get(split) or {}


def momo_curve(record: Record) -> list[Mapping[str, Any]]:
    """Return the log entries that hold a step size; none for an optimizer without an adaptive one."""
    return [entry for entry in record["curve"] if "step_size" in entry]


def article_and_type(record: Record) -> str:
    """Return the type of the model after its article: ``An m2m_100``."""
    kind = str(record["model"]["type"]).rpartition("/")[2]
    # Letters that are spelled out (m2m_100, mlp) may begin with a vowel too.
    vowel = kind[:1].lower() in "aeio" or (kind[:1].lower() in "mflnrsx" and not kind[1:2].isalpha())
    return f"{'An' if vowel else 'A'} {kind}"


def size(record: Record) -> str:
    """Return the number of parameters: ``1,234 parameters (12 of them trained)``."""
    model = record["model"]
    trained = model.get("trained_parameters", model["parameters"])
    some = f" ({trained:,} of them trained)" if trained != model["parameters"] else ""
    return f"{model['parameters']:,} parameters{some}"
