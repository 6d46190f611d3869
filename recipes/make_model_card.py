r"""Make the model card of a finished run of any recipe: README.md, record.json and pictures.

    python recipes/make_model_card.py runs/multi30k/momo_adam --compare runs/multi30k/adamw_torch \
        --output model_cards/multi30k-de-en-momo_adam

The script needs only record.json, no weights and no data. All numbers come from the records of the runs, and the
pictures are drawn from them. --note adds a sentence to the limits.

Without --output, the card and its pictures are made anew in the folder of the record:

    python recipes/make_model_card.py model_cards/multi30k-de-en-momo_adam
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click_through.card import CLICK_THROUGH_RATE
from common.pictures import draw_run
from common.records import read_record
from common.tasks import Task
from hf_momo.hub.cards import CARD_FILE, render_model_card, summarize, write_model_card
from hf_momo.utils.errors import UsageError, run_command
from images.card import IMAGE_CLASSIFICATION
from language_models.card import LANGUAGE_MODELING
from machine_translation.card import TRANSLATION

_ALL_TASKS: tuple[Task, ...] = (TRANSLATION, IMAGE_CLASSIFICATION, CLICK_THROUGH_RATE, LANGUAGE_MODELING)
TASKS = {task.name: task for task in _ALL_TASKS}


def main() -> None:
    """Read the records and write the card."""
    parser = argparse.ArgumentParser(description="Make the model card of a finished run.")
    parser.add_argument("run", type=Path, help="output folder of the run")
    parser.add_argument("--compare", type=Path, nargs="+", help="output folders of runs to compare it with")
    parser.add_argument("--note", action="append", help="a sentence for the limits; may be given more than once")
    parser.add_argument("--output", type=Path, help="folder of the card, whose name becomes the model's")
    arguments = parser.parse_args()
    record = read_record(arguments.run)
    check_task(record, arguments.run)
    folder = arguments.output or arguments.run
    given = {"comparisons": arguments.compare and [compared(each, record) for each in arguments.compare]}
    given["notes"] = arguments.note
    record |= {key: value for key, value in given.items() if value is not None}
    # A card that is made anew keeps its name, wherever its folder is.
    if arguments.output or "name" not in record:
        record["name"] = folder.resolve().name
    record["pictures"] = draw_pictures(record, folder)
    texts = TASKS[record["task"]].texts(record)
    if "card" in record:  # records of older runs do not carry the texts, and stay as they are
        record["card"] = texts
    if not write_model_card(record, folder, render_model_card({**record, "card": texts})):
        raise UsageError(f"{folder / CARD_FILE} was not generated; move it away, or give another --output")
    print(f"{folder}: {', '.join([CARD_FILE, 'record.json', *record['pictures']])}")


def check_task(record: Mapping[str, Any], folder: Path) -> None:
    """Refuse a record that is not of one run of a known task.

    Raises:
        UsageError: If it is of something else.
    """
    if "runs" in record:
        raise UsageError(f"{folder} holds the record of a study; make its card with recipes/make_study_card.py")
    if record.get("task") not in TASKS:
        raise UsageError(f"{folder} is a run of the task {record.get('task')}; it must be one of {', '.join(TASKS)}")


def compared(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of the table for another run.

    Raises:
        UsageError: If the run is of another task, or was not scored on the same split.
    """
    other = read_record(folder)
    if other.get("task") != record["task"]:
        raise UsageError(f"--compare {folder} is a run of the task {other.get('task')}; it must be {record['task']}")
    split = "test" if record["metrics"].get("test") else "validation"
    if record["metrics"].get(split) and not other["metrics"].get(split):
        raise UsageError(f"--compare {folder} has no scores on {split}, on which the run of the card was scored")
    return summarize(other)


def draw_pictures(record: Mapping[str, Any], folder: Path) -> list[str]:
    """Draw the log of a record as the recipes do, and return the names of the pictures."""
    training, task = record["settings"]["training"], TASKS[record["task"]]
    title = f"{training['optim']}, learning rate {training['learning_rate']:g}"
    corrected = record.get("step_size_is_bias_corrected", False)
    log = [*record["curve"], *record["evaluations"]]
    drawn = draw_run(log, folder, task, title, step_size_is_bias_corrected=corrected)
    return [name for name in task.picture_names if name in drawn]


if __name__ == "__main__":
    sys.exit(run_command(main))
