"""Processes that kill themselves after a step, or in the middle of writing a file."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from transformers import TrainerState


class Kill(NamedTuple):
    """Death of one rank at the end of a step, or halfway through writing a file of the folder saved at that step.

    ``file="metadata"`` is the moment before the table of contents of a distributed checkpoint is written,
    ``file="removal"`` the middle of removing the folder.
    """

    step: int
    file: str | None = None
    rank: int = 0
    before: bool = False
    """Whether not a byte of the file has been written."""


def random_step(seed: str, first: int, last: int) -> int:
    """Return a step in ``[first, last)`` that depends on the seed."""
    return random.Random(seed).randrange(first, last)


def die() -> None:
    """Die like a process that the system kills: nothing is flushed, and no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def install(kill: Kill | None) -> None:
    """Make this process die in the middle of writing the file of ``kill``, if it is the rank to die."""
    if kill is None or kill.file is None or kill.rank != int(os.environ.get("RANK", 0)):
        return
    torch.save = _dying(kill, torch.save, writes=_torch_bytes)
    safetensors.torch.save_file = _dying(
        kill, safetensors.torch.save_file, writes=_file_bytes(safetensors.torch.save_file)
    )
    save_to_json = TrainerState.save_to_json
    TrainerState.save_to_json = _dying(kill, save_to_json, writes=_file_bytes(save_to_json))  # type: ignore[method-assign]
    FileSystemWriter.finish = _dying_before_metadata(kill, FileSystemWriter.finish)  # type: ignore[method-assign]
    shutil.rmtree = _dying_removal(kill, shutil.rmtree)  # type: ignore[assignment]


def _matches(kill: Kill, path: Any) -> bool:
    return isinstance(path, str | Path) and Path(path).name == kill.file and _is_of(kill, Path(path).parent)


def _is_of(kill: Kill, folder: Path) -> bool:
    """Return whether the folder or its parent belongs to the step."""
    return any(name.endswith(f"-{kill.step}") for name in folder.parts[-2:])


def _dying(kill: Kill, save: Callable[..., Any], *, writes: Callable[..., bytes]) -> Any:
    def saving(thing: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
        if _matches(kill, path):
            content = b"" if kill.before else writes(thing, *args, **kwargs)
            if content:
                Path(path).write_bytes(content[: len(content) // 2])
            die()
        return save(thing, path, *args, **kwargs)

    return saving


_save = torch.save


def _torch_bytes(thing: Any, *args: Any, **kwargs: Any) -> bytes:
    buffer = io.BytesIO()
    _save(thing, buffer, *args, **kwargs)
    return buffer.getvalue()


def _file_bytes(save: Callable[..., Any]) -> Callable[..., bytes]:
    def content(thing: Any, *args: Any, **kwargs: Any) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            save(thing, os.path.join(folder, "whole"), *args, **kwargs)
            return (Path(folder) / "whole").read_bytes()

    return content


def _dying_before_metadata(kill: Kill, finish: Callable[..., Any]) -> Any:
    def finishing(self: FileSystemWriter, *args: Any, **kwargs: Any) -> Any:
        if kill.file == "metadata" and _is_of(kill, Path(self.path)):
            die()
        return finish(self, *args, **kwargs)

    return finishing


def _dying_removal(kill: Kill, rmtree: Callable[..., Any]) -> Callable[..., Any]:
    def removing(path: Any, *args: Any, **kwargs: Any) -> Any:
        if kill.file == "removal" and Path(path).name.endswith(f"-{kill.step}"):
            for entry in sorted(Path(path).iterdir())[::2]:
                entry.unlink()
            die()
        return rmtree(path, *args, **kwargs)

    return removing
