"""Which files of a run's folder belong on the Hub, and whether they may go there."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import get_token

from hf_momo.hub.requests import redact
from hf_momo.utils.errors import UsageError
from hf_momo.utils.files import file_problem

ARGUMENTS_FILE = "training_args.bin"

# What the Trainer leaves behind when it pushes.
TRAINER_IGNORES = ("_*", "checkpoint-*")
# Beside it, in the folder of a finished run: what only going on with the training needs, and what was printed.
_STATES = ("optimizer*", "scheduler.pt", "scaler.pt", "rng_state*", "random_states_*", "global_step*")
_IGNORED_NAMES = ("*.log", "*.lock", "*.tmp", "*.partial", "__pycache__")
_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json", "*.bin.index.json")
_CONFIGS = ("config.json", "adapter_config.json")
_CHUNK = 1 << 22
_LONGEST_TOKEN = 256


def files_to_push(folder: Path) -> list[Path]:
    """The files of a finished run that belong on the Hub, relative to its folder and in order.

    As when the Trainer pushes, checkpoints and everything that begins with ``_`` stay behind; so do hidden files,
    optimizer states and logs.
    """
    return sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and not _stays_behind(path.relative_to(folder))
    )


def _stays_behind(path: Path) -> bool:
    if any(part.startswith(".") or _matches(part, _IGNORED_NAMES) for part in path.parts):
        return True
    return _matches(path.parts[0], (*TRAINER_IGNORES, *_STATES))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def check_model(folder: Path, files: Sequence[Path]) -> None:
    """Refuse a folder without a whole model.

    Args:
        folder: Of the run.
        files: Those to be pushed, relative to it.

    Raises:
        UsageError: If there is no model, or a file of it is missing or cut short.
    """
    names = {str(file) for file in files}
    if not names & set(_CONFIGS) or not any(_matches(name, _WEIGHTS) and name != ARGUMENTS_FILE for name in names):
        checkpoints = sorted((path.name for path in folder.glob("checkpoint-*")), key=lambda name: (len(name), name))
        instead = f" Push one of its checkpoints instead: {folder / checkpoints[-1]}" if checkpoints else ""
        raise UsageError(
            f"RUN_FOLDER: {folder} holds no model: {_CONFIGS[0]} and model.safetensors are expected, as"
            f" trainer.save_model() or model.save_pretrained() leave them.{instead}"
        )
    for file in files:
        problem = file_problem(folder / file)
        if problem is not None:
            raise UsageError(f"RUN_FOLDER: {folder / file} {problem}; a run that has not ended, or was killed?")


def files_with_token(folder: Path, files: Sequence[Path], token: str | None = None) -> Iterator[Path]:
    """The files that hold a token: the one in use, or anything that looks like one of the Hub.

    Args:
        folder: Of the run.
        files: Relative to it.
        token: The one in use, if it is not that of the login.
    """
    token = token or get_token()
    for file in files:
        with (folder / file).open("rb") as content:
            tail = ""
            while chunk := content.read(_CHUNK):
                text = tail + chunk.decode("latin-1")
                if redact(text, token) != text:
                    yield file
                    break
                tail = text[-_LONGEST_TOKEN:]


def without_tokens(folder: Path, files: Sequence[Path], token: str | None = None) -> list[Path]:
    """The files without the pickled arguments, where those hold a token.

    Raises:
        UsageError: If another file holds one.
    """
    found = set(files_with_token(folder, files, token))
    if others := sorted(str(file) for file in found if str(file) != ARGUMENTS_FILE):
        raise UsageError(
            f"RUN_FOLDER: {folder} holds a token of the Hub, in {', '.join(others)}. Nothing was pushed. Take it out"
            " of there, and replace it at the Hub (Settings, Access Tokens) if anybody else may have read it"
        )
    return [file for file in files if file not in found]
