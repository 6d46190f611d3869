"""The record of a run that has ended, run.json: how it was started, how it ended, its results; and the verdict."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hf_momo.sweep.files import read_json, write_json
from hf_momo.sweep.grid import Run
from hf_momo.sweep.settings import Sweep
from hf_momo.utils.errors import UsageError

RECORD_FILE, LOG_FILE, OUTPUT_FOLDER = "run.json", "log.txt", "output"
RESULTS_FILE, STATE_FILE = "all_results.json", "trainer_state.json"
_LOSSES = ("loss", "eval_loss")
# The last line of a traceback, as torch prefixes it in distributed runs.
_ERROR = re.compile(r"(?:\[rank\d+\]:\s*)?(?:\w+\.)*(\w*(?:Error|Exception))(?::|$)")
_ERRORS_OF_LAUNCHERS = {"CalledProcessError", "ChildFailedError"}

Status = Literal["done", "diverged", "crashed", "no metric"]


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        status: ``done`` with a score; ``diverged`` if the metric or the loss is not finite; ``crashed`` if the script
            failed; ``no metric`` if its results have no such key.
        score: Of the metric; ``None`` unless done.
        reason: Why there is no score.
    """

    status: Status
    score: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Record:
    """The facts about a run that has ended; what they mean is judged by the metric that is asked for.

    Attributes:
        settings: ``Sweep.script_settings`` that it was run with.
        exit_status: 0, or 128 + number of the signal that killed it.
        results: ``all_results.json``; ``None`` if the script left none.
        divergence: Which loss was not finite at the end, if one was.
        last_words: What the log of a run that failed says last: its last error, or else its last line.
    """

    settings: Mapping[str, Any]
    exit_status: int
    results: Mapping[str, Any] | None
    divergence: str | None
    last_words: str | None

    @property
    def metrics(self) -> list[str]:
        """Names of the numbers among the results."""
        return [
            name for name, value in (self.results or {}).items() if value is None or isinstance(value, int | float)
        ]

    def judge(self, metric: str) -> Outcome:
        """What the run came to, seen by one metric."""
        words = f": {self.last_words}" if self.last_words else ""
        if self.exit_status != 0:
            return Outcome("crashed", reason=f"{describe_exit(self.exit_status)}{words}")
        if self.divergence is not None:
            return Outcome("diverged", reason=self.divergence)
        if self.results is None:
            return Outcome("crashed", reason=f"left no {RESULTS_FILE} in its --output_dir{words}")
        if metric not in self.results:
            return Outcome("no metric", reason=f"{RESULTS_FILE} has no {metric}")
        value = self.results[metric]
        if isinstance(value, str | list | dict):
            return Outcome("no metric", reason=f"{metric} is no number in {RESULTS_FILE}")
        if value is None or not math.isfinite(value):
            return Outcome("diverged", reason=f"{metric} is not finite")
        return Outcome("done", score=float(value))


def collect(sweep: Sweep, folder: Path, exit_status: int) -> Record:
    """Look at what a run that has just ended left in its folder."""
    output = folder / OUTPUT_FOLDER
    results = _read_object(output / RESULTS_FILE)
    divergence = _divergence(results or {}, read_history(folder)) if exit_status == 0 else None
    failed = exit_status != 0 or results is None
    return Record(
        sweep.script_settings, exit_status, results, divergence, _last_words(folder / LOG_FILE) if failed else None
    )


def write_record(record: Record, sweep: Sweep, run: Run, folder: Path, command: Sequence[str]) -> None:
    """Write run.json; from then on the run is not made again."""
    outcome = record.judge(sweep.metric)
    content = {
        "status": outcome.status,
        "metric": sweep.metric,
        "score": outcome.score,
        "reason": outcome.reason,
        "optim": run.variant.optim,
        "options": dict(run.variant.options),
        "learning_rate": run.learning_rate,
        "seed": run.seed,
        "command": list(command),
        **record.settings,
        "exit_status": record.exit_status,
        "divergence": record.divergence,
        "last_words": record.last_words,
        "results": record.results,
    }
    write_json(folder / RECORD_FILE, content)


def read_record(folder: Path) -> Record | None:
    """Read the record of a run, ``None`` if it has not ended.

    Raises:
        UsageError: If the file is not a record.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        settings = {name: content[name] for name in ("script", "arguments", "launcher", "plain")}
        facts = (content[name] for name in ("exit_status", "results", "divergence", "last_words"))
        return Record(settings, *facts)
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no record of this version: {error!r}; delete it, and the run is made again"
        ) from None


def run_folders(folder: Path) -> list[Path]:
    """The folders of all runs of a sweep that were ever started, in the order of their names."""
    found = []
    for path, folders, _ in os.walk(folder):
        found += [Path(path, name) for name in folders if name.startswith("seed_")]
        folders[:] = [name for name in folders if not name.startswith("seed_")]
    return sorted(found)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """``log_history`` of the Trainer in the folder of a run; empty if it left none."""
    history = (_read_object(folder / OUTPUT_FOLDER / STATE_FILE) or {}).get("log_history")
    return [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []


def describe_exit(status: int) -> str:
    """An exit status in words.

    Example:
        >>> describe_exit(137)
        'exit status 137 (SIGKILL; out of memory?)'
    """
    try:
        name = signal.Signals(status - 128).name
    except ValueError:
        return f"exit status {status}"
    return f"exit status {status} ({name}{'; out of memory?' if name == 'SIGKILL' else ''})"


def _read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object that the script wrote, or ``None``: a script may be killed while it writes."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _divergence(results: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str | None:
    # At the end and not anywhere: one batch that is not finite is skipped by MoMo and by gradient scaling.
    for key in _LOSSES:
        since: Mapping[str, Any] | None = None
        for entry in history:
            if isinstance(entry.get(key), int | float):
                since = None if math.isfinite(entry[key]) else since or entry
        if since is not None:
            return f"{key} is {since[key]} from step {since.get('step', '?')} on"
    for key in ("train_loss", "eval_loss"):
        value = results.get(key)
        if isinstance(value, float) and not math.isfinite(value):
            return f"{key} is {value}"
    return None


def _last_words(log: Path) -> str | None:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    except OSError:
        return None
    words = [line.strip() for line in lines if line.strip()]
    # Launchers end with an error of their own, which says no more than that there was one.
    errors = [line for line in words if (match := _ERROR.match(line)) and match[1] not in _ERRORS_OF_LAUNCHERS]
    return (errors or words)[-1][:300] if words else None
