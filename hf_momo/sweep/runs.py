"""A worker of a sweep: claims runs, several at once, until all of the sweep have ended."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from hf_momo.sweep.grid import Run
from hf_momo.sweep.processes import Process, lock_folder, run_environment, visible_devices
from hf_momo.sweep.records import LOG_FILE, OUTPUT_FOLDER, RECORD_FILE, Record, collect, find_divergence
from hf_momo.sweep.settings import Sweep
from hf_momo.sweep.storage import HEARTBEAT
from hf_momo.sweep.trials import Study, record_of, run_of
from hf_momo.utils.errors import UsageError
from hf_momo.utils.files import write_whole

# Exit statuses of a run that was stopped from outside.
_STOPPED = {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
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
    command: list[str]
    lock: int
    process: Process
    pruned: str | None = None

    def end(self) -> None:
        """Stop the process if it runs, and free the folder of the run."""
        self.process.stop()
        self.process.wait()
        os.close(self.lock)


class _Signals:
    """Remembers the first of SIGINT, SIGTERM and SIGHUP; a second one has its usual effect."""

    received: int | None = None

    def __enter__(self) -> _Signals:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        for number, handler in self._before.items():
            # Under nohup SIGHUP is ignored, and stays so.
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._remember)
        return self

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.__exit__()

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def run_sweep(study: Study, sweep: Sweep, *, jobs: int = 1, resume: bool = False, prune: bool = False) -> int:
    """Make the runs that nobody else makes, ``jobs`` at once, until every run has ended.

    Returns:
        0, or 128 + the number of the signal if one stopped this worker.

    Raises:
        UsageError: If no run has the metric, or the script does not know an optimizer.
    """
    total, interval = len(sweep.grid.runs), 0.5 if sys.stderr.isatty() else 30.0
    # The mean over all runs so far, not over the last ones: learning rates take turns.
    bar = tqdm(total=total, initial=_count_ended(study, sweep), unit="run", smoothing=0, mininterval=interval)
    with _Signals() as signals, bar:
        worker = _Worker(study, sweep, jobs, resume, prune, bar)
        try:
            while signals.received is None and worker.step():
                time.sleep(_TICK)
        finally:
            worker.stop_all()
    if signals.received is None and not worker.stopped:
        return 0
    print(
        f"stopped: {_count_ended(study, sweep)} of {total} runs have ended; the same command goes on", file=sys.stderr
    )
    return 128 + (signals.received or signal.SIGTERM)


def _count_ended(study: Study, sweep: Sweep) -> int:
    trials = study.trials()
    found = [trials.get(str(run.folder)) for run in sweep.grid.runs]
    return sum(trial is not None and record_of(trial) is not None for trial in found)


class _Worker:
    def __init__(self, study: Study, sweep: Sweep, jobs: int, resume: bool, prune: bool, bar: tqdm[Any]) -> None:
        self.study, self.sweep, self.jobs, self.resume, self.prune, self.bar = study, sweep, jobs, resume, prune, bar
        self.devices = visible_devices() if jobs > 1 else []
        self.going: dict[int, _Job] = {}
        self.stopped: set[str] = set()
        self.next_look = self.next_heartbeat = self.next_prune = 0.0

    def step(self) -> bool:
        """Look after the processes and start more; return whether anything is left to wait for."""
        ended = [place for place, job in self.going.items() if job.process.poll() is not None]
        for place in ended:
            self._end(self.going[place])
            del self.going[place]
        if ended:
            check_results(self.study.ended(self.sweep), self.sweep, self.study.folder)
        now = time.monotonic()
        if now > self.next_heartbeat:
            self.next_heartbeat = now + HEARTBEAT
            self._keep()
        if self.prune and now > self.next_prune:
            self.next_prune = now + _LOOK
            self._prune()
        if time.time() - self.bar.last_print_t > self.bar.mininterval * 2:
            self.bar.refresh()
            self.bar.last_print_t = time.time()
        if len(self.going) == self.jobs or (not ended and now < self.next_look):
            return True
        self.next_look = now + _LOOK
        trials = self.study.fill(self.sweep)
        folders = [str(run.folder) for run in self.sweep.grid.runs]
        left = [folder for folder in folders if record_of(trials[folder]) is None]
        self.bar.update(len(folders) - len(left) - self.bar.n)
        for folder in left:
            if len(self.going) < self.jobs and folder not in self.stopped:
                self._start(trials[folder])
        going = " ".join(str(job.run.folder) for job in self.going.values()) or "waiting for other workers"
        if going != self.bar.postfix:
            self.bar.set_postfix_str(going, refresh=not ended)
        return bool(set(left) - self.stopped)

    def _start(self, trial: FrozenTrial) -> None:
        """Claim a run that nobody has, and start it."""
        if trial.state == TrialState.RUNNING and (self.study.has_heartbeat or self._is_mine(trial)):
            return
        folder = self.study.folder / run_of(trial).folder
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(folder)
        if lock is None:
            return
        if self.study.state(trial) == TrialState.RUNNING and not self.study.has_heartbeat:
            # Its worker would have the lock if it lived. The run's next trial is there at the next look.
            self.study.give_back(trial, self.sweep)
            self.next_look = 0
        elif run := self.study.claim(trial, self.sweep):
            place = next(number for number in range(self.jobs) if number not in self.going)
            self.going[place] = self._launch(run, trial, folder, lock, place)
            return
        os.close(lock)

    def _is_mine(self, trial: FrozenTrial) -> bool:
        return any(job.trial.number == trial.number for job in self.going.values())

    def _launch(self, run: Run, trial: FrozenTrial, folder: Path, lock: int, place: int) -> _Job:
        output = folder / OUTPUT_FOLDER
        checkpoint = _last_checkpoint(output) if self.resume else None
        (folder / RECORD_FILE).unlink(missing_ok=True)
        if checkpoint is None:
            (folder / LOG_FILE).unlink(missing_ok=True)
            shutil.rmtree(output, ignore_errors=not output.exists())
        output.mkdir(exist_ok=True)
        command = self.sweep.command(run, output)
        if checkpoint is not None:
            command += ["--resume_from_checkpoint", str(checkpoint)]
        environment = run_environment(place, self.jobs, os.environ, self.devices)
        return _Job(run, trial, command, lock, Process(command, folder / LOG_FILE, environment, lock))

    def _keep(self) -> None:
        """Send heartbeats, and stop runs that other workers have taken over."""
        for place, job in list(self.going.items()):
            if not self.study.keep(job.trial):
                self._say(job, "was taken over by another worker, which had no sign of this one")
                del self.going[place]
                job.end()

    def _prune(self) -> None:
        """Stop runs that have diverged."""
        for job in self.going.values():
            log = self.study.folder / job.run.folder / LOG_FILE
            job.pruned = job.pruned or find_divergence(log.read_text(encoding="utf-8", errors="replace"))
            if job.pruned is not None:
                job.process.stop()

    def _end(self, job: _Job) -> None:
        status = job.process.wait()
        if status in _STOPPED and job.pruned is None:
            self.stopped.add(str(job.run.folder))
            self._give_back(job)
            self._say(job, f"was stopped by {signal.Signals(status - 128).name}; the same command makes it again")
            return
        folder = self.study.folder / job.run.folder
        record = collect(folder, status, job.pruned)
        outcome = record.judge(self.sweep.metric)
        content = {
            **{**asdict(outcome), "metric": self.sweep.metric, "optim": job.run.variant.optim},
            **{"options": dict(job.run.variant.options), "learning_rate": job.run.learning_rate, "seed": job.run.seed},
            **{"command": job.command, **self.sweep.script_settings(job.run.variant.optim), **asdict(record)},
        }
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(folder / RECORD_FILE, text + "\n")
        # Before the folder is free: a run without a record whose folder is free is made again.
        self.study.finish(job.trial, record, self.sweep.metric)
        job.end()
        if outcome.status != "done":
            self._say(job, f"{outcome.status}: {outcome.reason} (see {folder / LOG_FILE})")

    def _say(self, job: _Job, text: str) -> None:
        self.bar.write(f"{job.run.folder} {text}", file=sys.stderr)

    def stop_all(self) -> None:
        """Stop the runs that are going on, and give them back."""
        if self.going:
            self.bar.write(f"stopping {len(self.going)} runs", file=sys.stderr)
        for job in self.going.values():
            job.process.stop()
        for job in self.going.values():
            self._give_back(job)

    def _give_back(self, job: _Job) -> None:
        job.process.wait()
        try:
            self.study.give_back(job.trial, self.sweep)
        finally:
            job.end()


def check_metric(ended: Sequence[tuple[Run, Record]], sweep: Sweep, folder: Path) -> None:
    """Raise a ``UsageError`` for a metric that no run has, before a whole sweep ends without a score."""
    with_results = [(run, record) for run, record in ended if record.results is not None]
    if with_results and not any(sweep.metric in (record.results or {}) for _, record in with_results):
        run, record = with_results[0]
        raise UsageError(
            f"--metric: got {sweep.metric}, which {folder / run.folder} ended without; it has"
            f" {', '.join(record.metrics)}. Give one of these (the run counts), or in another --output_dir arguments"
            " with which the script computes it"
        )


def check_results(ended: Sequence[tuple[Run, Record]], sweep: Sweep, folder: Path) -> None:
    """Raise a ``UsageError`` for a metric that no run has, or an optimizer that the script refuses by name."""
    check_metric(ended, sweep, folder)
    for optim in dict.fromkeys(variant.optim for variant in sweep.grid.variants):
        records = [record for run, record in ended if run.variant.optim == optim]
        named = re.compile(rf"(?<!\w){re.escape(optim)}(?!\w)")
        for message in [record.last_message or "" for record in records if record.exit_status != 0]:
            if len(records) == 1 and named.search(message) and _REFUSAL.search(message):
                raise UsageError(
                    f"--optim: got {optim}, which {sweep.script} does not take: {message}. Give another --optim, or"
                    " mend the script and repeat the run with --retry_failed"
                )


def _last_checkpoint(output: Path) -> Path | None:
    # Only here: it loads transformers.
    from hf_momo.trainer.checkpoints import last_complete_checkpoint

    try:
        return Path(last_complete_checkpoint(output))
    except ValueError:
        return None
