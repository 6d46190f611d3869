"""The end of processes that trained together."""

from __future__ import annotations

import hashlib
import sys
import threading

import pytest

from hf_momo.utils.threads import count_busy_threads, wait_for_idle_threads


@pytest.mark.skipif(sys.platform != "linux", reason="looks at threads in /proc")
def test_busy_threads_are_waited_for() -> None:
    """A process was aborted at its end, after everything was saved: "terminate called without an active exception".

    One of gloo's threads still held the last message when Python shut down. It happened once in about a hundred
    launches on a machine with more busy processes than cores.
    """
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000)  # without Python's lock, as gloo's threads work

    worker = threading.Thread(target=work)
    worker.start()
    assert count_busy_threads() >= 1
    threading.Timer(0.5, stop.set).start()
    wait_for_idle_threads()
    assert stop.is_set()
    worker.join(timeout=0.5)
    assert not worker.is_alive()
