"""The record of a finished run and its model card, written into its folder and pushed to the Hub."""

from pathlib import Path
from typing import Any

from transformers import Trainer

from common.tasks import Task
from hf_momo.hub.cards import CARD_FILE, write_model_card


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


def push_results(trainer: Trainer, record: dict[str, Any] | None) -> None:
    """With ``--push_to_hub``, push the folder again, now with scores and card. All processes must call it.

    Args:
        trainer: The Trainer, which has already pushed the model.
        record: Record of the run, after ``write_results``; ``None`` on other processes than the main one.
    """
    if trainer.args.push_to_hub:
        # The Trainer passes `record` on to `create_model_card`.
        trainer.push_to_hub(commit_message="Scores and model card", record=record)
