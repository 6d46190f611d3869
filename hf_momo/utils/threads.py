"""The end of a process that trained together with others."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

_SAMPLES, _INTERVAL = 3, 0.01


def wait_for_idle_threads(timeout: float = 10.0) -> None:
    """Wait until no other thread of this process is busy, before Python shuts down.

    On a busy machine a thread of gloo may still hold the tensors of the last message. To release them it needs
    Python's lock, and if Python is already shutting down the process is aborted after everything was saved: "terminate
    called without an active exception", exit code -6. DDP never ends these threads, so they cannot be joined.

    Args:
        timeout: Seconds after which the function returns in any case.
    """
    idle, deadline = 0, time.monotonic() + timeout
    while idle < _SAMPLES and time.monotonic() < deadline:
        time.sleep(_INTERVAL)  # releases Python's lock
        idle = 0 if count_busy_threads() else idle + 1


def count_busy_threads() -> int:
    """Return how many other threads of this process run or wait for a core; 0 on a system without ``/proc``."""
    number = 0
    for folder in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError):  # the thread has ended
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            number += state == "R" and folder.name != str(threading.get_native_id())
    return number
