"""The sweep's command line in this process and in one of its own, on the quick script beside this file."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from hf_momo.cli import main

SCRIPT = str(Path(__file__).with_name("quick_script.py"))
METRIC = ("--metric", "eval_accuracy", "--plain")


def sweep(*words):
    """Run ``hf-momo sweep`` here; the runs are processes all the same."""
    try:
        return main(["sweep", *map(str, words)])
    except SystemExit as error:
        return error.code


def start_sweep(*words):
    """Start ``hf-momo sweep`` as a user does."""
    return subprocess.Popen(
        [sys.executable, "-m", "hf_momo", "sweep", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As in a terminal: what starts tests in the background may ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def records(folder):
    """Every run.json by the run's folder."""
    return {str(path.parent.relative_to(folder)): json.loads(path.read_text()) for path in folder.rglob("run.json")}


def starts(path):
    """The processes that a script's ``--started`` lists, and the folders that it was started for."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [int(process) for process, _ in lines], [Path(folder).parent for _, folder in lines]


def is_running(process):
    """Whether there is a process of this number that has not ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition, seconds=300):
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def report_files(folder):
    """The contents of a report's tables."""
    return {name: Path(folder, name).read_bytes() for name in ("points.csv", "best.csv", "runs.csv")}
