"""Launches the worker with ``accelerate launch``, as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from invariants.configurations import Backend, Row

TESTS = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("worker.py")

needs_cpu_events = pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"),
    reason="FSDP2 on a CPU needs record_event, of torch 2.7",
)

# Layouts of torch alone that `fully_shard` makes, as meshes.py names them.
FSDP2_LAYOUTS = ("replicas 2x1", "replicas 1x2", "two meshes", "plain and sharded")

Ranks = list[dict[str, Any]]
"""What every rank wrote about one job."""


def marks_of(row: Row) -> list[pytest.MarkDecorator]:
    """Return the marks of a test: ``gpu``, and a skip if this machine cannot launch the backend of ``row``."""
    backend = row.backend
    marks = [pytest.mark.gpu] if backend.device == "cuda" else []
    if backend.device == "cuda" and torch.cuda.device_count() < backend.ranks:
        marks.append(pytest.mark.skipif(True, reason=f"needs {backend.ranks} CUDA device(s)"))
    if backend.name == "fsdp2" or (backend.name == "torch" and row.setting.name.endswith(FSDP2_LAYOUTS)):
        marks.append(needs_cpu_events)
    if backend.name.startswith("zero") and find_spec("deepspeed") is None:
        marks.append(pytest.mark.skipif(True, reason="needs deepspeed"))
    return marks


def launch(backend: Backend, jobs: Sequence[str], folder: Path, *, timeout: float = 480.0) -> dict[str, Ranks]:
    """Run jobs one after the other in the processes of one launch.

    Returns:
        What every rank wrote, by job.

    Raises:
        AssertionError: If a rank did not finish; shows the end of the output.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FSDP_"))},
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS.parent / "recipes"))),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if backend.device == "cpu" and backend.kind == "replicated" and backend.ranks > 1:
        environment["ACCELERATE_USE_CPU"] = "true"
    command = [sys.executable, "-m", "accelerate.commands.launch", *backend.launch.split(), str(WORKER), str(folder)]
    with subprocess.Popen(
        [*command, *jobs],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # Killing only the launcher would leave the ranks behind, waiting for each other.
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += f"\nkilled after {timeout:.0f} seconds"
    files = {job: [folder / f"{job.replace('/', '.')}.{rank}.json" for rank in range(backend.ranks)] for job in jobs}
    unwritten = [job for job, paths in files.items() if not all(path.exists() for path in paths)]
    assert not unwritten, f"{unwritten[0]} ended with {process.returncode}: {output[-6000:]}"
    assert process.returncode == 0, output[-6000:]
    return {job: [json.loads(path.read_text()) for path in paths] for job, paths in files.items()}
