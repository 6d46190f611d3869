import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from sweep.commands import is_running, wait_until

from hf_momo.sweep import processes
from hf_momo.sweep.processes import lock_folder, run_environment, start, visible_devices

# Says that it has started, and with what process beside it, and does not listen to SIGTERM.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("by_signal", [False, True])
def test_a_guard_kills_what_does_not_end(tmp_path, by_signal):
    with held(tmp_path) as lock:
        command = [sys.executable, processes.__file__, "0.3", sys.executable, "-c", STUBBORN]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, pass_fds=[lock], text=True, **pipes) as process:
            started = [int(word) for word in process.stdout.readline().split()]
            assert all(map(is_running, started))
            begin = time.monotonic()
            if by_signal:
                process.terminate()
            else:
                process.stdin.close()
            assert process.wait(timeout=60) == 128 + signal.SIGKILL
            assert time.monotonic() - begin > 0.3
            wait_until(lambda: not any(map(is_running, started)))


def test_statuses_pass_through(tmp_path):
    with held(tmp_path) as lock:
        for code, status in (("", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 11)", 139)):
            process = start([sys.executable, "-c", code], tmp_path / "log.txt", {}, lock)
            assert process.wait() == status == process.poll()
            process.stdin.close()


def test_the_folder_is_free_only_when_the_run_has_ended(tmp_path):
    """A sweep right after a killed one must not start a run whose old process is still writing to its folder."""
    lock = lock_folder(tmp_path)
    code = "import time; print('started', flush=True); time.sleep(100)"
    process = start([sys.executable, "-c", code], tmp_path / "log.txt", {}, lock)
    wait_until(lambda: "started" in (tmp_path / "log.txt").read_text())
    os.close(lock)  # as SIGKILL does
    assert lock_folder(tmp_path) is None
    process.stdin.close()
    process.wait()
    os.close(lock_folder(tmp_path))


@contextmanager
def held(folder):
    lock = lock_folder(folder)
    yield lock
    os.close(lock)


@pytest.mark.parametrize(
    ("jobs", "devices", "shares"),
    [
        (1, ["0", "1"], [None]),
        (2, [], [None, None]),
        (2, ["3"], [None, None]),
        (2, ["0", "1", "2", "3"], ["0,1", "2,3"]),
        (3, ["0", "1", "2", "3"], ["0", "1", "2,3"]),
        (4, ["5", "7"], ["5", "7", "5", "7"]),
        (3, ["GPU-a", "GPU-b"], ["GPU-a", "GPU-b", "GPU-a"]),
    ],
)
def test_jobs_share_the_gpus(jobs, devices, shares):
    found = [run_environment(job, jobs, {}, devices).get("CUDA_VISIBLE_DEVICES") for job in range(jobs)]
    assert found == shares


def test_devices_that_the_user_chose(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert visible_devices() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_devices() == []
