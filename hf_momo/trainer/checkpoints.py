"""Which checkpoint a Trainer resumes from: the last complete one.

A checkpoint of the Trainer is a folder of many files. A run that is killed while it saves leaves one that lacks some
of them or holds one cut short, and a plain resume either stops at it or, where the optimizer is what is missing, goes
on with a new one. Here such a checkpoint is passed over, or refused where it was asked for by name.

``checkpoint_files.py`` says what makes a checkpoint complete. Above all its last file is there; with the mixin below,
that is the last file of all processes, and it is taken away first where a folder is written anew.
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
    """Find the last complete checkpoint of a run; a warning names every later one that is passed over.

    With several processes all of them must call this, and all get the same answer.

    Args:
        output_dir: Folder that holds the ``checkpoint-STEP`` folders.
        save_on_each_node: As in the training arguments: every node has its own files on its own disk.

    Returns:
        Path of the checkpoint.

    Raises:
        ValueError: If there is no complete one.
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
        f" ({found or 'no checkpoint at all'}). Train without resume_from_checkpoint, or give the folder of one"
    )


def check_complete(checkpoint: str | os.PathLike[str], *, save_on_each_node: bool = False) -> None:
    """Refuse an incomplete checkpoint.

    With several processes all of them must call this, and all raise or none does.

    Args:
        checkpoint: Folder of the checkpoint.
        save_on_each_node: As in the training arguments: every node has its own files on its own disk.

    Raises:
        ValueError: If it is not complete, naming what is wrong with it.
    """
    problem = _problem_on_any_rank(Path(checkpoint), save_on_each_node)
    if problem is not None:
        raise ValueError(
            f"resume_from_checkpoint: got {str(checkpoint)!r}, which is incomplete: {problem}. Pass True to resume"
            " from the last complete checkpoint in output_dir, or the folder of another one"
        )


class CheckpointMixin(_TrainerBase):
    """What makes a Trainer's checkpoints complete or visibly not, and resumes from complete ones alone."""

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as the Trainer does.

        Args:
            resume_from_checkpoint: ``True`` for the last *complete* checkpoint in ``output_dir`` (a warning names
                those passed over), or the folder of one, which must be complete.
            *args: Further arguments of the Trainer's ``train``.
            **kwargs: The same.

        Raises:
            ValueError: If there is no complete checkpoint, or the one given is not complete.
        """
        each_node = self.args.save_on_each_node
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(str(self.args.output_dir), save_on_each_node=each_node)
        elif resume_from_checkpoint:
            resume_from_checkpoint = os.fspath(resume_from_checkpoint)
            check_complete(resume_from_checkpoint, save_on_each_node=each_node)
        if resume_from_checkpoint and _rank() == 0 and not has_training_state(Path(resume_from_checkpoint)):
            logger.warning(
                "%s holds the weights alone (save_only_model): the optimizer, the schedule and the random generators"
                " start anew",
                resume_from_checkpoint,
            )
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> Any:
        # A run killed after its last step has nothing left to do: the Trainer takes one step more, in the middle of an
        # epoch. (Up to transformers 4 an epoch is no method of its own, and it still does.)
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return None
        return super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any, *args: Any, **kwargs: Any) -> None:
        # A folder written anew holds whole files of the old checkpoint until the last of them is replaced.
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            (folder / TRAINER_STATE).unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial, *args, **kwargs)

    def _save_rng_state(self, output_dir: str) -> None:
        # The last thing that other processes than the main one write. Once they have, the main one writes the state
        # of the Trainer, uploads the checkpoint and deletes older ones.
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
