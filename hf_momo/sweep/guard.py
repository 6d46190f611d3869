"""A process between the sweep and one run of the script, which stops the run when the sweep is gone.

Started as ``python -I -S guard.py GRACE LOCK COMMAND...`` with a pipe as its input, whose other end the sweep holds.
The pipe closes when the sweep closes it or dies, even by SIGKILL. The run is then stopped with everything it started:
SIGTERM to its process group, and after GRACE seconds SIGKILL. The guard ends with the status of the run, 128 + the
number of the signal if one killed it. LOCK is the descriptor of the lock on the run's folder, which guard and run hold
open, so that the folder is free only when they have ended. One guard is started for every run, so it imports nothing
but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time


def main(arguments: list[str]) -> int:
    """Run the command until it ends or the input closes."""
    grace, lock, command = float(arguments[0]), int(arguments[1]), arguments[2:]
    # A process group of its own: Ctrl-C in the terminal and the signals of the sweep are not for the script.
    run = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=[lock])
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    threading.Thread(target=_read_to_end, args=(stopping,), daemon=True).start()
    threading.Thread(target=_stop_when_told, args=(run.pid, stopping, grace), daemon=True).start()
    status = run.wait()
    if status != 0 or stopping.is_set():
        # Processes that the script started and left behind would keep a GPU's memory.
        _signal_group(run.pid, signal.SIGKILL)
    return status if status >= 0 else 128 - status


def _read_to_end(stopping: threading.Event) -> None:
    while os.read(0, 1):
        pass
    stopping.set()


def _stop_when_told(group: int, stopping: threading.Event, grace: float) -> None:
    stopping.wait()
    _signal_group(group, signal.SIGTERM)
    time.sleep(grace)
    _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: int) -> None:
    # It may have ended; macOS says so by the second error.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
