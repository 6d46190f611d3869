"""What a card says that depends on the task of the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """A number by which models of a task are told apart.

    Attributes:
        key: Where it stands among the metrics of a split.
        name: As the table calls it.
        metric: As the Hub calls it; None for one that stands in the table alone.
        digits: After the point.
        signature: Key of the text that says how it was computed.
    """

    key: str
    name: str
    metric: str | None
    digits: int
    signature: str | None = None


@dataclass(frozen=True)
class Task:
    """A kind of run.

    Attributes:
        pipeline_tag: The task as the Hub calls it.
        scores: In the order of the table.
        what: The model and what it does, from its record: `A llama model ... of text`.
        trained_on: The data it was trained on, with their number; empty where nothing is known.
        evaluated_on: What a split was scored on; empty where nothing is known.
        usage: How to use it, in Markdown.
        limits: What the scores do not say, a sentence each.
    """

    pipeline_tag: str | None
    scores: tuple[Score, ...]
    what: Callable[[Record], str]
    trained_on: Callable[[Record], str]
    evaluated_on: Callable[[Record, str], str]
    usage: Callable[[Record], str]
    limits: Callable[[Record], list[str]]


def optim(record: Record) -> str:
    """The optimizer as `--optim` takes it."""
    return str(record["settings"]["training"]["optim"])


def model_name(record: Record) -> str:
    """What the model is called, without its owner."""
    return str(record.get("name") or f"{record.get('task') or record['model']['type']}-{optim(record)}")


def repository(record: Record) -> str:
    """What code that loads the model calls it."""
    return str(record.get("repo_id") or model_name(record))


def scored_split(metrics: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The split whose scores count: test where there is one. No scores, no name."""
    split = next((name for name in ("test", "validation") if metrics.get(name)), next(iter(metrics), ""))
    return split, metrics.get(split) or {}


def momo_curve(record: Record) -> list[Mapping[str, Any]]:
    """The log entries that say what the step size did; none of another optimizer."""
    return [entry for entry in record["curve"] if "step_size" in entry]


def base_of(record: Record) -> str:
    """What the training began from, as a sentence goes on; empty where it is not known."""
    base = record.get("base_model")
    if base:
        return f"fine-tuned from [{base}](https://huggingface.co/{base})"
    settings = record["settings"].get("model")
    if settings is None:
        return "fine-tuned from a checkpoint that is not on the Hub" if record.get("fine_tuned") else ""
    return f"fine-tuned from {settings['model_name_or_path']}" if settings["model_name_or_path"] else "from scratch"
