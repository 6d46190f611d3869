"""Two processes push once, and none waits for the other when the Hub fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hub import two_processes
from hub.server import Hub
from hub.tiny_runs import TOKEN, USER, check_no_token, push_command, saved

TESTS = Path(__file__).resolve().parents[1]
MODEL_FILES = {"config.json", "model.safetensors", "README.md"}


class Launch(NamedTuple):
    """The results of the processes."""

    hub: Hub
    folder: Path
    ranks: list[dict[str, Any]]
    output: str


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """Launch ``two_processes.py`` as a user would."""
    folder = tmp_path_factory.mktemp("two_processes")
    hub = Hub({TOKEN: USER})
    hub.fail("commit", status=400, repository="/me/broken/")
    options = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    command = ["-m", "accelerate.commands.launch", *options.split(), "--main_process_port", "0"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "HF_"))},
        # With --cpu, accelerate starts one process only.
        **{"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        **{"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder / "home")},
    }
    done = subprocess.run(
        [sys.executable, *command, str(Path(two_processes.__file__)), str(folder)],
        **{"env": environment, "cwd": folder, "capture_output": True, "text": True, "timeout": 300, "check": False},
    )
    assert done.returncode == 0, done.stderr[-6000:]
    ranks = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]
    hub.stop()
    return Launch(hub, folder, ranks, done.stdout + done.stderr)


def test_one_push_and_not_one_a_process(launch: Launch) -> None:
    repository = launch.hub.repositories["me/good"]
    assert repository.messages == [*(f"Training in progress, step {step}" for step in (1, 2)), "End of training"]
    assert repository.files == saved(launch.folder / "good")
    creations = [request for request in launch.hub.requests if request.kind == "create"]
    assert len(creations) == 3  # one per run
    assert [rank["good"]["commit"] for rank in launch.ranks] == [repository.at("main").oid, None]


def test_a_failed_push_leaves_no_process_waiting(launch: Launch) -> None:
    first, second = (rank["broken"] for rank in launch.ranks)
    assert (first["commit"], second["commit"]) == (None, None)
    assert first["loss"] == second["loss"]
    assert saved(launch.folder / "broken").keys() >= MODEL_FILES
    assert launch.hub.repositories["me/broken"].files == {}
    lines = [line for line in launch.output.splitlines() if "me/broken" in line and "push" in line]
    # Two saves and the end, each logged once.
    assert [line.split(":")[0] for line in lines] == ["A push to the Hub failed"] * 2 + ["The push to the Hub failed"]
    assert push_command(lines[-1])[:2] == ["push", str(launch.folder / "broken")]


def test_a_refusal_stops_all_processes(launch: Launch) -> None:
    first, second = (rank["refused"]["error"] for rank in launch.ranks)
    assert first == second
    assert first.startswith(f"push_to_hub: the Hub at {launch.hub.url} refuses the token (401): ")
    assert not (launch.folder / "refused").exists() or saved(launch.folder / "refused") == {}


def test_the_token_is_nowhere(launch: Launch) -> None:
    check_no_token(launch.hub, launch.folder, launch.output)
    assert "wrong" * 7 not in launch.output
