"""Checkpoints of the loop: `Accelerator.save_state`, and where the loop stood."""

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
    """Where the loop stands.

    Attributes:
        global_step: Steps taken.
        epoch: Passes over the log that have ended.
        step_in_epoch: Steps taken of the pass that is going on.
        rows: Rows seen.
        runtime: Seconds spent training.
        loss_sum: Of the losses of all steps.
        log_history: What was logged, as the Trainer's state has it.
        settings: Those that a resumed run must share.
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
        """Write trainer_state.json, under the Trainer's name so that tools for its runs find the history."""
        write_whole(folder / TRAINER_STATE, json.dumps(asdict(self), indent=2) + "\n")


def save(accelerator: Accelerator, state: LoopState, output_dir: Path, keep: int) -> None:
    """Save a checkpoint, and delete all but the last `keep`.

    A kill in the middle leaves a folder without trainer_state.json, which is written last and taken away first.
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


def find(output_dir: Path, asked: str | None) -> Path | None:
    """The checkpoint to go on from.

    Args:
        output_dir: Folder of the run.
        asked: `--resume_from_checkpoint`.

    Returns:
        The one asked for, or the last complete one; None where there is none or "false" was asked.

    Raises:
        UsageError: The one asked for is not complete, or "true" was asked and there is none.
    """
    if asked is not None and asked.lower() == "false":
        return None
    if asked is not None and asked.lower() != "true":
        problem = checkpoint_problem(asked)
        if problem is not None:
            raise UsageError(f"--resume_from_checkpoint {asked} is incomplete: {problem}; give another, or 'true'")
        return Path(asked)
    folders = [folder for _, folder in sorted(_checkpoints(output_dir).items(), reverse=True)]
    complete = next((folder for folder in folders if checkpoint_problem(folder) is None), None)
    if complete is None and asked is not None:
        raise UsageError(f"--resume_from_checkpoint {asked}: there is no complete checkpoint in {output_dir}")
    return complete


def read(checkpoint: Path, settings: dict[str, Any]) -> LoopState:
    """Where the loop stood at a checkpoint.

    Args:
        checkpoint: Its folder.
        settings: Those of this run that must be the checkpoint's too.

    Raises:
        UsageError: A setting is another, or the checkpoint is not of this recipe.
    """
    content = json.loads((checkpoint / TRAINER_STATE).read_text(encoding="utf-8"))
    try:
        state = LoopState(**content)
    except TypeError as error:
        raise UsageError(
            f"{checkpoint} is no checkpoint of this recipe ({error}); give another --output_dir"
        ) from None
    for name, value in settings.items():
        if state.settings.get(name) != value:
            raise UsageError(
                f"{checkpoint} was trained with {name} {state.settings.get(name)}, now it is {value}; give the same, "
                "or --resume_from_checkpoint false to start anew, or another --output_dir"
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
