"""A worker of a sweep: claims runs, several at once, until all of the sweep have ended."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from hf_momo.sweep.grid import Run
from hf_momo.sweep.processes import SIGNALS, lock_folder, run_environment, start, visible_devices
from hf_momo.sweep.records import LOG_FILE, OUTPUT_FOLDER, RECORD_FILE, collect, find_divergence
from hf_momo.sweep.settings import Sweep
from hf_momo.sweep.storage import HEARTBEAT
from hf_momo.sweep.trials import Study
from hf_momo.utils.errors import UsageError
from hf_momo.utils.files import write_whole

# Exit statuses of a run that was stopped from outside.
_STOPPED = {128 + number for number in SIGNALS}
# In the error of a script for an optimizer that it does not know.
_REFUSAL = re.compile(
    r"invalid|not a valid|unknown|unsupported|not supported|unrecognized|KeyError|must be|choose from"
)
# Seconds between two looks at the processes, and at what other workers have done.
_TICK, _LOOK = 0.05, 1.0


@dataclass
class _Job:
    """A run of this worker that is going on."""

    run: Run
    trial: FrozenTrial
    place: int
    folder: Path
    command: list[str]
    lock: int
    process: subprocess.Popen[bytes]
    pruned: str | None = None

    def stop(self) -> None:
        """Stop the run without waiting."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> None:
        """Stop the run if it is going on, and free its folder when it has ended."""
        self.stop()
        self.process.wait()
        os.close(self.lock)


