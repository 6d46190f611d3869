"""A Trainer resumes from the last complete checkpoint.

A checkpoint of the Trainer is a folder of many files. A run that is killed while it saves leaves a checkpoint in which
files are missing or cut short. The stock Trainer stops with an error at such a checkpoint or, if the optimizer's file
is missing, continues with a new optimizer. Here an incomplete checkpoint is passed over, or refused if it was given by
name.

``checkpoint_files.py`` defines what is complete. One condition is that the last file exists. ``CheckpointMixin`` makes
that file the last one of all processes, and deletes it before it writes a folder again.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_momo.trainer.checkpoint_files import TRAINER_STATE, checkpoint_problem, has_training_state

if TYPE_CHECKING:
    _TrainerBase = Trainer
else:
    _TrainerBase = object

logger = logging.getLogger(__name__)

_FOLDER = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")


def last_complete_checkpoint(output_dir: str | os.PathLike[str], *, save_on_each_node: bool = False) -> str:
    """Return the path of a run's last complete checkpoint, and warn of every later one that is incomplete.

    With several processes all of them must call this function. All get the same path.

    Args:
        output_dir: Folder with the ``checkpoint-STEP`` folders.
        save_on_each_node: The training argument of this name: every node has its own files on its own disk.

    Raises:
        ValueError: If no checkpoint is complete.
    """
    passed_over: list[tuple[Path, str]] = []
    for step in sorted(set().union(*_of_all_ranks(_steps(Path(output_dir)))), reverse=True):
        folder = Path(output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        problem = _problem_on_any_rank(folder, save_on_each_node)
        if problem is None:
            for name, its_problem in passed_over if _rank() == 0 else []:
                logger.warning("%s is incomplete (%s); passed over for %s", name, its_problem, folder)
            return str(folder)
        passed_over.append((folder, problem))
    found = "; ".join(f"{folder.name}: {problem}" for folder, problem in passed_over)
    raise ValueError(
        f"resume_from_checkpoint: got True, but there is no complete checkpoint in {output_dir}"
        f" ({found or 'the folder has no checkpoints'}). Train without resume_from_checkpoint, or give the folder of"
        " a complete one"
    )


def check_complete(checkpoint: str | os.PathLike[str], *, save_on_each_node: bool = False) -> None:
    """Raise an error if a checkpoint is incomplete.

    With several processes all of them must call this function. Either all raise, or none does.

    Args:
        checkpoint: Folder of the checkpoint.
        save_on_each_node: The training argument of this name: every node has its own files on its own disk.

    Raises:
        ValueError: If the checkpoint is incomplete. The message names the file.
    """
    problem = _problem_on_any_rank(Path(checkpoint), save_on_each_node)
    if problem is not None:
        raise ValueError(
            f"resume_from_checkpoint: got {str(checkpoint)!r}, which is incomplete: {problem}. Pass True to resume"
            " from the last complete checkpoint in output_dir, or give the folder of another one"
        )


class CheckpointMixin(_TrainerBase):
    """Mixin that resumes only from complete checkpoints, and writes them such that incomplete ones are recognised."""

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as the Trainer does.

        Args:
            resume_from_checkpoint: ``True`` for the last *complete* checkpoint in ``output_dir`` (a warning names the
                later ones that are incomplete), or the folder of a complete checkpoint.
            *args: Passed on to the Trainer's ``train``.
            **kwargs: Passed on to the Trainer's ``train``.

        Raises:
            ValueError: If no checkpoint is complete, or the given one is incomplete.
        """
        each_node = self.args.save_on_each_node
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(str(self.args.output_dir), save_on_each_node=each_node)
        elif resume_from_checkpoint:
            resume_from_checkpoint = os.fspath(resume_from_checkpoint)
            check_complete(resume_from_checkpoint, save_on_each_node=each_node)
        if resume_from_checkpoint and _rank() == 0 and not has_training_state(Path(resume_from_checkpoint)):
            logger.warning(
                "%s holds only the weights (save_only_model). The optimizer, the schedule and the random generators"
                " start from the beginning",
                resume_from_checkpoint,
            )
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> Any:
        # A run killed after its last step, in the middle of an epoch, has nothing left to do. The stock Trainer would
        # take one step more. (In transformers 4 an epoch is not a method, and the extra step is still taken.)
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return None
        return super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any, *args: Any, **kwargs: Any) -> None:
        # A folder that is written again holds complete files of the old checkpoint until the last one is replaced.
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            (folder / TRAINER_STATE).unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial, *args, **kwargs)

    def _save_rng_state(self, output_dir: str) -> None:
        # The last file of the processes other than the main one. Only when all have written theirs, the main process
        # writes the state of the Trainer, uploads the checkpoint and deletes older ones.
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()


def _steps(output_dir: Path) -> set[int]:
    folders = output_dir.iterdir() if output_dir.is_dir() else ()
    matches = (_FOLDER.fullmatch(folder.name) for folder in folders if folder.is_dir())
    return {int(match[1]) for match in matches if match is not None}


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _of_all_ranks(value: Any) -> list[Any]:
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _problem_on_any_rank(checkpoint: Path, save_on_each_node: bool) -> str | None:
    problems = _of_all_ranks(checkpoint_problem(checkpoint, save_on_each_node=save_on_each_node))
    found = [(rank, problem) for rank, problem in enumerate(problems) if problem is not None]
    if not found:
        return None
    rank, problem = found[0]
    return problem if len(found) == len(problems) else f"{problem} (as seen by process {rank})"
