"""A process between the sweep and one run of the script, which stops the run when the sweep is gone.

Started as ``python -I -S guard.py GRACE LOCK COMMAND...`` with a pipe as its input, whose other end the sweep holds.
The pipe closes when the sweep closes it or dies, be it by SIGKILL. The run is then stopped with everything it started:
SIGTERM to its process group, and after GRACE seconds SIGKILL. The guard ends with the status of the run, 128 + the
number of the signal if one killed it. LOCK is the descriptor of the sweep's lock, which guard and run hold open, so
that the lock is free only when they have ended. The standard library is all it needs: one is started for every run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType


def main(arguments: list[str]) -> int:
    """Run the command until it ends or the input closes."""
    grace, lock, command = float(arguments[0]), int(arguments[1]), arguments[2:]
    # A process group of its own: Ctrl-C in the terminal and what the sweep gets are not for the script.
    run = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=[lock])

    def stop(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=_stop, args=(run, grace), daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    threading.Thread(target=_stop_at_end_of_input, args=(run, grace), daemon=True).start()
    status = run.wait()
    if status != 0:
        # Processes that the script started and left behind would keep a GPU's memory.
        _signal_group(run.pid, signal.SIGKILL)
    return status if status >= 0 else 128 - status


def _stop_at_end_of_input(run: subprocess.Popen[bytes], grace: float) -> None:
    while os.read(0, 1):
        pass
    _stop(run, grace)


def _stop(run: subprocess.Popen[bytes], grace: float) -> None:
    _signal_group(run.pid, signal.SIGTERM)
    time.sleep(grace)
    _signal_group(run.pid, signal.SIGKILL)


def _signal_group(group: int, number: int) -> None:
    # It may have ended; macOS says so by the second error.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
