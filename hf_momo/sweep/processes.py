"""The processes of a sweep: locks on its folder, the environment of a run, starting and stopping it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hf_momo.utils.errors import UsageError

# Seconds from SIGTERM to SIGKILL: `accelerate launch` needs a few to stop its workers.
GRACE = 15.0
_GUARD = Path(__file__).with_name("guard.py")
_SWEEP_LOCK, _RUNS_LOCK = ".sweep.lock", ".runs.lock"


class FolderLock:
    """The right to run the sweep of a folder.

    There are two locks: one that the sweep holds, so that no second one starts, and one that its runs hold too, so
    that a sweep after a killed one waits until the runs of that one have been stopped.

    Args:
        folder: The folder, which must exist.

    Raises:
        UsageError: If another sweep has it.
    """

    def __init__(self, folder: Path) -> None:
        self._sweep = os.open(folder / _SWEEP_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        self.runs = os.open(folder / _RUNS_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._lock(folder)
        except BaseException:
            self.release()
            raise

    def _lock(self, folder: Path) -> None:
        if not _try_lock(self._sweep):
            process = os.read(self._sweep, 20).decode().strip() or "unknown"
            raise UsageError(f"{folder} is in use by another sweep (process {process}); wait for it, or stop it")
        os.ftruncate(self._sweep, 0)
        os.pwrite(self._sweep, f"{os.getpid()}\n".encode(), 0)
        deadline = time.monotonic() + GRACE + 5
        while not _try_lock(self.runs):
            if time.monotonic() > deadline:
                raise UsageError(f"{folder}: runs of a sweep before this one are still going; stop them first")
            time.sleep(0.1)

    def release(self) -> None:
        """Give the folder back."""
        os.close(self._sweep)
        os.close(self.runs)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # Some file systems of clusters have no locks; the sweep is usable there, if not twice at once.
        print(f"warning: the folder cannot be locked ({error}); start no second sweep in it", file=sys.stderr)
    return True


class Process:
    """A run of the script, stopped when this object's sweep ends in whatever way.

    Args:
        command: What to run.
        log: File for its output and errors, added to if it exists.
        environment: Of the process.
        lock: Descriptor that the process holds open while it lives.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], lock: int) -> None:
        guarded = [sys.executable, "-I", "-S", str(_GUARD), str(GRACE), str(lock), *command]
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                guarded,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=[lock],
            )

    def poll(self) -> int | None:
        """The exit status, 128 + the number of the signal if one killed it; ``None`` while it runs."""
        return self._guard.poll()

    def stop(self) -> None:
        """Have it stopped; returns at once."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()

    def wait(self) -> int:
        """Wait until it has ended."""
        return self._guard.wait()


def run_environment(job: int, jobs: int, base: Mapping[str, str], devices: Sequence[str]) -> dict[str, str]:
    """The environment of the run in one of the places of ``--jobs``.

    Args:
        job: The place, from 0 on.
        jobs: How many there are.
        base: The environment of the sweep. What it sets of OMP_NUM_THREADS stays.
        devices: The GPUs to share out; with fewer GPUs than jobs several runs are on one.

    Returns:
        With OMP_NUM_THREADS, PYTHONUNBUFFERED (a log is whole when the run is killed) and, with several jobs on
        several GPUs, CUDA_VISIBLE_DEVICES.

    Example:
        >>> run_environment(1, 2, {"OMP_NUM_THREADS": "4"}, ["0", "1", "2", "3"])["CUDA_VISIBLE_DEVICES"]
        '2,3'
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment = {"OMP_NUM_THREADS": str(max(1, cores // jobs)), "PYTHONUNBUFFERED": "1", **base}
    if jobs > 1 and len(devices) > 1:
        begin, end = (place * len(devices) // jobs for place in (job, job + 1))
        share = devices[begin:end] if jobs <= len(devices) else [devices[job % len(devices)]]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(share)
    return environment


def visible_devices() -> list[str]:
    """The GPUs that the sweep may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [device.strip() for device in given.split(",") if device.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
