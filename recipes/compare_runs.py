"""Compare finished translation runs: translations, scores, and a picture.

    python recipes/compare_runs.py runs/demo/momo_adam runs/demo/adamw_torch

The script writes comparison.png into the nearest folder that contains all runs.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.pictures import draw_comparison
from common.records import read_record
from hf_momo.utils.errors import UsageError, run_command
from machine_translation.card import TRANSLATION


def main() -> None:
    """Print and draw the records of the runs."""
    parser = argparse.ArgumentParser(description="Compare finished translation runs.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="output folder of a finished run")
    folders = parser.parse_args().runs
    found = [read_record(folder) for folder in folders]
    records = dict(zip(_names(folders, found), found, strict=True))
    _check_same_test(records)
    print_translations(records)
    print_scores(records)
    picture = Path(os.path.commonpath([folder.resolve().parent for folder in folders])) / "comparison.png"
    histories = {_legend(name, record): [*record["curve"], *record["evaluations"]] for name, record in records.items()}
    draw_comparison(histories, picture)
    print("\nPictures:")
    for path in (picture, *(folder / name for folder in folders for name in TRANSLATION.picture_names)):
        if path.exists():
            print(f"  {os.path.relpath(path)}")


def print_translations(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the sample sentences with the translation of each run."""
    width = max(map(len, [*records, "reference"])) + 2
    for rows in zip(*(record["samples"] for record in records.values()), strict=True):
        print(f"{'source':{width}}{rows[0]['source']}")
        print(f"{'reference':{width}}{rows[0]['reference']}")
        for name, row in zip(records, rows, strict=True):
            print(f"{name:{width}}{row['translation']}")
        print()


def print_scores(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the scores, one line per run, and the signatures."""
    width = max(map(len, [*records, "run"])) + 2
    print(f"{'run':{width}}{'learning rate':>13}{'steps':>8}{'BLEU':>8}{'chrF':>8}{'loss':>8}")
    for name, record in records.items():
        scores = _test(record)
        print(
            f"{name:{width}}{_learning_rate(record):>13}{record['steps']:>8}"
            f"{scores['bleu']:>8.2f}{scores['chrf']:>8.2f}{scores['loss']:>8.3f}"
        )
    scores = _test(next(iter(records.values())))
    print(f"BLEU {scores['signature']}\nchrF {scores['chrf_signature']}")


def _names(folders: list[Path], records: list[dict[str, Any]]) -> list[str]:
    """Return the names of the folders; where these are equal, as in a sweep, optimizers and learning rates."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{record['settings']['training']['optim']} {_learning_rate(record)}" for record in records]
    if len(set(names)) < len(names):
        raise UsageError(
            f"RUN: two runs have the same folder's name, optimizer and learning rate: {', '.join(names)}; rename the"
            " folder of one"
        )
    return names


def _check_same_test(records: Mapping[str, Mapping[str, Any]]) -> None:
    signatures = {name: _test(record)["signature"] for name, record in records.items()}
    if len(set(signatures.values())) > 1:
        raise UsageError(f"RUN: the runs were scored differently and cannot be compared: {signatures}")
    sources = {name: [sample["source"] for sample in record["samples"]] for name, record in records.items()}
    if any(each != next(iter(sources.values())) for each in sources.values()):
        raise UsageError(f"RUN: the runs were tested on different sentences: {', '.join(records)}")


def _legend(name: str, record: Mapping[str, Any]) -> str:
    rate = _learning_rate(record)
    return f"{name.removesuffix(f' {rate}')}, learning rate {rate}: BLEU {_test(record)['bleu']:.1f} at the end"


def _test(record: Mapping[str, Any]) -> Mapping[str, Any]:
    metrics = record["metrics"]
    if not metrics:
        raise UsageError("RUN: a run has no scores; train with --do_predict")
    scores: Mapping[str, Any] = metrics.get("test") or metrics["validation"]
    return scores


def _learning_rate(record: Mapping[str, Any]) -> str:
    return f"{record['settings']['training']['learning_rate']:g}"


if __name__ == "__main__":
    sys.exit(run_command(main))
