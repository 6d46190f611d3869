"""Which checkpoint a Trainer resumes from: the last complete one.

A checkpoint of the Trainer is a folder of many files. A run that is killed while it saves leaves one that lacks some
of them or holds one cut short, and a plain resume either stops at it or, where the optimizer is what is missing, goes
on with a new one. A checkpoint is taken for complete when

- ``trainer_state.json`` is there and can be read. The Trainer writes it last on the main process; with
  ``CheckpointMixin`` it is the last file of all processes, and is taken away first where a folder is written anew;
- there are weights, in any layout the Trainer loads: one file, shards with an index, adapters, FSDP, DeepSpeed;
- optimizer, scheduler and generator states are all there, or none of them (``save_only_model``);
- of files that every process writes, no number is left out: ``rng_state_0.pth``, ``rng_state_1.pth``, ...;
- every file whose format tells its end has it: JSON, safetensors, ``torch.save``, distributed checkpoints.

Where a layout is not known, it is taken for complete.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

if TYPE_CHECKING:
    _TrainerBase = Trainer
else:
    _TrainerBase = object

logger = logging.getLogger(__name__)

_STATE = "trainer_state.json"
_FOLDER = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
_WEIGHTS = re.compile(
    r"pytorch_model\.bin|model\.safetensors|.*\.index\.json|adapter_model\.(bin|safetensors)|pytorch_model_fsdp.*"
)
# The kinds of state beside the weights; DeepSpeed has them in its own files, the scheduler where that is its own too.
_TRAINING_STATE = {
    "optimizer": re.compile(r".*optimizer.*\.(pt|bin)(_.*)?|optimizer_\d+|global_step\d+"),
    "scheduler": re.compile(r"scheduler\.pt|global_step\d+"),
    "rng_state": re.compile(r"rng_state.*\.pth"),
}
# Files that every process writes under its own number.
_OF_RANK = re.compile(r"(rng_state_|zero_pp_rank_|_rank)(\d+)")


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


def checkpoint_problem(checkpoint: str | os.PathLike[str], *, save_on_each_node: bool = False) -> str | None:
    """What makes a checkpoint incomplete, as far as this process sees it.

    Args:
        checkpoint: Folder of the checkpoint, as the stock or our Trainer wrote it.
        save_on_each_node: As in the training arguments: every node has its own files on its own disk.

    Returns:
        A short description with the file in question, or ``None`` if nothing is wrong.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        return "there is no such folder"
    if not (folder / _STATE).is_file():
        return f"{_STATE} is missing, which is written last"
    return next(_problems(folder, save_on_each_node), None)


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
        if resume_from_checkpoint and _rank() == 0 and not _has_training_state(Path(resume_from_checkpoint)):
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
            (folder / _STATE).unlink(missing_ok=True)
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


def _problems(folder: Path, save_on_each_node: bool) -> Iterator[str]:
    names = {entry.name for entry in folder.iterdir()}
    if any(name.startswith("global_step") for name in names):
        yield from _deepspeed_problems(folder)
    elif not any(map(_WEIGHTS.fullmatch, names)) and not any(folder.glob("*/adapter_model.*")):
        yield "there are no model weights"
    yield from _training_state_problems(names)
    files = [path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder)]
    yield from _rank_problems(files, save_on_each_node)
    for where in dict.fromkeys(path.parent for path in folder.rglob("*") if _is_distributed(path)):
        yield from _distributed_problems(where)
    for path in files:
        problem = file_problem(path)
        if problem is not None:
            yield f"{path.relative_to(folder)} {problem}"


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _has_training_state(folder: Path) -> bool:
    return any(_kinds_of_training_state({entry.name for entry in folder.iterdir()}).values())


def _kinds_of_training_state(names: set[str]) -> dict[str, bool]:
    return {kind: any(map(pattern.fullmatch, names)) for kind, pattern in _TRAINING_STATE.items()}


def _training_state_problems(names: set[str]) -> Iterator[str]:
    found = _kinds_of_training_state(names)
    if any(found.values()):
        yield from (f"there is no {kind} file" for kind, is_there in found.items() if not is_there)


