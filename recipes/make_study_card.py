r"""Make the card of a study: the final scores of a sweep beside published ones, over the learning rate.

    hf-momo sweep --config recipes/studies/mnist.yaml --output_dir sweeps/mnist -- --data_dir data/mnist
    python recipes/make_study_card.py sweeps/mnist --reference recipes/studies/mnist_paper.csv \
        --title "The paper's perceptron on MNIST" --output model_cards/mnist-mlp-study

Takes the runs' records and nothing else, and leaves README.md, record.json with every run, and score.png. The
reference is a table with the columns optimizer, learning_rate, mean and deviation. Scores are shares (an accuracy from
0 to 1) and shown in percent. A run that diverged counts with the score that its model ended with, that of chance.
"""

import argparse
import json
from pathlib import Path

from common.errors import RecipeError, run_recipe
from common.records import RECORD_NAME, write_text
from hf_momo.sweep.grid import SweepError
from hf_momo.sweep.settings import read_sweep
from study_card.cells import read_cells, read_reference, read_runs
from study_card.page import render_page
from study_card.picture import draw_scores

PICTURE = "score.png"


def main() -> None:
    """Read the sweep and the reference, then write the card."""
    parser = argparse.ArgumentParser(description="Make the card of a study.")
    parser.add_argument("sweep", type=Path, help="folder of the sweep, all of whose runs have ended")
    parser.add_argument("--reference", type=Path, required=True, help="CSV: optimizer, learning_rate, mean, deviation")
    parser.add_argument("--reference_name", default="paper", help="what the table calls it")
    parser.add_argument("--chance", type=float, default=0.1, help="score of guessing (default: 0.1)")
    parser.add_argument("--tolerance", type=float, default=0.004, help="how far apart scores may be (default: 0.004)")
    parser.add_argument("--title", required=True, help="heading of the card")
    parser.add_argument("--output", type=Path, required=True, help="folder of the card")
    arguments = parser.parse_args()
    try:
        sweep = read_sweep(arguments.sweep)
    except SweepError as error:
        raise RecipeError(str(error)) from error
    runs = read_runs(sweep, arguments.sweep)
    cells = read_cells(runs, read_reference(arguments.reference), arguments.chance, arguments.tolerance)
    record = {
        "title": arguments.title,
        "metric": sweep.metric,
        "chance": arguments.chance,
        "tolerance": arguments.tolerance,
        "reference": arguments.reference.name,
        "cells": [cell.to_json() for cell in cells],
        "runs": runs,
    }
    write_text(arguments.output / RECORD_NAME, json.dumps(record, indent=1, allow_nan=False) + "\n")
    draw_scores(cells, arguments.output / PICTURE, sweep.metric, arguments.reference_name)
    page = render_page(cells, runs, arguments.title, sweep.metric, arguments.reference_name, arguments.tolerance)
    write_text(arguments.output / "README.md", page)
    apart = [cell for cell in cells if cell.agrees is False]
    print(f"{arguments.output}: README.md, {RECORD_NAME}, {PICTURE}; {len(cells)} cells, {len(apart)} disagree")


if __name__ == "__main__":
    run_recipe(main)
