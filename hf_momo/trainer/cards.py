"""Model cards of a Trainer, written by ``create_model_card`` and ``push_to_hub``."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard
from transformers import Trainer
from transformers.modelcard import TASK_MAPPING

from hf_momo.hub.cards.card import CARD_FILE, STEP_SIZE_PICTURE, is_generated, render_model_card, write_card
from hf_momo.hub.cards.task import Record, optim
from hf_momo.hub.cards.training import step_size
from hf_momo.hub.record import hub_name, portable, training_record
from hf_momo.utils.files import write_whole

if TYPE_CHECKING:
    _TrainerBase = Trainer
else:
    _TrainerBase = object

logger = logging.getLogger(__name__)

# Prefix of a metric in the log: the split that was evaluated.
_SPLITS = {"eval_": "evaluation", "test_": "test"}
_NOT_SCORES = ("runtime", "samples_per_second", "steps_per_second", "jit_compilation_time", "model_preparation_time")
# The Hub no longer has this task, and the class does not say which of the present tasks it is.
_NOT_TASKS = ("text2text-generation",)


class ModelCardMixin(_TrainerBase):
    """Mixin that writes model cards with the optimizer's settings and steps."""

    def create_model_card(  # noqa: D417 (the other arguments are the Trainer's)
        self,
        language: str | list[str] | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
        *,
        record: Record | None = None,
        **others: Any,
    ) -> None:
        """Write the model card ``README.md`` into ``output_dir``.

        The text comes from the Trainer's state and arguments: scores, all settings of the optimizer, the course of the
        step size (with a picture if matplotlib is installed), versions and limits. A ``README.md`` that was not
        generated is not replaced. A Trainer class with its own cards (TRL's) keeps them; the optimizer's tags and the
        course of the step size are added.

        Args:
            record: Record of the run to make the card from, instead of the Trainer's state.
            **others: Further arguments of a class with its own cards.

        The other arguments are the Trainer's. A local path instead of a name on the Hub is left out of the card.
        """
        if not self.is_world_process_zero():
            return
        folder = Path(str(self.args.output_dir))
        given: dict[str, Any] = {
            **{"language": language, "license": license, "tags": tags, "model_name": model_name},
            **{"finetuned_from": finetuned_from, "tasks": tasks, "dataset_tags": dataset_tags},
            **{"dataset": dataset, "dataset_args": dataset_args},
        }
        if self._has_own_cards():
            super().create_model_card(**{k: v for k, v in given.items() if v is not None}, **others)
            self._extend_card(folder)
            return
        path = folder / CARD_FILE
        existing = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        if not is_generated(existing):
            logger.warning("%s was not generated, so it is not replaced; no model card is written", path)
            return
        given["tags"] = [*_as_list(tags), *_tags_of(path if existing else None)]
        chosen = dict(record) if record is not None else trainer_record(self, given)
        chosen |= self._names(model_name, chosen)
        chosen["pictures"] = chosen.get("pictures") or _draw(chosen, folder)
        write_card(render_model_card(chosen), folder)

    def _has_own_cards(self) -> bool:
        own: Any = super().create_model_card
        return getattr(own, "__func__", None) is not Trainer.create_model_card

    def _names(self, model_name: str | None, record: Record) -> dict[str, str]:
        name = model_name or record.get("name") or Path(str(self.args.output_dir)).resolve().name
        repository = str(getattr(self, "hub_model_id", None) or "")
        return {"name": str(name), **({"repo_id": repository} if "/" in repository else {})}

    def _extend_card(self, folder: Path) -> None:
        path = folder / CARD_FILE
        if not path.exists():
            return
        record = trainer_record(self, {})
        card = ModelCard.load(path)
        card.data.tags = list(dict.fromkeys([*(card.data.tags or []), "hf_momo", optim(record)]))
        section = f"## What the step size did\n\n{step_size(record)}\n"
        for picture in _draw(record, folder):
            section += f"\n![step size]({picture})\n"
        card.text = f"{card.text.rstrip()}\n\n{section}"
        write_whole(path, str(card))


