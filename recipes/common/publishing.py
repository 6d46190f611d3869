"""What a finished run leaves for others: its record, the model card made from it, and both on the Hub where asked."""

from pathlib import Path
from typing import Any

from transformers import Trainer

from common.pictures import PICTURE_NAMES
from hf_momo.hub.cards import CARD_FILE, write_model_card


def write_results(record: dict[str, Any], folder: Path) -> None:
    """Write record.json and README.md into the folder of the run.

    Args:
        record: Of the run; gets the model's name and the pictures that lie in the folder.
        folder: Of the run.
    """
    record["name"] = folder.resolve().name
    record["pictures"] = [name for name in PICTURE_NAMES if (folder / name).exists()]
    if not write_model_card(record, folder):
        print(f"{folder / CARD_FILE} was written by hand and stays as it is")


def push_results(trainer: Trainer, record: dict[str, Any] | None) -> None:
    """With `--push_to_hub`, push the folder once more, with the scores and the card. To be called on all processes.

    Args:
        trainer: After training, which has pushed the model alone.
        record: Of the run; None on other processes than the main one.
    """
    if trainer.args.push_to_hub:
        # What it hands on is for `create_model_card`.
        trainer.push_to_hub(commit_message="Scores and model card", record=record)
