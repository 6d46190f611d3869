"""The settings of a run and its output folder, checked and written in the same way by every recipe."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint

from common.pictures import draw_run
from common.records import RECORD_NAME
from common.tasks import Task
from hf_momo.utils.errors import UsageError

_Model = TypeVar("_Model")
_Data = TypeVar("_Data")
_Training = TypeVar("_Training")


@dataclass
class RunSettings(Generic[_Model, _Data, _Training]):
    """All settings of a run, in the order in which ``parse_settings`` returns them."""

    model: _Model
    data: _Data
    training: _Training

    @property
    def folder(self) -> Path:
        """The output folder."""
        training: Any = self.training
        return Path(str(training.output_dir))


def check_run(settings: RunSettings[Any, Any, Any]) -> None:
    """Check the output folder and the checkpoint to resume from, and do not pin memory without a GPU.

    Raises:
        UsageError: If the run cannot write its results or cannot be resumed.
    """
    training = settings.training
    check_output_dir(training, settings.data.overwrite)
    training.resume_from_checkpoint = _checkpoint_to_resume(training)
    # Pinned memory speeds up copies to a GPU; without a GPU torch warns.
    training.dataloader_pin_memory = training.dataloader_pin_memory and training.device.type == "cuda"


def save_training(
    trainer: Trainer,
    metrics: Any,
    settings: RunSettings[Any, Any, Any],
    task: Task,
    *,
    draw: bool = True,
    other_results: Iterable[str] = (),
) -> None:
    """Save the model and the log of a training, and draw the log. All processes must call it.

    Args:
        trainer: The Trainer, after ``train``.
        metrics: Metrics that ``train`` returned.
        settings: Settings of the run.
        task: Task of the run.
        draw: Whether to draw pictures.
        other_results: Files of the task that only a finished run has.
    """
    if trainer.is_world_process_zero():
        # Results of an overwritten run are deleted only now; the Trainer merges new ones into all_results.json.
        for name in ("all_results.json", "eval_results.json", "predict_results.json", RECORD_NAME, *other_results):
            (settings.folder / name).unlink(missing_ok=True)
    trainer.save_model()
    trainer.log_metrics("train", metrics)
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    if draw and trainer.is_world_process_zero():
        title = f"{settings.training.optim}, learning rate {settings.training.learning_rate:g}"
        draw_run(trainer.state.log_history, settings.folder, task, title)


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


def _checkpoint_to_resume(training: Any) -> Any:
    """Return ``--resume_from_checkpoint`` as ``Trainer.train`` takes it: ``True``, a folder or ``None``."""
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
