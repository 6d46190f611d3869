"""The end of a process that trained with others."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

_SAMPLES, _INTERVAL = 3, 0.01


def wait_until_threads_rest(timeout: float = 10.0) -> None:
    """Wait until no other thread of this process is at work, before Python is taken down.

    A thread of gloo may still hold the tensors of the last message, the only one to do so on a busy machine. It needs
    Python's lock to let go of them, and where Python is already being taken down the process is aborted: "terminate
    called without an active exception", exit code -6, after all is saved. DDP keeps these threads for ever, so they
    cannot be joined.

    Args:
        timeout: In seconds, after which the process ends as it would have.
    """
    resting, deadline = 0, time.monotonic() + timeout
    while resting < _SAMPLES and time.monotonic() < deadline:
        time.sleep(_INTERVAL)  # gives Python's lock away
        resting = 0 if threads_at_work() else resting + 1


def threads_at_work() -> int:
    """Other threads of this process that run or wait for a core; 0 where there is no /proc."""
    number = 0
    for folder in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError):  # it has ended
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            number += state == "R" and folder.name != str(threading.get_native_id())
    return number
