"""The output folder and the checkpoints of a run, checked in the same way by every recipe."""

import os
from pathlib import Path
from typing import Any

from transformers.trainer_utils import get_last_checkpoint

from common.records import RECORD_NAME
from hf_momo.utils.errors import UsageError


def check_output_dir(training: Any, overwrite: bool) -> None:
    """Check that a run can write its results, and does not train over those of a finished run.

    Args:
        training: The parsed ``TrainingArguments``.
        overwrite: Whether ``--overwrite`` was given.

    Raises:
        UsageError: If ``--output_dir`` is a file, cannot be written, or holds a finished run.
    """
    folder = Path(str(training.output_dir))
    existing = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not existing.is_dir():
        path = "" if existing == folder.absolute() else f": {existing}"
        raise UsageError(f"--output_dir {folder}{path} is a file; give a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"--output_dir {folder} cannot be written: no permission to write to {existing}")
    if training.do_train and (folder / RECORD_NAME).exists() and not overwrite:
        raise UsageError(f"--output_dir {folder} holds a finished run; give another, or --overwrite")


def checkpoint_to_resume(training: Any) -> Any:
    """Return ``--resume_from_checkpoint`` as ``Trainer.train`` takes it: ``True``, a folder or ``None``.

    Args:
        training: The parsed ``TrainingArguments``.

    Raises:
        UsageError: If it is neither ``true``, ``false`` nor a folder, or there is no checkpoint to resume from.
    """
    given = training.resume_from_checkpoint
    folder = str(training.output_dir)
    word = str(given).lower()
    if given is None or word == "false":
        return None
    if word == "true" and not (Path(folder).is_dir() and get_last_checkpoint(folder)):
        raise UsageError(f"--resume_from_checkpoint true: --output_dir {folder} holds no checkpoint")
    if word != "true" and not Path(given).is_dir():
        raise UsageError(
            f"--resume_from_checkpoint {given} is not a folder; give the folder of a checkpoint, or `true` for the "
            "last one in --output_dir"
        )
    return True if word == "true" else given
