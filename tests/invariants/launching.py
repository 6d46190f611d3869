"""Launching the worker with ``accelerate launch``, as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from invariants.configurations import Backend

TESTS = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("worker.py")

Ranks = list[dict[str, Any]]
"""What every rank wrote about one job."""


def launch(backend: Backend, jobs: Sequence[str], folder: Path, *, timeout: float = 240.0) -> dict[str, Ranks]:
    """Launch one job after the other in the processes of one launch.

    Returns:
        By job, what every rank wrote; the job is missing where a rank wrote nothing.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FSDP_"))},
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if backend.kind == "replicated" and backend.ranks > 1:
        environment["ACCELERATE_USE_CPU"] = "true"
    command = [sys.executable, "-m", "accelerate.commands.launch", *backend.launch.split(), str(WORKER), str(folder)]
    result = subprocess.run(
        [*command, *jobs], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    files = {job: [folder / f"{job.replace('/', '.')}.{rank}.json" for rank in range(backend.ranks)] for job in jobs}
    missing = [job for job, paths in files.items() if not all(path.exists() for path in paths)]
    assert not missing, f"{missing[0]} ended with {result.returncode}: {result.stdout[-2000:]}{result.stderr[-6000:]}"
    assert result.returncode == 0, result.stderr[-6000:]
    return {job: [json.loads(path.read_text()) for path in paths] for job, paths in files.items()}
