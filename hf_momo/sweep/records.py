"""The record of a run that has ended: its exit status and results, and what they mean for a metric."""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

# In the folder of a run: a copy of the record for people and other programs, the script's own output, and its files.
RECORD_FILE, LOG_FILE, OUTPUT_FOLDER = "run.json", "log.txt", "output"
_RESULTS_FILE, _STATE_FILE = "all_results.json", "trainer_state.json"
# A run has diverged when this many losses in a row were logged above the first one.
_PATIENCE = 10
# The last line of a traceback, as torch prefixes it in distributed runs.
_ERROR = re.compile(r"(?:\[rank\d+\]:\s*)?(?:\w+\.)*(\w*(?:Error|Exception))(?::|$)")
# Launchers end with an error of their own, which only says that there was one.
_ERRORS_OF_LAUNCHERS = {"CalledProcessError", "ChildFailedError"}
# The Trainer prints its logs as dicts, whose numbers are text since transformers 5.
_LOGGED_LOSS = re.compile(r"'loss': '?(nan|inf|-?\d+\.?\d*(?:e[-+]?\d+)?)")


@dataclass(frozen=True)
class Outcome:
    """The meaning of a record for one metric: a score, or the reason why there is none (see the page of the sweep)."""

    status: Literal["done", "diverged", "crashed", "no metric"]
    score: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Record:
    """The facts about a run that has ended.

    Attributes:
        exit_status: 0, or 128 + number of the signal that killed it.
        results: ``all_results.json``, or ``None`` if the script left none.
        divergence: The loss that was not finite at the end, or why the run was pruned.
        last_message: The last error in the log of a run that failed, or else its last line.
    """

    exit_status: int
    results: Mapping[str, Any] | None
    divergence: str | None
    last_message: str | None

    def judge(self, metric: str) -> Outcome:
        """Return the meaning of the record for one metric."""
        message = f": {self.last_message}" if self.last_message else ""
        if self.divergence is not None:
            return Outcome("diverged", reason=self.divergence)
        if self.exit_status != 0:
            return Outcome("crashed", reason=f"{describe_exit(self.exit_status)}{message}")
        if self.results is None:
            return Outcome("crashed", reason=f"left no {_RESULTS_FILE} in its --output_dir{message}")
        value = self.results.get(metric, "")
        if isinstance(value, str | list | dict):
            return Outcome("no metric", reason=f"{_RESULTS_FILE} has no number {metric}")
        if value is None or not math.isfinite(value):
            return Outcome("diverged", reason=f"{metric} is not finite")
        return Outcome("done", score=float(value))


def collect(folder: Path, exit_status: int, pruned: str | None = None) -> Record:
    """Return the record of a run that has just ended; ``pruned`` is the reason if the sweep stopped it."""
    path = folder / OUTPUT_FOLDER / _RESULTS_FILE
    results = _read_object(path)
    if exit_status == 0 and pruned is None:
        pruned = _divergence(results or {}, read_history(folder))
    message = _last_message(folder / LOG_FILE) if exit_status != 0 or results is None else None
    if exit_status == 0 and results is None and path.exists():
        message = f"the file there is no JSON object{'; ' + message if message else ''}"
    # Strict JSON has no NaN.
    return Record(exit_status, json.loads(json.dumps(results), parse_constant=lambda _: None), pruned, message)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return ``log_history`` of the Trainer in the folder of a run; empty if it left none."""
    history = (_read_object(folder / OUTPUT_FOLDER / _STATE_FILE) or {}).get("log_history")
    return [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []


def find_divergence(log: str) -> str | None:
    """Return why a running script has diverged by the losses in its log, or ``None``."""
    losses = [float(text) for text in _LOGGED_LOSS.findall(log)]
    if len(losses) <= _PATIENCE or any(loss <= losses[0] for loss in losses[-_PATIENCE:]):
        return None
    return f"pruned: the loss was above its start ({losses[0]:g}) for {_PATIENCE} logs"


def describe_exit(status: int) -> str:
    """Return an exit status in words."""
    try:
        name = signal.Signals(status - 128).name
    except ValueError:
        return f"exit status {status}"
    return f"exit status {status} ({name}{'; out of memory?' if name == 'SIGKILL' else ''})"


def _read_object(path: Path) -> dict[str, Any] | None:
    """Return a JSON object that the script wrote, or ``None``: a script may be killed while it writes."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _divergence(results: Mapping[str, Any], history: list[dict[str, Any]]) -> str | None:
    # At the end and not anywhere: one batch that is not finite is skipped by MoMo and by gradient scaling.
    for key in ("loss", "eval_loss"):
        entries = [entry for entry in history if isinstance(entry.get(key), int | float)]
        if last := [*takewhile(lambda entry: not math.isfinite(entry[key]), reversed(entries))]:  # noqa: B023
            return f"{key} is {last[-1][key]} from step {last[-1].get('step', '?')} on"
    for key in ("train_loss", "eval_loss"):
        if isinstance(value := results.get(key), float) and not math.isfinite(value):
            return f"{key} is {value}"
    return None


def _last_message(log: Path) -> str | None:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    errors = [line for line in lines if (match := _ERROR.match(line)) and match[1] not in _ERRORS_OF_LAUNCHERS]
    return (errors or lines)[-1][:300] if lines else None
