"""The optimizer's log entries reach the local stores of W&B (offline) and trackio.

Both packages are optional: ``pip install wandb trackio`` lets these tests run.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from trainer.tracked_run import PROJECT

SCRIPT = Path(__file__).with_name("tracked_run.py")
SERIES = ("loss", "step_size", "lower_bound", "step_capped", "skipped_steps")


class Tracked(NamedTuple):
    """A run and the folder with the stores."""

    logs: list[dict[str, Any]]
    folder: Path


def _require(package: str) -> None:
    # Not by an import: the folder wandb that a run leaves in the working directory can be imported too.
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    for package in ("wandb", "trackio"):
        _require(package)
    folder = tmp_path_factory.mktemp("tracked")
    environment = {
        "PYTHONPATH": str(SCRIPT.parents[1]),
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "TRACKIO_DIR": str(folder / "trackio"),
    }
    subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)], env=os.environ | environment, cwd=folder, check=True, timeout=120
    )
    history = json.loads((folder / "history.json").read_text())
    logs = [entry for entry in history if "loss" in entry]
    assert [entry["step"] for entry in logs] == [3, 6, 9, 12]
    for name in ("step_size", "lower_bound", "step_capped"):
        assert len({entry[name] for entry in logs}) > 1, f"{name} is meant to change"
    return Tracked(logs, folder)


def _check(tracked: Tracked, rows: list[dict[str, Any]]) -> None:
    rows = [row for row in rows if "train/loss" in row]
    assert [row["train/global_step"] for row in rows] == [entry["step"] for entry in tracked.logs]
    for name in SERIES:
        assert [row[f"train/{name}"] for row in rows] == [entry[name] for entry in tracked.logs]


def test_wandb_shows_them(tracked: Tracked) -> None:
    _check(tracked, json.loads((tracked.folder / "wandb.json").read_text()))


def test_trackio_shows_them(tracked: Tracked) -> None:
    with sqlite3.connect(tracked.folder / "trackio" / f"{PROJECT}.db") as store:
        rows = store.execute("select metrics from metrics where run_name = 'tiny' order by step").fetchall()
    store.close()
    _check(tracked, [json.loads(metrics) for (metrics,) in rows])
