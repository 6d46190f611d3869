"""Running a sweep: every run of the grid that has no record yet, several at once, until all have one."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hf_momo.sweep.grid import Run
from hf_momo.sweep.processes import FolderLock, Process, run_environment, visible_devices
from hf_momo.sweep.records import (
    LOG_FILE,
    OUTPUT_FOLDER,
    RECORD_FILE,
    Record,
    collect,
    read_record,
    run_folders,
    write_record,
)
from hf_momo.sweep.settings import SWEEP_FILE, Sweep, describe_difference, read_sweep
from hf_momo.utils.errors import UsageError

# The statuses of a run that was stopped from outside: SIGHUP, SIGINT, SIGTERM.
_STOPPED = {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}


@dataclass
class _Job:
    """A run that is going on."""

    run: Run
    folder: Path
    command: list[str]
    process: Process


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
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(self, *_: Any) -> None:
        self._restore()


def run_sweep(sweep: Sweep, folder: Path, *, jobs: int = 1, retry_failed: bool = False, resume: bool = False) -> int:
    """Run what is not yet done.

    Args:
        sweep: The settings.
        folder: Folder of the sweep, new or of the same sweep.
        jobs: Runs at once.
        retry_failed: Make runs again that crashed or left no metric.
        resume: Let interrupted runs go on from their last complete checkpoint instead of making them anew.

    Returns:
        0 if every run has ended, 128 + the number of the signal if one stopped the sweep.

    Raises:
        UsageError: If the folder is in use, or holds something else than this sweep, or no run has the metric.
    """
    with _folder_of(sweep, folder) as lock:
        pending = [run for run in sweep.grid.runs if _is_pending(sweep, folder / run.folder, retry_failed)]
        if not pending:
            return 0
        return _Loop(sweep, folder, lock, jobs, resume).run_all(pending)


class _Loop:
    """Starts and awaits runs."""

    def __init__(self, sweep: Sweep, folder: Path, lock: FolderLock, jobs: int, resume: bool) -> None:
        self.sweep, self.folder, self.lock, self.jobs, self.resume = sweep, folder, lock, jobs, resume
        self.devices = visible_devices() if jobs > 1 else []
        self.going: dict[int, _Job] = {}
        self.stopped = 0

    def run_all(self, runs: Sequence[Run]) -> int:
        from tqdm import tqdm

        pending, total = deque(runs), len(self.sweep.grid.runs)
        interval = 0.5 if sys.stderr.isatty() else 30.0
        with (
            _Signals() as signals,
            # The mean over all runs so far, not over the last ones: learning rates take turns.
            tqdm(total=total, initial=total - len(runs), unit="run", smoothing=0, mininterval=interval) as self.bar,
        ):
            try:
                while (pending or self.going) and signals.received is None:
                    while pending and len(self.going) < self.jobs:
                        self._start(pending.popleft())
                    self._await()
            finally:
                self._stop_all()
        if signals.received is None and self.stopped == 0:
            return 0
        done = total - len(runs) + sum((self.folder / run.folder / RECORD_FILE).is_file() for run in runs)
        print(f"stopped: {done} of {total} runs have ended; the same command goes on", file=sys.stderr)
        return 128 + (signals.received or signal.SIGTERM)

    def _start(self, run: Run) -> None:
        job = next(number for number in range(self.jobs) if number not in self.going)
        folder = self.folder / run.folder
        output = folder / OUTPUT_FOLDER
        checkpoint = _last_checkpoint(output) if self.resume else None
        (folder / RECORD_FILE).unlink(missing_ok=True)
        if checkpoint is None:
            (folder / LOG_FILE).unlink(missing_ok=True)
            if output.exists():
                shutil.rmtree(output)
        output.mkdir(parents=True, exist_ok=True)
        command = self.sweep.command(run, output)
        if checkpoint is not None:
            command += ["--resume_from_checkpoint", str(checkpoint)]
        environment = run_environment(job, self.jobs, os.environ, self.devices)
        self.going[job] = _Job(run, folder, command, Process(command, folder / LOG_FILE, environment, self.lock.runs))

    def _await(self) -> None:
        ended = [number for number, job in self.going.items() if job.process.poll() is not None]
        for number in ended:
            self._end(self.going.pop(number))
        if not ended:
            self.bar.set_postfix_str(" ".join(str(job.run.folder) for job in self.going.values()), refresh=False)
            if time.time() - self.bar.last_print_t > self.bar.mininterval * 2:
                self.bar.refresh()
                self.bar.last_print_t = time.time()
            time.sleep(0.05)

    def _end(self, job: _Job) -> None:
        status = job.process.wait()
        job.process.stop()
        if status in _STOPPED:
            self.stopped += 1
            self._say(job, f"was stopped by {signal.Signals(status - 128).name}; the same command makes it again")
            return
        record = collect(self.sweep, job.folder, status)
        write_record(record, self.sweep, job.run, job.folder, job.command)
        outcome = record.judge(self.sweep.metric)
        self.bar.update()
        if outcome.status != "done":
            self._say(job, f"{outcome.status}: {outcome.reason} (see {job.folder / LOG_FILE})")
        if outcome.status == "no metric":
            _check_metric(self.sweep.metric, self.folder, job.folder, record)

    def _say(self, job: _Job, text: str) -> None:
        self.bar.write(f"{job.run.folder} {text}", file=sys.stderr)

    def _stop_all(self) -> None:
        if self.going:
            self.bar.write(f"stopping {len(self.going)} runs", file=sys.stderr)
        for job in self.going.values():
            job.process.stop()
        for job in self.going.values():
            job.process.wait()


@contextmanager
def _folder_of(sweep: Sweep, folder: Path) -> Iterator[FolderLock]:
    """Lock the folder, check that it is new or of the same sweep, and write down the settings."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output_dir: got {folder}, which is a file; give a folder")
    if folder.is_dir() and not (folder / SWEEP_FILE).is_file() and any(_visible(folder)):
        raise UsageError(f"--output_dir: got {folder}, which holds other files and no sweep; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder)
    try:
        if (folder / SWEEP_FILE).is_file():
            _check_same(sweep, folder)
        sweep.write(folder)
        yield lock
    finally:
        lock.release()


def _check_same(sweep: Sweep, folder: Path) -> None:
    """Refuse other settings than those of runs that have ended; what only crashed or broke off is discarded."""
    now = sweep.script_settings
    unusable = []
    for run_folder in run_folders(folder):
        record = read_record(run_folder)
        if record is None or (record.exit_status != 0 and describe_difference(record.settings, now)):
            unusable.append(run_folder)
        elif difference := describe_difference(record.settings, now):
            raise UsageError(
                f"{run_folder} was run with other settings ({difference}); give the settings of before, or another"
                " --output_dir"
            )
    if describe_difference(read_sweep(folder).script_settings, now):
        for run_folder in unusable:
            shutil.rmtree(run_folder)


def _is_pending(sweep: Sweep, folder: Path, retry_failed: bool) -> bool:
    record = read_record(folder)
    return record is None or (retry_failed and record.judge(sweep.metric).status in ("crashed", "no metric"))


def _check_metric(metric: str, folder: Path, run_folder: Path, record: Record) -> None:
    """Stop a sweep that would run to its end without a score, by the first run that shows it."""
    records = filter(None, map(read_record, run_folders(folder)))
    if not any(metric in (other.results or {}) for other in records):
        raise UsageError(
            f"--metric: got {metric}, which {run_folder} ended without; it has {', '.join(record.metrics)}. Give one"
            " of these (the run counts), or in another --output_dir arguments with which the script computes it"
        )


def _last_checkpoint(output: Path) -> Path | None:
    # Only now: it loads transformers.
    from hf_momo.trainer.checkpoints import last_complete_checkpoint

    try:
        return Path(last_complete_checkpoint(output))
    except ValueError:
        return None


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))
