"""The processes of a sweep: the lock on a folder, the environment of a run, starting and stopping it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Seconds from SIGTERM to SIGKILL: `accelerate launch` needs a few to stop its workers.
GRACE = 15.0
_GUARD = Path(__file__).with_name("guard.py")


def lock_folder(folder: Path, *, wait: bool = False) -> int | None:
    """Lock a folder, and return the descriptor of the lock, or ``None`` if another process holds it.

    The lock lasts until every process that has the descriptor has closed it or ended. This is why it is not one of
    ``filelock``: a run inherits it, so that nobody starts the run anew while the old process still writes.
    """
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        # Some file systems of clusters have no locks; one worker at a time is safe there.
        print(f"warning: {folder} cannot be locked ({error}); start one worker alone", file=sys.stderr)
    return descriptor


class Process:
    """A run of the script, which holds the lock open and is stopped when its sweep ends in whatever way."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], lock: int) -> None:
        guarded = [sys.executable, "-I", "-S", str(_GUARD), str(GRACE), str(lock), *command]
        with log.open("ab") as output:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": output, "stderr": subprocess.STDOUT}
            self._guard = subprocess.Popen(guarded, **pipes, env=environment, start_new_session=True, pass_fds=[lock])

    def poll(self) -> int | None:
        """Return the exit status, 128 + the number of the signal if one killed it; ``None`` while it runs."""
        return self._guard.poll()

    def stop(self) -> None:
        """Stop it without waiting."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()

    def wait(self) -> int:
        """Wait until it has ended, and return the exit status."""
        return self._guard.wait()


def run_environment(job: int, jobs: int, base: Mapping[str, str], devices: Sequence[str]) -> dict[str, str]:
    """Return the environment of one of several ``jobs``, with its share of the cores and of the GPUs ``devices``.

    With fewer GPUs than jobs several share one. ``OMP_NUM_THREADS`` stays if ``base`` sets it.

    Example:
        >>> run_environment(1, 2, {"OMP_NUM_THREADS": "4"}, ["0", "1", "2", "3"])["CUDA_VISIBLE_DEVICES"]
        '2,3'
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Unbuffered, so that the log of a run that is killed is whole.
    environment = {"OMP_NUM_THREADS": str(max(1, cores // jobs)), "PYTHONUNBUFFERED": "1", **base}
    if jobs > 1 and len(devices) > 1:
        begin, end = (place * len(devices) // jobs for place in (job, job + 1))
        share = devices[begin:end] if jobs <= len(devices) else [devices[job % len(devices)]]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(share)
    return environment


def visible_devices() -> list[str]:
    """Return the GPUs that the sweep may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [device.strip() for device in given.split(",") if device.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