def run_sweep(study: Study, sweep: Sweep, *, jobs: int = 1, resume: bool = False, prune: bool = False) -> int:
    """Make the runs that no other worker makes, ``jobs`` at once, until every run has ended.

    Returns:
        0, or 128 + the number of the signal if one stopped this worker.

    Raises:
        UsageError: If no run has the metric, or the script does not know an optimizer.
    """
    total, interval = len(sweep.grid.runs), 0.5 if sys.stderr.isatty() else 60.0
    # The mean over all runs so far, not over the last ones: learning rates take turns.
    ended = total - len(study.fill(sweep))
    bar = tqdm(total=total, initial=ended, unit="run", smoothing=0, miniters=0, mininterval=interval)
    with _signals() as received, bar:
        worker = _Worker(study, sweep, jobs, resume, prune, bar)
        try:
            while not received and worker.step():
                time.sleep(_TICK)
        finally:
            worker.stop_all()
    if not received and not worker.stopped:
        return 0
    print(f"stopped: {bar.n} of {total} runs have ended; the same command continues the sweep", file=sys.stderr)
    return 128 + (*received, signal.SIGTERM)[0]


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Yield a list that gets the first SIGINT, SIGTERM or SIGHUP; a second one has its usual effect."""
    received: list[int] = []
    # Under nohup SIGHUP is ignored, and stays so.
    before = {number: old for number in SIGNALS if (old := signal.getsignal(number)) is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()

    for number in before:
        signal.signal(number, remember)
    try:
        yield received
    finally:
        restore()


class _Worker:
    def __init__(self, study: Study, sweep: Sweep, jobs: int, resume: bool, prune: bool, bar: tqdm[Any]) -> None:
        self.study, self.sweep, self.jobs, self.resume, self.prune, self.bar = study, sweep, jobs, resume, prune, bar
        self.devices = visible_devices() if jobs > 1 else []
        self.going: dict[str, _Job] = {}
        self.stopped: set[str] = set()
        self.next_look = self.next_heartbeat = 0.0

    def step(self) -> bool:
        """Look after the processes and start more; return whether anything is left to wait for."""
        ended = [folder for folder, job in self.going.items() if job.process.poll() is not None]
        for folder in ended:
            self._end(folder, self.going[folder])
            del self.going[folder]
        if ended:
            check_results(self.study, self.sweep)
        elif time.monotonic() < self.next_look:
            return True
        now = time.monotonic()
        self.next_look = now + _LOOK
        if now > self.next_heartbeat:
            self.next_heartbeat = now + HEARTBEAT
            self._keep()
        if self.prune:
            self._prune()
        if len(self.going) == self.jobs:
            self.bar.update(0)
            return True
        left = self.study.fill(self.sweep)
        for folder, trial in left.items():
            if len(self.going) < self.jobs and folder not in self.stopped and folder not in self.going:
                self._start(folder, trial)
        going = " ".join(self.going) or "waiting for other workers"
        self.bar.update(len(self.sweep.grid.runs) - len(left) - self.bar.n)
        self.bar.set_postfix_str(going, refresh=going != self.bar.postfix)
        return bool(left.keys() - self.stopped)

    def _start(self, folder: str, trial: FrozenTrial) -> None:
        """Claim a run that no worker has, and start it."""
        if trial.state == TrialState.RUNNING and self.study.has_heartbeat:
            return
        path = self.study.folder / folder
        path.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(path)
        if lock is None:
            return
        if self.study.state(trial) == TrialState.RUNNING and not self.study.has_heartbeat:
            # Its worker would have the lock if it lived. The run's next trial is there at the next look.
            self.study.give_back(trial, self.sweep)
            self.next_look = 0
        elif run := self.study.claim(trial, self.sweep):
            self.going[folder] = self._launch(run, trial, path, lock)
            return
        os.close(lock)

    def _launch(self, run: Run, trial: FrozenTrial, folder: Path, lock: int) -> _Job:
        output = folder / OUTPUT_FOLDER
        checkpoint = _last_checkpoint(output) if self.resume else None
        (folder / RECORD_FILE).unlink(missing_ok=True)
        if checkpoint is None:
            (folder / LOG_FILE).unlink(missing_ok=True)
            shutil.rmtree(output, ignore_errors=not output.exists())
        output.mkdir(exist_ok=True)
        command = self.sweep.command(run, output)
        if checkpoint is not None:
            command += ["--resume_from_checkpoint", checkpoint]
        place = min({*range(self.jobs)} - {job.place for job in self.going.values()})
        environment = run_environment(place, self.jobs, os.environ, self.devices)
        process = start(command, folder / LOG_FILE, environment, lock)
        return _Job(run, trial, place, folder, command, lock, process)

    def _keep(self) -> None:
        """Send heartbeats, and stop runs that other workers have taken over."""
        for folder, job in list(self.going.items()):
            if not self.study.keep(job.trial):
                self._say(folder, "was taken over by another worker, which had no sign of this one")
                job.end()
                del self.going[folder]

    def _prune(self) -> None:
        """Stop runs that have diverged."""
        for job in self.going.values():
            log = (job.folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
            job.pruned = job.pruned or find_divergence(log)
            if job.pruned is not None:
                job.stop()

    def _end(self, folder: str, job: _Job) -> None:
        status = job.process.wait()
        if status in _STOPPED and job.pruned is None:
            self.stopped.add(folder)
            self._give_back(job)
            self._say(folder, f"was stopped by {signal.Signals(status - 128).name}; the same command repeats it")
            return
        record = collect(job.folder, status, job.pruned)
        outcome = record.judge(self.sweep.metric)
        about = {"metric": self.sweep.metric, **asdict(job.run), "command": job.command}
        content = {**asdict(outcome), **about, **self.sweep.script_settings(job.run.optim), **asdict(record)}
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(job.folder / RECORD_FILE, text + "\n")
        # Before the folder is free: a run without a record whose folder is free is repeated.
        self.study.finish(job.trial, record, self.sweep.metric)
        job.end()
        if outcome.status != "done":
            self._say(folder, f"{outcome.status}: {outcome.reason} (see {job.folder / LOG_FILE})")

    def _say(self, folder: str, text: str) -> None:
        self.bar.write(f"{folder} {text}", file=sys.stderr)

    def stop_all(self) -> None:
        """Stop the runs that are going on, and give them back."""
        if self.going:
            self.bar.write(f"stopping {len(self.going)} runs", file=sys.stderr)
        for job in self.going.values():
            job.stop()
        for job in self.going.values():
            self._give_back(job)

    def _give_back(self, job: _Job) -> None:
        job.process.wait()
        try:
            self.study.give_back(job.trial, self.sweep)
        finally:
            job.end()


def check_metric(study: Study, sweep: Sweep) -> None:
    """Raise a ``UsageError`` for a metric that no run has, before a whole sweep ends without a score."""
    found = {run.folder: record.results for run, record in study.ended(sweep) if record.results is not None}
    if found and not any(sweep.metric in results for results in found.values()):
        folder, results = next(iter(found.items()))
        numbers = [name for name, value in results.items() if value is None or isinstance(value, int | float)]
        raise UsageError(
            f"--metric: got {sweep.metric}, which {study.folder / folder} ended without; it has {', '.join(numbers)}."
            " Give one of these (the run counts), or in another --output_dir arguments with which the script"
            " computes it"
        )


def check_results(study: Study, sweep: Sweep) -> None:
    """Raise a ``UsageError`` for a metric that no run has, or an optimizer that the script refuses by name."""
    check_metric(study, sweep)
    ended = study.ended(sweep)
    for optim in sweep.grid.learning_rates:
        records = [record for run, record in ended if run.optim == optim]
        message = (records[0].last_message or "") if len(records) == 1 and records[0].exit_status != 0 else ""
        if re.search(rf"(?<!\w){re.escape(optim)}(?!\w)", message) and _REFUSAL.search(message):
            raise UsageError(
                f"--optim: got {optim}, which {sweep.script} does not take: {message}. Give another --optim, or"
                " correct the script and repeat the run with --retry_failed"
            )


def _last_checkpoint(output: Path) -> str | None:
    # Only here: it loads transformers.
    from hf_momo.trainer.checkpoints import last_complete_checkpoint

    try:
        return last_complete_checkpoint(output)
    except ValueError:
        return None
