"""The processes of a sweep: the lock on a folder, the environment of a run, starting and stopping it.

Between the sweep and a run there is a guard, this file started as ``python -I -S processes.py GRACE COMMAND...`` with
a pipe as its input, whose other end the sweep holds. It closes when the sweep closes it or dies, even by SIGKILL.
The guard then stops the run with everything it started: SIGTERM to its process group, and after GRACE seconds SIGKILL.
It ends with the status of the run, 128 + the number of the signal if one killed it. Guard and run inherit the lock on
the folder, which is free only when they have ended. A guard imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Seconds from SIGTERM to SIGKILL: `accelerate launch` needs a few to stop its workers.
GRACE = 15.0
# Seconds between two looks at the process.
_TICK = 0.05
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def lock_folder(folder: Path) -> int | None:
    """Lock a folder, and return the descriptor of the lock, or ``None`` if another process holds it.

    The lock lasts until every process that has the descriptor has closed it or ended. This is why it is not one of
    ``filelock``: a run inherits it, so that nobody starts the run anew while the old process still writes.
    """
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        # Some file systems of clusters have no locks; one worker at a time is safe there.
        print(f"warning: {folder} cannot be locked ({error}); start one worker alone", file=sys.stderr)
    return descriptor


def start(command: Sequence[str], log: Path, environment: Mapping[str, str], lock: int) -> subprocess.Popen[bytes]:
    """Start a run, whose status is that of its guard; it holds the lock open and stops when its input is closed."""
    guarded = [sys.executable, "-I", "-S", __file__, str(GRACE), *command]
    with log.open("ab") as output:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": output, "stderr": subprocess.STDOUT}
        return subprocess.Popen(guarded, **pipes, env=environment, start_new_session=True, pass_fds=[lock])


def run_environment(job: int, jobs: int, base: Mapping[str, str], devices: Sequence[str]) -> dict[str, str]:
    """Return the environment of one of several ``jobs``, with its share of the cores and of the GPUs ``devices``.

    With fewer GPUs than jobs several share one. ``OMP_NUM_THREADS`` stays if ``base`` sets it.
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


def _guard(grace: float, command: Sequence[str]) -> int:
    """Run the command until it ends, or the input closes, or a signal says so."""
    told: list[int] = []
    for number in SIGNALS:
        signal.signal(number, lambda *_: told.append(0))
    # A process group of its own: Ctrl-C in the terminal and the signals of the sweep are not for the script.
    run = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, close_fds=False)
    while run.poll() is None and not told:
        # Nothing is ever written to the input: it is readable when it is closed.
        told += select.select([0], [], [], _TICK)[0]
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
        # After a failure too: processes that the script left behind would keep a GPU's memory.
        if told or run.returncode:
            # The group may have ended; macOS says so by the second error.
            with contextlib.suppress(ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
                os.killpg(run.pid, number)
                run.wait(patience)
    status = run.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(_guard(float(sys.argv[1]), sys.argv[2:]))
