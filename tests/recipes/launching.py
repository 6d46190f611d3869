"""Scripts of recipes/ under `accelerate launch` with the files of recipes/accelerate/, on machines with no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, GradientState

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = ROOT / "recipes" / "accelerate"
TRANSLATION = ROOT / "recipes" / "translation.py"
OBSERVED = Path(__file__).with_name("observed.py")


def launch_command(launch_file: str, *words: str | Path) -> list[str]:
    """`accelerate launch --config_file recipes/accelerate/LAUNCH_FILE.yaml ...`, with this Python."""
    file = LAUNCH_FILES / f"{launch_file}.yaml"
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file), *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    """That of a user on a machine with no GPU and no network."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FSDP_"))}
    return {**inherited, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", **more}


def launch(
    launch_file: str, *words: str | Path, cwd: Path, check: bool = True, **more: str
) -> subprocess.CompletedProcess[str]:
    """Launch and wait; gloo waits for ever where one process has gone, so not for ever."""
    command = launch_command(launch_file, *words)
    done = subprocess.run(
        command, cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=400, check=False
    )
    assert not check or done.returncode == 0, done.stderr[-6000:]
    return done


def reset_accelerate() -> None:
    """Reset the state that accelerate keeps for a process."""
    GradientState._reset_state()
    AcceleratorState._reset_state(reset_partial_state=True)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def curve(run: Path, name: str) -> list[float]:
    """One value a logged step, from the record of a run."""
    return [entry[name] for entry in read_json(run / "record.json")["curve"]]
