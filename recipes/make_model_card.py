r"""Make the model card of a finished run of any recipe: README.md, record.json and pictures.

    python recipes/make_model_card.py runs/multi30k/momo_adam --compare runs/multi30k/adamw_torch \
        --output model_cards/multi30k-de-en-momo_adam

Takes record.json and nothing else: no weights, no data. All numbers come from the runs' records, and the pictures are
drawn from them. What the numbers do not tell is said with --note, a sentence for the limits.

Without --output the card and its pictures are made anew where the record lies, with what was said when it was made:

    python recipes/make_model_card.py model_cards/multi30k-de-en-momo_adam
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.pictures import PICTURE_NAMES, TASKS, draw_run
from common.records import read_record
from hf_momo.hub.cards import CARD_FILE, summarize, write_model_card
from hf_momo.utils.errors import UsageError, run_command


def main() -> None:
    """Read the records, then write the card."""
    parser = argparse.ArgumentParser(description="Make the model card of a finished run.")
    parser.add_argument("run", type=Path, help="output folder of the run")
    parser.add_argument("--compare", type=Path, nargs="+", help="output folders of runs to set beside it")
    parser.add_argument("--note", action="append", help="a sentence for the limits; may be given more than once")
    parser.add_argument("--output", type=Path, help="folder of the card, whose name becomes the model's")
    arguments = parser.parse_args()
    record = read_record(arguments.run)
    check_task(record, arguments.run)
    folder = arguments.output or arguments.run
    given = {"comparisons": arguments.compare and [compared(each, record) for each in arguments.compare]}
    given["notes"] = arguments.note
    record |= {key: value for key, value in given.items() if value is not None}
    # A card that is made anew keeps its name wherever it lies.
    if arguments.output or "name" not in record:
        record["name"] = folder.resolve().name
    record["pictures"] = draw_pictures(record, folder)
    if not write_model_card(record, folder):
        raise UsageError(f"{folder / CARD_FILE} is no generated card; move it away, or give another --output")
    print(f"{folder}: {', '.join([CARD_FILE, 'record.json', *record['pictures']])}")


def check_task(record: Mapping[str, Any], folder: Path) -> None:
    """Refuse what is no record of one run.

    Raises:
        UsageError: It is of something else.
    """
    if "runs" in record:
        raise UsageError(f"{folder} holds the record of a study; its card is made by recipes/make_study_card.py")
    if record.get("task") not in TASKS:
        raise UsageError(f"{folder} is a run of {record.get('task')}; there are cards for {', '.join(TASKS)}")


def compared(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the table says of another run.

    Raises:
        UsageError: It is of another task, or was not scored on the same data.
    """
    other = read_record(folder)
    if other.get("task") != record["task"]:
        raise UsageError(f"--compare {folder} is a run of {other.get('task')}, the card is of {record['task']}")
    split = "test" if record["metrics"].get("test") else "validation"
    if record["metrics"].get(split) and not other["metrics"].get(split):
        raise UsageError(f"--compare {folder} has no scores on {split}, by which the card's run is judged")
    return summarize(other)


def draw_pictures(record: Mapping[str, Any], folder: Path) -> list[str]:
    """Draw the log of a record, as the recipes draw it."""
    training = record["settings"]["training"]
    title = f"{training['optim']}, learning rate {training['learning_rate']:g}"
    drawn = draw_run([*record["curve"], *record["evaluations"]], folder, title, TASKS[record["task"]])
    return [name for name in PICTURE_NAMES if name in drawn]


if __name__ == "__main__":
    sys.exit(run_command(main))
