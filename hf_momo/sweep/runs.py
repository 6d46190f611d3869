"""A worker of a sweep: claims runs, several at once, until all of the sweep have ended."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from hf_momo.sweep.grid import Run
from hf_momo.sweep.processes import SIGNALS, lock_folder, run_environment, start, visible_devices
from hf_momo.sweep.records import LOG_FILE, OUTPUT_FOLDER, RECORD_FILE, Record, collect, find_divergence
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


def run_sweep(study: Study, sweep: Sweep, *, jobs: int = 1, resume: bool = False, prune: bool = False) -> int:
    """Make the runs that no other worker makes, ``jobs`` at once, until every run has ended.

    Returns 0, or 128 + the number of the signal if one stopped this worker, and raises what ``check_results`` raises.
    """
    total, interval = len(sweep.grid.runs), 0.5 if sys.stderr.isatty() else 60.0
    ended = total - len(study.fill(sweep))
    # The mean over all runs so far, not over the last ones: learning rates take turns.
    bar = tqdm(total=total, initial=ended, unit="run", smoothing=0, miniters=0, mininterval=interval)
    with _signals() as received, bar, ThreadPoolExecutor(jobs) as pool:
        worker = _Worker(study, sweep, jobs, resume, prune, bar)
        places = [pool.submit(worker.work, place) for place in range(jobs)]
        for place in places:
            # One that returns has found that all runs have ended; one that fails stops the others.
            place.add_done_callback(lambda _: worker.stopping.set())
        try:
            while not received and not worker.stopping.wait(_TICK):
                bar.update(0)
        finally:
            worker.stopping.set()
            if worker.going:
                bar.write(f"stopping {len(worker.going)} runs", file=sys.stderr)
    for place in places:
        place.result()
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

    def restore(*signals: Any) -> None:
        received.extend(signals[:1])
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, restore)
    try:
        yield received
    finally:
        restore()


class _Worker:
    """A worker, which makes one run in each of its threads."""

    def __init__(self, study: Study, sweep: Sweep, jobs: int, resume: bool, prune: bool, bar: tqdm[Any]) -> None:
        self.study, self.sweep, self.jobs, self.resume, self.prune, self.bar = study, sweep, jobs, resume, prune, bar
        self.devices = visible_devices() if jobs > 1 else []
        self.stopping, self.claiming = threading.Event(), threading.Lock()
        # Folders of the runs that are going on, and of those that something else has stopped.
        self.going: list[str] = []
        self.stopped: set[str] = set()

    def work(self, place: int) -> None:
        """Make one run after the other until all have ended, or the worker is told to stop."""
        while not self.stopping.is_set():
            with self.claiming:
                left = self.study.fill(self.sweep)
                folders = [folder for folder in left if folder not in {*self.stopped, *self.going}]
                claimed = next(filter(None, (self._claim(folder, left[folder]) for folder in folders)), None)
                going = " ".join(self.going) or "waiting for other workers"
                self.bar.update(len(self.sweep.grid.runs) - len(left) - self.bar.n)
                self.bar.set_postfix_str(going, refresh=going != self.bar.postfix)
            if claimed is not None:
                self._make(*claimed, place)
                check_results(self.study, self.sweep)
            elif left.keys() <= self.stopped:
                return
            else:
                # All threads together look once a second.
                self.stopping.wait(_LOOK * self.jobs)

    def _claim(self, folder: str, trial: FrozenTrial) -> tuple[Run, FrozenTrial, int] | None:
        """Return a run that no worker has, which is now this one's, with its trial and the lock on its folder."""
        if trial.state == TrialState.RUNNING and self.study.has_heartbeat:
            return None
        (self.study.folder / folder).mkdir(parents=True, exist_ok=True)
        lock = lock_folder(self.study.folder / folder)
        if lock is None:
            return None
        if self.study.state(trial) == TrialState.RUNNING and not self.study.has_heartbeat:
            # Its worker would have the lock if it lived.
            self.study.give_back(trial, self.sweep)
            trial = self.study.trials()[folder]
        if run := self.study.claim(trial, self.sweep):
            self.going.append(folder)
            return run, trial, lock
        os.close(lock)
        return None

    def _make(self, run: Run, trial: FrozenTrial, lock: int, place: int) -> None:
        """Make a run, and store its record or give it back."""
        folder, recorded = self.study.folder / run.folder, False
        try:
            command = self._command(run, folder)
            environment = run_environment(place, self.jobs, os.environ, self.devices)
            with start(command, folder / LOG_FILE, environment, lock) as process:
                ended, reason = self._watch(trial, process, folder / LOG_FILE)
            # Leaving the block has stopped it, if it was going on, and has waited for it.
            if ended and reason is None and process.returncode in _STOPPED:
                self.stopped.add(str(run.folder))
                by = signal.Signals(process.returncode - 128).name
                self._say(f"{run.folder} was stopped by {by}; the same command repeats it")
            elif ended:
                self._record(run, trial, command, collect(folder, process.returncode, reason))
                recorded = True
        finally:
            # Before the folder is free: a run without a record whose folder is free is repeated.
            try:
                if not recorded:
                    self.study.give_back(trial, self.sweep)
            finally:
                self.going.remove(str(run.folder))
                os.close(lock)

    def _watch(self, trial: FrozenTrial, process: subprocess.Popen[bytes], log: Path) -> tuple[bool, str | None]:
        """Wait for a run; return whether it has a result, and the reason if that is to be pruned."""
        next_look = 0.0
        while process.poll() is None:
            if self.stopping.wait(_TICK):
                return False, None
            if time.monotonic() > next_look:
                next_look = time.monotonic() + HEARTBEAT
                if not self.study.keep(trial):
                    self._say(f"{log.parent} was taken over by another worker, which had no sign of this one")
                    return False, None
                if self.prune and (reason := find_divergence(log.read_text(encoding="utf-8", errors="replace"))):
                    return True, reason
        return True, None

    def _command(self, run: Run, folder: Path) -> list[str]:
        """Return the command of a run whose folder is empty, or holds the checkpoint from which it continues."""
        output = folder / OUTPUT_FOLDER
        checkpoint = None
        if self.resume:
            # Only here: it loads transformers.
            from hf_momo.trainer.checkpoints import last_complete_checkpoint

            with suppress(ValueError):
                checkpoint = last_complete_checkpoint(output)
        (folder / RECORD_FILE).unlink(missing_ok=True)
        if checkpoint is None:
            (folder / LOG_FILE).unlink(missing_ok=True)
            shutil.rmtree(output, ignore_errors=not output.exists())
        output.mkdir(exist_ok=True)
        return self.sweep.command(run, output) + (["--resume_from_checkpoint", checkpoint] if checkpoint else [])

    def _record(self, run: Run, trial: FrozenTrial, command: list[str], record: Record) -> None:
        folder, outcome = self.study.folder / run.folder, record.judge(self.sweep.metric)
        about = {"metric": self.sweep.metric, **asdict(run), "command": command}
        content = {**asdict(outcome), **about, **self.sweep.script_settings(run.optim), **asdict(record)}
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(folder / RECORD_FILE, text + "\n")
        self.study.finish(trial, record, self.sweep.metric)
        if outcome.status != "done":
            self._say(f"{run.folder} {outcome.status}: {outcome.reason} (see {folder / LOG_FILE})")

    def _say(self, text: str) -> None:
        self.bar.write(text, file=sys.stderr)


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
