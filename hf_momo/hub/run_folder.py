"""The files of a run's folder that belong on the Hub, and the checks before they are pushed."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import get_token

from hf_momo.hub.requests import redact
from hf_momo.utils.errors import UsageError
from hf_momo.utils.files import file_problem

ARGUMENTS_FILE = "training_args.bin"

# Patterns that the Trainer itself does not push.
TRAINER_IGNORES = ("_*", "checkpoint-*")
# Files that only resuming the training needs, and logs.
_STATES = ("optimizer*", "scheduler.pt", "scaler.pt", "rng_state*", "random_states_*", "global_step*")
_IGNORED_NAMES = ("*.log", "*.lock", "*.tmp", "*.partial", "__pycache__")
_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json", "*.bin.index.json")
_CONFIGS = ("config.json", "adapter_config.json")
_CHUNK = 1 << 22
_LONGEST_TOKEN = 256


def files_to_push(folder: Path) -> list[Path]:
    """Return the files of a finished run that belong on the Hub, relative to its folder and sorted.

    Like the Trainer this leaves out checkpoints and names that begin with ``_``, and also hidden files, optimizer
    states and logs.
    """
    return sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and not _is_ignored(path.relative_to(folder))
    )


def _is_ignored(path: Path) -> bool:
    if any(part.startswith(".") or _matches(part, _IGNORED_NAMES) for part in path.parts):
        return True
    return _matches(path.parts[0], (*TRAINER_IGNORES, *_STATES))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def check_model(folder: Path, files: Sequence[Path]) -> None:
    """Refuse a folder without a complete model.

    Args:
        folder: Folder of the run.
        files: Files to push, relative to the folder.

    Raises:
        UsageError: If there is no model, or a file is missing or truncated.
    """
    names = {str(file) for file in files}
    if not names & set(_CONFIGS) or not any(_matches(name, _WEIGHTS) and name != ARGUMENTS_FILE for name in names):
        checkpoints = sorted((path.name for path in folder.glob("checkpoint-*")), key=lambda name: (len(name), name))
        instead = f" Push one of its checkpoints instead: {folder / checkpoints[-1]}" if checkpoints else ""
        raise UsageError(
            f"RUN_FOLDER: {folder} holds no model: it must have {_CONFIGS[0]} and model.safetensors, which"
            f" trainer.save_model() and model.save_pretrained() write.{instead}"
        )
    for file in files:
        problem = file_problem(folder / file)
        if problem is not None:
            raise UsageError(
                f"RUN_FOLDER: {folder / file} {problem}; wait until the run has ended, or repeat it if it was killed"
            )


def files_with_token(folder: Path, files: Sequence[Path], token: str | None = None) -> Iterator[Path]:
    """Yield the files that hold the token in use or anything that looks like a token of the Hub.

    Args:
        folder: Folder of the run.
        files: Files relative to the folder.
        token: Token in use; by default that of the login.
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
    """Return the files, without the pickled arguments if these hold a token.

    Raises:
        UsageError: If another file holds a token.
    """
    found = set(files_with_token(folder, files, token))
    if others := sorted(str(file) for file in found if str(file) != ARGUMENTS_FILE):
        raise UsageError(
            f"RUN_FOLDER: {folder} holds a token of the Hub, in {', '.join(others)}. Nothing was pushed. Remove the"
            " token from there, and revoke it on the Hub (Settings, Access Tokens) if somebody else may have read it"
        )
    return [file for file in files if file not in found]
