"""Write model_cards/README.md: a table of all records, with the command of each.

    python recipes/list_model_cards.py

Everything on the page comes from the records.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from make_model_card import TASKS

from common.records import RECORD_NAME, read_record
from hf_momo.hub.cards.task import scored_split
from hf_momo.hub.cards.words import count, number, table
from hf_momo.sweep.grid import format_rate
from hf_momo.utils.errors import run_command
from hf_momo.utils.files import write_whole

FOLDER = Path(__file__).parents[1] / "model_cards"
_OPENING = """\
# Model cards

Each folder holds the record of a run or of a study (`record.json`: command, settings, versions, log and scores), with
the card (`README.md`) and the pictures made from it. The cards hold no weights. Their commands, below the table,
repeat the runs; [recipes](../recipes/README.md) says where the data come from.

A card is made anew from its record by `python recipes/make_model_card.py FOLDER`, that of a study by
`python recipes/make_study_card.py FOLDER`, and this page by `python recipes/list_model_cards.py`.
"""


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(description="Write model_cards/README.md from the records.").parse_args()
    write_whole(FOLDER / "README.md", render(FOLDER))
    print(FOLDER / "README.md")


def render(folder: Path) -> str:
    """Return the page for all records in the sub-folders of a folder."""
    records = {path.parent.name: read_record(path.parent) for path in sorted(folder.glob(f"*/{RECORD_NAME}"))}
    rows = [
        [f"[{name}]({name}/README.md)", *(_study(record) if "runs" in record else _run(record))]
        for name, record in records.items()
    ]
    sections = [_OPENING, table(["card", "trained", "optimizer", "steps", "score"], rows) + "\n", "## Commands\n"]
    for name, record in records.items():
        runs = record.get("runs")
        title = f"{name}, the first of its {count(len(runs), 'run')}" if runs else name
        sections.append(f"{title}:\n\n```\n{(runs[0] if runs else record)['command']}\n```\n")
    return "\n".join(sections)


def _run(record: Mapping[str, Any]) -> list[str]:
    task, training = TASKS[record["task"]], record["settings"]["training"]
    split, scores = scored_split(record["metrics"])
    score = task.scores[0]
    return [
        f"{record['model']['type']} on {task.trained_on(record)}",
        f"`{training['optim']}`, learning rate {training['learning_rate']:g}",
        f"{record['steps']:,}",
        f"{split} {score.name} {number(scores.get(score.key), score.digits)}",
    ]


def _study(record: Mapping[str, Any]) -> list[str]:
    choose = max if record.get("greater_is_better", True) else min
    best = choose(record["cells"], key=lambda cell: cell["mean"])
    digits = record.get("digits")
    mean = f"{100 * best['mean']:.2f}%" if digits is None else f"{best['mean']:.{digits}f}"
    at = f"`{best['optimizer']}` at {format_rate(best['learning_rate'])}"
    # Without the options, of which a study may have many.
    optimizers = dict.fromkeys(f"`{cell['optimizer'].split(',')[0]}`" for cell in record["cells"])
    steps = sorted({run["steps"] for run in record["runs"]})
    return [
        f"{record['title']} ({count(len(record['runs']), 'run')})",
        ", ".join(optimizers),
        " to ".join(f"{each:,}" for each in dict.fromkeys((steps[0], steps[-1]))),
        f"best mean {record.get('metric_name') or record['metric']} {mean} ({at})",
    ]


if __name__ == "__main__":
    sys.exit(run_command(main))