def trainer_record(trainer: Trainer, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a Trainer's run.

    Args:
        trainer: The Trainer, before, during or after training.
        given: The arguments of ``create_model_card``.
    """
    record = training_record(trainer, {})
    metrics = _metrics(trainer.state.log_history)
    names = [str(portable(name)) for name in _as_list(given.get("dataset") or given.get("dataset_tags"))]
    base = given.get("finetuned_from") or getattr(getattr(trainer.model, "config", None), "_name_or_path", None)
    languages = _as_list(given.get("language"))
    record |= {
        "trainer": type(trainer).__name__,
        "task": _task(trainer, given, metrics),
        "base_model": hub_name(base),
        "fine_tuned": bool(base),
        "library_name": "peft" if _is_adapter(trainer.model) else "transformers",
        "license": given.get("license") or _license(hub_name(base)),
        "languages": languages,
        "tags": [*_as_list(given.get("tags")), "generated_from_trainer"],
        "datasets": [name for name in map(hub_name, _as_list(given.get("dataset_tags"))) if name],
        "data": {"names": names, "examples": _examples(trainer)},
        "metrics": metrics,
    }
    record["model"] |= _model(trainer.model)
    if record["task"] == "text-generation":
        _add_perplexity(trainer, metrics)
    return record


def _metrics(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the scores of the last evaluation, over all its data sets."""
    metrics: dict[str, dict[str, float]] = {}
    for prefix, split in _SPLITS.items():
        entries = [entry for entry in history if any(key.startswith(prefix) for key in entry)]
        last = [entry for entry in entries if entry.get("step") == entries[-1].get("step")]
        found = {
            key.removeprefix(prefix): value
            for entry in last
            for key, value in entry.items()
            if key.startswith(prefix) and isinstance(value, int | float) and not key.endswith(_NOT_SCORES)
        }
        if found:
            metrics[split] = found
    return metrics


def _task(trainer: Trainer, given: Mapping[str, Any], metrics: Mapping[str, Mapping[str, float]]) -> str | None:
    tasks = [task for task in _as_list(given.get("tasks")) if task not in _NOT_TASKS]
    if tasks:
        return str(tasks[0])
    model = _base(trainer.model)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return "translation" if any("bleu" in scores for scores in metrics.values()) else None
    mappings: Mapping[str, Any] = TASK_MAPPING
    for task, classes in mappings.items():
        names = {name for each in classes.values() for name in _as_list(each)}
        if type(model).__name__ in names and task not in _NOT_TASKS:
            return task
    return None


def _add_perplexity(trainer: Trainer, metrics: dict[str, dict[str, float]]) -> None:
    # The loss is the mean cross-entropy per token only where no other loss replaces the model's own.
    is_stock = type(trainer).compute_loss is Trainer.compute_loss and trainer.compute_loss_func is None
    if not is_stock or trainer.args.label_smoothing_factor:
        return
    for scores in metrics.values():
        # exp() overflows above this.
        if "perplexity" not in scores and scores.get("loss", math.inf) < 700:
            scores["perplexity"] = math.exp(scores["loss"])


def _examples(trainer: Trainer) -> dict[str, int]:
    found: dict[str, int] = {}
    datasets: dict[str, Any] = {"train": trainer.train_dataset, "evaluation": trainer.eval_dataset}
    for split, data in datasets.items():
        try:
            found[split] = sum(map(len, data.values())) if isinstance(data, dict) else len(data)
        except TypeError:  # no data set, or a stream without a length
            continue
    return found


def _model(model: Any) -> dict[str, Any]:
    base = _base(model)
    return {
        "architecture": type(base).__name__,
        "in_transformers": type(base).__module__.startswith("transformers."),
    }


def _is_adapter(model: Any) -> bool:
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def _base(model: Any) -> Any:
    return model.get_base_model() if _is_adapter(model) else model


def _license(base: str | None) -> str | None:
    """Return the license of the base model, if the Hub can be asked."""
    from huggingface_hub import HfApi, constants

    if base is None or constants.HF_HUB_OFFLINE:
        return None
    try:
        data = HfApi().model_info(base, timeout=5).card_data
    except Exception as error:  # whatever fails, a card without a license is better than none
        logger.debug("no license found for %s: %s", base, error)
        return None
    found = data.get("license") if data is not None else None
    return found if isinstance(found, str) else None


def _tags_of(path: Path | None) -> list[str]:
    """Return the tags of an existing card (PEFT writes one when it saves), without those that hold a local path."""
    try:
        tags = ModelCard.load(path).data.tags if path is not None else None
    except ValueError:
        return []
    return [tag for tag in tags or [] if "/" not in tag or hub_name(tag.rpartition(":")[2])]


def _draw(record: Record, folder: Path) -> list[str]:
    """Draw the step size if there is a curve and matplotlib is installed; return the names of the files."""
    if len(record["curve"]) < 2:
        return []
    try:
        from hf_momo.hub.cards.pictures import draw_step_size
        from hf_momo.utils.pictures import save
    except ImportError:
        logger.info("the model card has no picture of the step size: matplotlib is not installed")
        return []
    training = record["settings"]["training"]
    save(
        draw_step_size(record["curve"], f"{optim(record)}, learning rate {training['learning_rate']:g}"),
        folder / STEP_SIZE_PICTURE,
    )
    return [STEP_SIZE_PICTURE]


def _as_list(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple | set) else [value]
