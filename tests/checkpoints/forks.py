"""Jobs in forks of a process that has imported everything, so that dozens of them can be killed in short time.

In a launch with several processes, each process forks its rank of the job, and each job has its own rendezvous.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, GradientState, PartialState

RANK, WORLD_SIZE = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
ENDED, KILLED, FAILED = "ended", "killed", "failed"
_TIMEOUT = 150.0
_GRACE = 30.0
"""Seconds that the other ranks of a killed job have to notice it by themselves."""


def warm_up(job: Callable[[], Any]) -> None:
    """Run a job in this process, so that its imports are done before the first fork."""
    environment = dict(os.environ)
    _environment(None)
    with contextlib.redirect_stdout(None):
        job()
    os.environ.clear()
    os.environ.update(environment)
    for state in (GradientState, PartialState):
        state._reset_state()
    AcceleratorState._reset_state()
    # Every train() collects garbage, which would go through all imported modules, in every process again.
    gc.collect()
    gc.freeze()


def run(folder: Path, name: str, job: Callable[[], Any], *, ranks: int = WORLD_SIZE) -> str:
    """Run a job and save what it returns as ``NAME.RANK.pt``.

    Args:
        folder: Folder for the results.
        name: Name of the job.
        job: The job, the same on every rank.
        ranks: How many processes of the launch take part. With one, the job runs as if it had not been launched.

    Returns:
        ``"ended"``, or ``"killed"`` if a rank was.

    Raises:
        RuntimeError: If a rank failed and none was killed.
    """
    if ranks < RANK + 1:
        return _outcome(folder, name, ranks)
    port = _shared_port(folder, name) if ranks > 1 else None
    pid = os.fork()
    if pid == 0:
        _child(folder, name, job, port)
    _write(folder / f"{name}.{RANK}.outcome", _wait(folder, name, pid, ranks))
    return _outcome(folder, name, ranks)


def _child(folder: Path, name: str, job: Callable[[], Any], port: str | None) -> None:
    status = 1
    try:
        log = os.open(folder / f"{name}.{RANK}.log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _environment(port)
        result = job()
        torch.save(result, folder / f"{name}.{RANK}.pt")
        if dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _environment(port: str | None) -> None:
    if port is None:
        launched = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "MASTER_ADDR")
        for variable in [
            *launched,
            *(each for each in os.environ if each.startswith(("ACCELERATE_", "TORCHELASTIC_"))),
        ]:
            os.environ.pop(variable, None)
        return
    os.environ["MASTER_PORT"] = port
    os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)  # rank 0 hosts the rendezvous


def _wait(folder: Path, name: str, pid: int, ranks: int) -> str:
    deadline = time.monotonic() + _TIMEOUT
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            if os.WIFSIGNALED(status):
                return KILLED if os.WTERMSIG(status) == signal.SIGKILL else FAILED
            return ENDED if os.WEXITSTATUS(status) == 0 else FAILED
        others = [_read(folder / f"{name}.{rank}.outcome") for rank in range(ranks) if rank != RANK]
        if any(other in (KILLED, FAILED) for other in others):
            deadline = min(deadline, time.monotonic() + _GRACE)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGTERM)  # distinguishes it from a job that killed itself
            os.waitpid(pid, 0)
            return FAILED
        time.sleep(0.01)


def _outcome(folder: Path, name: str, ranks: int) -> str:
    outcomes = [_awaited(folder / f"{name}.{rank}.outcome") for rank in range(ranks)]
    if KILLED in outcomes:
        return KILLED
    if FAILED in outcomes:
        logs = [(folder / f"{name}.{rank}.log").read_text()[-3000:] for rank in range(ranks)]
        raise RuntimeError(f"{name}: {outcomes}\n" + "\n".join(logs))
    return ENDED


def _shared_port(folder: Path, name: str) -> str:
    path = folder / f"{name}.port"
    if RANK == 0:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            _write(path, str(free.getsockname()[1]))
    return _awaited(path)


def _write(path: Path, text: str) -> None:
    whole = path.with_suffix(f"{path.suffix}.new{RANK}")
    whole.write_text(text)
    whole.replace(path)


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _awaited(path: Path) -> str:
    deadline = time.monotonic() + _TIMEOUT + _GRACE
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} was not written")
        time.sleep(0.01)
    return path.read_text()
