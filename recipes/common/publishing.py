"""The record of a finished run and its model card, written into its folder and pushed to the Hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Trainer

from common.runs import RunSettings
from common.tasks import Task
from hf_momo.hub.cards import CARD_FILE, write_model_card
from hf_momo.hub.record import training_record


def write_results(record: dict[str, Any], folder: Path, task: Task) -> None:
    """Write ``record.json`` and ``README.md`` into the folder of a run.

    Args:
        record: Record of the run; the name of the task, the texts of the card, the name of the model and the pictures
            in the folder are added to it.
        folder: Folder of the run.
        task: Task of the run.
    """
    record["task"] = task.name
    record["card"] = task.texts(record)
    record["name"] = folder.resolve().name
    record["pictures"] = [name for name in task.picture_names if (folder / name).exists()]
    if not write_model_card(record, folder):
        print(f"{folder / CARD_FILE} was not generated and stays as it is")
    print(f"model, scores and record are in {folder}")


def publish_run(
    trainer: Trainer, settings: RunSettings[Any, Any, Any], task: Task, results: Mapping[str, Any]
) -> None:
    """Write the results of a trained run and, with ``--push_to_hub``, push them. All processes must call it.

    Args:
        trainer: The Trainer, which has already pushed the model.
        settings: Settings of the run.
        task: Task of the run.
        results: Entries of the record that depend on the task.
    """
    record = {**training_record(trainer, {"model": settings.model, "data": settings.data}), **results}
    if trainer.is_world_process_zero():
        write_results(record, settings.folder, task)
    if trainer.args.push_to_hub:
        # The Trainer passes `record` on to `create_model_card`.
        trainer.push_to_hub(commit_message="Scores and model card", record=record)
