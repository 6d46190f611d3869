"""A run that is killed (SIGKILL), also in the middle of saving, and resumed is the unbroken run, to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import killed_runs

TESTS = Path(__file__).resolve().parents[1]
LAUNCH = (
    "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    " --dynamo_backend no --main_process_port 0"
)


def launched(folder: Path, ranks: int, script: str) -> Path:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")},
        # With --cpu, accelerate starts one process only.
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, *(LAUNCH.split() if ranks > 1 else []), script, str(folder)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert result.returncode == 0, result.stderr[-6000:]
    return folder


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launched(tmp_path_factory.mktemp("one"), 1, killed_runs.__file__)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launched(tmp_path_factory.mktemp("two"), 2, killed_runs.__file__)


def result(folder: Path, name: str, rank: int) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / f"{name.replace('/', '-')}.{rank}.pt", weights_only=True)
    return loaded


def check(folder: Path, name: str, ranks: int) -> None:
    case = killed_runs.cases(ranks)[name]
    for rank in range(ranks):
        unbroken = result(folder, f"{case.run}/unbroken", rank)
        resumed = result(folder, f"{name}/resumed", rank)
        assert unbroken["first"] == 0
        assert resumed["first"] == case.first
        if case.run == "over-another":
            assert unbroken["losses"].keys() == resumed["losses"].keys()
        rest = [step for step in unbroken["losses"] if step > case.first]
        assert rest == list(range(case.first + 1, 9))
        for step in rest:
            assert resumed["losses"][step] == unbroken["losses"][step], step
        assert resumed["scalars"] == unbroken["scalars"]
        for part in ("weights", "state"):
            assert len(resumed[part]) == len(unbroken[part]) > 0
            assert all(map(torch.equal, resumed[part], unbroken[part])), part


@pytest.mark.parametrize("name", killed_runs.cases(1))
def test_one_process(one_process: Path, name: str) -> None:
    check(one_process, name, 1)


@pytest.mark.parametrize("name", killed_runs.cases(2))
def test_two_processes(two_processes: Path, name: str) -> None:
    check(two_processes, name, 2)
