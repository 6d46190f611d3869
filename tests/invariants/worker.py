"""Trains rows of the table in one of the processes of ``accelerate launch``, and writes the results to files.

accelerate launch ... tests/invariants/worker.py OUTPUT_FOLDER JOB [JOB ...]

where a job is the name of a row, or ``sabotage:row``. ``launching.py`` calls it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from invariants.configurations import REFUSED, ROWS, Row
from invariants.loops import run_on_cpu, train_in_a_loop
from invariants.meshes import train_with_torch
from invariants.sabotage import broken
from invariants.trainers import train_with_the_trainer
from uninitialized import fill_with_nan

from common.processes import leave_processes

WAYS = {"loop": train_in_a_loop, "trainer": train_with_the_trainer, "torch": train_with_torch}


def train(row: Row) -> dict[str, Any]:
    """Train the real model and the linear one."""
    run_on_cpu(row)
    return {"trajectory": WAYS[row.way](row, euler=False), "euler": WAYS[row.way](row, euler=True)}


def main(folder: Path, jobs: list[str]) -> None:
    rank = int(os.environ.get("RANK", "0"))
    fill_with_nan()
    gc.freeze()  # the Trainer collects garbage at every train(), among everything imported
    for job in jobs:
        sabotage, _, name = job.rpartition(":")
        try:
            with broken(sabotage):
                result = train((ROWS | REFUSED)[name])
        except Exception:
            # The test of this row shows the error; the other rows still run.
            result = {"error": traceback.format_exc()}
        (folder / f"{job.replace('/', '.')}.{rank}.json").write_text(json.dumps(result))
    leave_processes()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
