r"""Make the model card of a finished run: README.md and record.json, with other runs beside it in the table.

    python recipes/make_model_card.py runs/multi30k/momo_adam --compare runs/multi30k/adamw_torch \
        --output model_cards/multi30k-de-en-momo_adam

Takes record.json and the pictures and nothing else: no weights, no data. All numbers come from the runs' records.
"""

import argparse
import shutil
from pathlib import Path

from common.errors import RecipeError, run_recipe
from common.pictures import PICTURE_NAMES
from common.records import read_record
from hf_momo.model_card import summarize, write_model_card


def main() -> None:
    """Read the records, then write the card."""
    parser = argparse.ArgumentParser(description="Make the model card of a finished run.")
    parser.add_argument("run", type=Path, help="output folder of the run")
    parser.add_argument("--compare", type=Path, nargs="+", default=[], help="output folders of runs to set beside it")
    parser.add_argument("--output", type=Path, required=True, help="folder of the card; its name becomes the model's")
    arguments = parser.parse_args()
    record = read_record(arguments.run)
    if record.get("task") != "translation":
        raise RecipeError(
            f"{arguments.run} is a run of {record.get('task')}, and these cards are for translation; a sweep of image "
            "classifiers has a card by make_study_card.py"
        )
    compared = [read_record(folder) for folder in arguments.compare]
    split = "test" if "test" in record["metrics"] else "validation"
    for folder, other in zip([arguments.run, *arguments.compare], [record, *compared], strict=True):
        if split not in other["metrics"]:
            raise RecipeError(f"{folder} was not scored on the same data as {arguments.run}; train with --do_predict")
    pictures = [name for name in PICTURE_NAMES if (arguments.run / name).exists()]
    record |= {
        "name": arguments.output.resolve().name,
        "comparisons": [summarize(other) for other in compared],
        "pictures": pictures,
    }
    write_model_card(record, arguments.output)
    for name in pictures:
        shutil.copyfile(arguments.run / name, arguments.output / name)
    print(f"{arguments.output}: README.md, record.json, {', '.join(pictures)}")


if __name__ == "__main__":
    run_recipe(main)
