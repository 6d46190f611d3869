"""Checkpoints of the loop: ``Accelerator.save_state`` and the position of the loop."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from hf_momo.trainer.checkpoint_files import TRAINER_STATE, checkpoint_problem
from hf_momo.utils.errors import UsageError
from hf_momo.utils.files import write_whole

_PREFIX = "checkpoint-"


@dataclass
class LoopState:
    """The position of the loop.

    Attributes:
        global_step: The number of steps taken.
        epoch: The number of finished epochs.
        step_in_epoch: The number of steps taken in the current epoch.
        rows: The number of rows seen.
        runtime: The seconds spent training.
        loss_sum: The sum of the losses of all steps.
        log_history: The logged entries, in the format of the Trainer's state.
        settings: The settings that a resumed run must share.
    """

    global_step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    rows: int = 0
    runtime: float = 0.0
    loss_sum: float = 0.0
    log_history: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write trainer_state.json, the name under which tools for the Trainer look for the history."""
        write_whole(folder / TRAINER_STATE, json.dumps(asdict(self), indent=2) + "\n")


def save(accelerator: Accelerator, state: LoopState, output_dir: Path, keep: int) -> None:
    """Save a checkpoint, and delete all but the last ``keep``.

    An interrupted save leaves a folder without trainer_state.json, which is written last and deleted first.
    """
    folder = output_dir / f"{_PREFIX}{state.global_step}"
    if accelerator.is_main_process:
        (folder / TRAINER_STATE).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(folder))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        state.write(folder)
        for step, older in sorted(_checkpoints(output_dir).items())[:-keep]:
            if step < state.global_step:
                shutil.rmtree(older)


def find(output_dir: Path, requested: str | None) -> Path | None:
    """Return the checkpoint to resume from: the requested one, or the last complete one, or ``None``.

    Args:
        output_dir: The folder of the run.
        requested: The value of ``--resume_from_checkpoint``: a folder, "true", "false" or ``None``.

    Raises:
        UsageError: If the requested checkpoint is incomplete, or "true" was given and there is none.
    """
    if requested is not None and requested.lower() == "false":
        return None
    if requested is not None and requested.lower() != "true":
        problem = checkpoint_problem(requested)
        if problem is not None:
            raise UsageError(f"--resume_from_checkpoint {requested} is incomplete: {problem}; give another, or 'true'")
        return Path(requested)
    folders = [folder for _, folder in sorted(_checkpoints(output_dir).items(), reverse=True)]
    complete = next((folder for folder in folders if checkpoint_problem(folder) is None), None)
    if complete is None and requested is not None:
        raise UsageError(f"--resume_from_checkpoint {requested}: there is no complete checkpoint in {output_dir}")
    return complete


def read(checkpoint: Path, settings: dict[str, Any]) -> LoopState:
    """Return the position of the loop at a checkpoint.

    Args:
        checkpoint: The folder of the checkpoint.
        settings: The settings of this run that must equal the checkpoint's.

    Raises:
        UsageError: If a setting differs, or the checkpoint was not saved by this recipe.
    """
    content = json.loads((checkpoint / TRAINER_STATE).read_text(encoding="utf-8"))
    try:
        state = LoopState(**content)
    except TypeError as error:
        raise UsageError(f"{checkpoint} was not saved by this recipe ({error}); give another --output_dir") from None
    for name, value in settings.items():
        if state.settings.get(name) != value:
            raise UsageError(
                f"{checkpoint} was trained with {name} {state.settings.get(name)}, now it is {value}; give the same "
                "value, or --resume_from_checkpoint false to start anew, or another --output_dir"
            )
    return state


def delete_all(output_dir: Path) -> None:
    """Delete the checkpoints of a run that starts anew."""
    for folder in _checkpoints(output_dir).values():
        shutil.rmtree(folder)


def _checkpoints(output_dir: Path) -> dict[int, Path]:
    found = output_dir.glob(f"{_PREFIX}*") if output_dir.is_dir() else ()
    steps = {folder.name.removeprefix(_PREFIX): folder for folder in found if folder.is_dir()}
    return {int(step): folder for step, folder in steps.items() if step.isdigit()}
