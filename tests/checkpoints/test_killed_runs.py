"""A run that is killed with SIGKILL, even while it saves, and resumed equals the unbroken run to the bit."""

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
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
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
    # In float64: another number of ranks adds in another order.
    tolerance = 0.0 if case.killed_on == case.resumed_on else 1e-12
    for rank in range(case.resumed_on):
        unbroken = result(folder, f"{case.run}/unbroken", rank)
        resumed = result(folder, f"{name}/resumed", rank)
        assert (unbroken["first"], resumed["first"]) == (0, case.first)
        rest = {step: loss for step, loss in unbroken["losses"].items() if step > case.first}
        assert list(rest) == list(range(case.first + 1, 9))
        for step, loss in rest.items():
            assert resumed["losses"][step] == pytest.approx(loss, rel=tolerance, abs=tolerance)
        for own, other in zip(resumed["scalars"], unbroken["scalars"], strict=True):
            assert own == pytest.approx(other, rel=tolerance, abs=tolerance)
        for part in ("weights", "state"):
            assert len(unbroken[part]) > 0
            for own, other in zip(resumed[part], unbroken[part], strict=True):
                torch.testing.assert_close(own, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", killed_runs.cases(1))
def test_one_process(one_process: Path, name: str) -> None:
    check(one_process, name, 1)


@pytest.mark.parametrize("name", killed_runs.cases(2))
def test_two_processes(two_processes: Path, name: str) -> None:
    check(two_processes, name, 2)


@pytest.mark.parametrize("name", killed_runs.NOT_RESUMED)
def test_a_checkpoint_without_averages_fails_loudly(two_processes: Path, name: str) -> None:
    """FSDP version 1 restores no optimizer state from a sharded checkpoint, so resuming must fail."""
    for rank in range(2):
        error = result(two_processes, f"{name}/resumed", rank)["error"]
        assert error is not None
        assert "holds 4 steps but no running averages" in error
        assert "use FSDP2" in error


def test_averages_of_adamw_on_shards(two_processes: Path) -> None:
    """Converting there and back on two ranks, each with half of the batch, equals one rank with the whole batch."""
    one = result(two_processes, "converted/1", 0)
    assert one["scalars"][0]["num_steps"] == 3
    assert 0 < one["scalars"][-1]["step_scale"] < 1
    for rank in range(2):
        two = result(two_processes, "converted/2", rank)
        for own, other in zip(two["scalars"], one["scalars"], strict=True):
            assert own == pytest.approx(other, rel=1e-12, abs=1e-12)
        for own, other in zip(two["weights"], one["weights"], strict=True):
            torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)
