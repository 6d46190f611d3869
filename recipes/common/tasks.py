"""The task of a recipe: its name in a record, its scores, and the texts of its model card."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from hf_momo.hub.cards.task import Record, Score, TaskTexts, scored_split


class Task(ABC):
    """A task; each recipe has a subclass of it in its ``card.py``.

    Attributes:
        name: Value of ``task`` in a record.
        pipeline_tag: Name of the task on the Hub.
        scores: Scores in the order of the card's table; the first one is also drawn over the training.
        score_label: Label of the first score's axis.
        highest_score: Highest first score to expect; its axis reaches at least to a twentieth of it.
        loss_unit: Unit of the loss.
        parts: Flags that limit the data, each with the split that it limits; ``None`` for all splits.
    """

    name: ClassVar[str]
    pipeline_tag: ClassVar[str]
    scores: ClassVar[tuple[Score, ...]]
    score_label: ClassVar[str]
    highest_score: ClassVar[float]
    loss_unit: ClassVar[str]
    parts: ClassVar[Mapping[str, str | None]] = {"max_train_samples": None, "max_eval_samples": None}

    @abstractmethod
    def description(self, record: Record) -> str:
        """Return the model and what it does."""

    @abstractmethod
    def trained_on(self, record: Record) -> str:
        """Return the training data and their size."""

    @abstractmethod
    def evaluated_on(self, record: Record, split: str) -> str:
        """Return the data of a split and their size."""

    @abstractmethod
    def usage(self, record: Record) -> str:
        """Return Markdown on how to use the model, with ``{repository}`` in place of the repository's name."""

    def limits(self, record: Record) -> list[str]:
        """Return sentences about what the scores do not say."""
        data = record["settings"].get("data") or {}
        scored = scored_split(record["metrics"])[0]
        flags = [flag for flag, split in self.parts.items() if data.get(flag) and split in (None, scored)]
        taken = ", ".join(f"{flag} {data[flag]:,}" for flag in flags)
        return [f"A part of the data was used ({taken}), and the scores are of that part"] if taken else []

    def texts(self, record: Record) -> dict[str, Any]:
        """Return the task texts that travel in the record, as ``record["card"]``."""
        data, path = record["data"], record["settings"]["model"]["model_name_or_path"]
        files = (data.get("files") or {}).get(scored_split(record["metrics"])[0])
        texts = TaskTexts(
            description=self.description(record),
            usage=self.usage(record),
            pipeline_tag=self.pipeline_tag,
            scores=list(self.scores),
            origin=f"fine-tuned from {path}" if path else "trained from scratch",
            trained_on=self.trained_on(record),
            evaluated_on={split: self.evaluated_on(record, split) for split in record["metrics"]},
            dataset_name=str(data.get("name") or (files[0] if isinstance(files, list) else files) or ""),
            limits=[
                *self.limits(record),
                "The model demonstrates the optimizer; the license of the data applies to what was trained on them",
            ],
        )
        return asdict(texts)

    @property
    def picture_names(self) -> tuple[str, ...]:
        """Names of the pictures that ``draw_run`` may leave in the folder of a run."""
        return ("loss.png", f"{self.scores[0].key}.png", "step_size.png")
