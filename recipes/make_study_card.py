r"""Make the card of a study: the final scores of a sweep over learning rates, with or without published scores.

    hf-momo sweep --config recipes/studies/mnist.yaml --output_dir sweeps/mnist -- --data_dir data/mnist
    python recipes/make_study_card.py sweeps/mnist --reference recipes/studies/mnist_paper.csv \
        --title "The paper's perceptron on MNIST" --output model_cards/mnist-mlp-study

The script needs only the records of the runs, and writes README.md, record.json with every run, and score.png. Several
sweeps with the same metric become one card. The reference is a table with the columns optimizer, learning_rate, mean
and deviation. Scores are shares, such as an accuracy from 0 to 1, and are shown in percent; with --digits N they are
shown as they are. A run that diverged counts with the score of its last model, which is that of guessing.

Given the folder of a card instead of a sweep, it makes page and picture anew from the record in it:

    python recipes/make_study_card.py model_cards/mnist-mlp-study
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.records import RECORD_NAME, read_record
from hf_momo.hub.cards import CARD_FILE, write_card
from hf_momo.sweep.trials import Study
from hf_momo.utils.errors import UsageError, run_command
from hf_momo.utils.files import write_whole
from study_card.cells import Reference, read_cells, read_reference, read_runs
from study_card.page import PICTURE, render_study
from study_card.picture import draw_scores

_STUDIES = Path(__file__).parent / "studies"


def main() -> None:
    """Read the sweep and the reference, or the record made from them, and write the card."""
    parser = argparse.ArgumentParser(description="Make the card of a study.")
    parser.add_argument("sweeps", type=Path, nargs="+", help="folders of finished sweeps, or the folder of a card")
    parser.add_argument("--storage", help="storage of the sweep, if it was made with one")
    parser.add_argument("--reference", type=Path, help="CSV: optimizer, learning_rate, mean, deviation")
    parser.add_argument("--reference_name", default="paper", help="its name in the table (default: paper)")
    parser.add_argument("--metric_name", help="name of the score in the table (default: its key)")
    parser.add_argument(
        "--rename",
        nargs=2,
        action="append",
        default=[],
        metavar=("OLD", "NEW"),
        help="another name for an optimizer with its options, as the tables of the sweep have it; may be given again",
    )
    parser.add_argument(
        "--base",
        action="append",
        help="an optimizer around whose best score the widths of all are measured; may be given again",
    )
    parser.add_argument("--digits", type=int, help="show scores with this many digits, not in percent")
    parser.add_argument("--chance", type=float, default=0.1, help="score of guessing (default: 0.1)")
    parser.add_argument(
        "--tolerance", type=float, default=0.004, help="largest difference of scores that agree (default: 0.004)"
    )
    parser.add_argument("--note", action="append", help="a sentence for the limits; may be given more than once")
    parser.add_argument("--title", help="heading of the card")
    parser.add_argument("--output", type=Path, help="folder of the card")
    arguments = parser.parse_args()
    first: Path = arguments.sweeps[0]
    if (first / RECORD_NAME).is_file():
        folder, record = first, read_record(first)
        reference = read_reference(_STUDIES / record["reference"]) if record.get("reference") else {}
    else:
        if arguments.title is None or arguments.output is None:
            raise UsageError("give --title and --output for the card of a sweep")
        folder = arguments.output
        record, reference = study_record(arguments)
    write_study(record, reference, folder)


def study_record(arguments: argparse.Namespace) -> tuple[dict[str, Any], Reference]:
    """Return the record of a study, made from the folders of its sweeps, and the published scores."""
    runs: list[dict[str, Any]] = []
    metrics = set()
    for folder in arguments.sweeps:
        with Study(folder, arguments.storage) as study:
            sweep = study.sweep
            metrics.add(sweep.metric)
            runs += read_runs(study)
    if len(metrics) > 1:
        raise UsageError(f"the sweeps of one card must have one metric; got {', '.join(sorted(metrics))}")
    names = dict(arguments.rename)
    check_names("--rename", names, runs)
    for run in runs:
        run["optimizer"] = names.get(run["optimizer"], run["optimizer"])
    points = [(run["optimizer"], run["learning_rate"], run["seed"]) for run in runs]
    if twice := next((point for point in points if points.count(point) > 1), None):
        raise UsageError(
            f"{twice[0]} has two runs at {twice[1]:g} with seed {twice[2]}; leave one of their sweeps out"
        )
    bases = arguments.base or []
    check_names("--base", bases, runs)
    reference = read_reference(arguments.reference) if arguments.reference else {}
    cells = read_cells(runs, reference, arguments.chance, arguments.tolerance)
    chosen = {name: getattr(arguments, name) for name in ("metric_name", "digits")}
    record = {
        "title": arguments.title,
        "metric": sweep.metric,
        "greater_is_better": sweep.greater_is_better,
        **{name: value for name, value in chosen.items() if value is not None},
        **({"bases": bases} if bases else {}),
        "chance": arguments.chance,
        "tolerance": arguments.tolerance,
        "reference": arguments.reference.name if arguments.reference else None,
        "reference_name": arguments.reference_name,
        "notes": arguments.note or [],
        "cells": [cell.to_json() for cell in cells],
        "runs": runs,
    }
    return record, reference


def check_names(flag: str, given: Iterable[str], runs: Sequence[Mapping[str, Any]]) -> None:
    """Check that every name given by a flag is that of an optimizer among the runs."""
    known = dict.fromkeys(run["optimizer"] for run in runs)
    if unknown := next((name for name in given if name not in known), None):
        raise UsageError(f"{flag}: got {unknown!r}, must be one of: {'; '.join(known)}")


def write_study(record: dict[str, Any], reference: Reference, folder: Path) -> None:
    """Write the record, the picture and the page."""
    cells = read_cells(record["runs"], reference, record["chance"], record["tolerance"])
    page = render_study(record, reference)
    write_whole(folder / RECORD_NAME, json.dumps(record, indent=1, allow_nan=False) + "\n")
    draw_scores(
        cells,
        folder / PICTURE,
        record.get("metric_name") or record["metric"],
        record.get("reference_name", "paper"),
        record.get("bases", ()),
        percent=record.get("digits") is None,
        greater_is_better=record.get("greater_is_better", True),
    )
    if not write_card(page, folder):
        raise UsageError(f"{folder / CARD_FILE} was not generated; move it away, or give another --output")
    disagreeing = [cell for cell in cells if cell.agrees is False]
    print(f"{folder}: {CARD_FILE}, {RECORD_NAME}, {PICTURE}; {len(cells)} cells, {len(disagreeing)} disagree")


if __name__ == "__main__":
    sys.exit(run_command(main))