def _deepspeed_problems(folder: Path) -> Iterator[str]:
    latest = folder / "latest"
    tag = latest.read_text().strip() if latest.is_file() else ""
    if not tag or not (folder / tag).is_dir():
        yield f"latest {f'names {tag!r}, which' if tag else ''} is missing; DeepSpeed writes it last"
        return
    for kind in ("model_states", "optim_states"):
        if not any((folder / tag).glob(f"*{kind}.pt")):
            yield f"{tag} has no {kind} file"


def _rank_problems(files: list[Path], save_on_each_node: bool) -> Iterator[str]:
    """Files that every process writes: of none of them may there be fewer than there were processes."""
    series: defaultdict[tuple[Path, str, str], set[int]] = defaultdict(set)
    for path in files:
        match = _OF_RANK.search(path.name)
        if match is not None:
            before, after = path.name[: match.start(2)], path.name[match.end(2) :]
            series[path.parent, before, after].add(int(match[2]))
    written = {rank for (_, before, _), ranks in series.items() if before == "rng_state_" for rank in ranks}
    # A single process writes rng_state.pth, so rng_state_0.pth is never alone.
    processes = written if save_on_each_node or not written else {*range(max(written) + 1), 1}
    # With tensor parallelism inside of DeepSpeed each file of a data-parallel rank stands there once for each part.
    comparable = all("_mp_rank_" not in after or "_mp_rank_00" in after for _, _, after in series)
    for (_, before, after), ranks in series.items():
        expected = set(range(min(ranks) if save_on_each_node else 0, max(ranks)))
        if comparable:
            expected |= processes
        yield from (f"{before}{rank}{after} is missing" for rank in sorted(expected - ranks))


def _is_distributed(path: Path) -> bool:
    return path.suffix == ".distcp" or path.name == ".metadata"


def _distributed_problems(folder: Path) -> Iterator[str]:
    """Checkpoints of torch.distributed.checkpoint: their ``.metadata`` says where in which file everything stands."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    try:
        metadata = FileSystemReader(folder).read_metadata()
        sizes: defaultdict[str, int] = defaultdict(int)
        for piece in metadata.storage_data.values():
            sizes[piece.relative_path] = max(sizes[piece.relative_path], piece.offset + piece.length)
    except FileNotFoundError:
        yield f"{folder.name}/.metadata is missing, which is written last"
    except (EOFError, pickle.UnpicklingError):
        yield f"{folder.name}/.metadata is cut short"
    except AttributeError:
        return  # a format of another version
    else:
        for name, size in sizes.items():
            path = folder / name
            if not path.is_file():
                yield f"{folder.name}/{name} is missing"
            elif path.stat().st_size < size:
                yield f"{folder.name}/{name} is cut short"


def file_problem(path: Path) -> str | None:
    """What is wrong with a file whose format tells where it ends.

    Args:
        path: The file. Only its beginning and its end are read, except of JSON.

    Returns:
        A short description, or ``None`` if nothing is wrong or the format is not known.
    """
    if path.suffix == ".json":
        return _json_problem(path)
    if path.suffix == ".safetensors":
        return _safetensors_problem(path)
    if path.suffix in (".pt", ".pth", ".bin"):
        return _torch_file_problem(path)
    return None


def _json_problem(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return "is cut short"
    except json.JSONDecodeError as error:
        # More behind a whole document is no file cut short, but one document a line.
        return None if error.msg == "Extra data" else "is cut short"
    if path.name.endswith(".index.json") and isinstance(content, dict):
        shards = sorted(set(content.get("weight_map", {}).values()))
        missing = [shard for shard in shards if not (path.parent / shard).is_file()]
        return f"names {missing[0]}, which is missing" if missing else None
    return None


def _safetensors_problem(path: Path) -> str | None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, path.stat().st_size))
    try:
        entries = json.loads(header)
    except ValueError:
        return "is cut short"
    end = max((entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0)
    return "is cut short" if path.stat().st_size < 8 + length + end else None


def _torch_file_problem(path: Path) -> str | None:
    with path.open("rb") as file:
        magic = file.read(4)
    # torch.save writes a zip archive, whose table of contents stands at the end. Older formats are not looked into.
    if b"PK\x03\x04".startswith(magic):
        try:
            zipfile.ZipFile(path).close()
        except zipfile.BadZipFile:
            return "is cut short"
    return None
