"""Checks that a Trainer's checkpoint is complete, in every layout that the Trainer writes.

Folders of ``Accelerator.save_state`` are checked too, if the loop writes a ``trainer_state.json`` into them last.
A checkpoint is complete if

- it has ``trainer_state.json``, which the main process of the Trainer writes last;
- it has weights: one file, shards with an index, adapters, FSDP, DeepSpeed, or a file of an unknown kind;
- it has all of the optimizer, scheduler and generator states, or none of them (``save_only_model``);
- of the files that every process writes no number is missing: ``rng_state_0.pth``, ``rng_state_1.pth``, ...;
- no file is truncated whose format shows its end: JSON, safetensors, ``torch.save``, distributed checkpoints.

An unknown layout counts as complete.
"""

from __future__ import annotations

import os
import pickle
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from hf_momo.utils.files import file_problem

TRAINER_STATE = "trainer_state.json"

# The kinds of state beside the weights. DeepSpeed keeps them in its own files, and the scheduler too if it made it.
_TRAINING_STATE = {
    "optimizer": re.compile(r".*optimizer.*\.(pt|bin)(_.*)?|optimizer_\d+|global_step\d+"),
    "scheduler": re.compile(r"scheduler(_\d+)?\.(pt|bin)|global_step\d+"),
    "rng_state": re.compile(r"rng_state.*\.pth|random_states_\d+\.pkl"),
}
_NO_WEIGHTS = re.compile(r"training_args\.bin|scaler\.pt|scheduler.*|rng_state.*|random_states.*|.*optimizer.*")
_SHARD = re.compile(r"(.+)-\d+-of-\d+(\.\w+)")
# Files that every process writes under its rank.
_OF_RANK = re.compile(r"(rng_state_|random_states_|zero_pp_rank_|_rank)(\d+)")


def checkpoint_problem(checkpoint: str | os.PathLike[str], *, save_on_each_node: bool = False) -> str | None:
    """Return what makes a checkpoint incomplete, as far as this process can see.

    Args:
        checkpoint: Folder of a checkpoint of the stock Trainer or of ``MomoTrainer``.
        save_on_each_node: The training argument of this name: every node has its own files on its own disk.

    Returns:
        A short description that names the file, or ``None`` if the checkpoint is complete.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        return "the folder does not exist"
    if not (folder / TRAINER_STATE).is_file():
        return f"{TRAINER_STATE} is missing, which is written last"
    return next(_problems(folder, save_on_each_node), None)


def _problems(folder: Path, save_on_each_node: bool) -> Iterator[str]:
    names = {entry.name for entry in folder.iterdir()}
    files = [path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder)]
    if any(name.startswith("global_step") for name in names):
        yield from _deepspeed_problems(folder)
    else:
        yield from _weight_problems(files)
    yield from _training_state_problems(names)
    yield from _rank_problems(files, save_on_each_node)
    for where in dict.fromkeys(path.parent for path in folder.rglob("*") if _is_distributed(path)):
        yield from _distributed_problems(where)
    for path in files:
        problem = file_problem(path)
        if problem is not None:
            yield f"{path.relative_to(folder)} {problem}"


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def has_training_state(folder: Path) -> bool:
    """Return whether the checkpoint holds more than the weights."""
    return any(_kinds_of_training_state({entry.name for entry in folder.iterdir()}).values())


def _kinds_of_training_state(names: set[str]) -> dict[str, bool]:
    return {kind: any(map(pattern.fullmatch, names)) for kind, pattern in _TRAINING_STATE.items()}


def _training_state_problems(names: set[str]) -> Iterator[str]:
    found = _kinds_of_training_state(names)
    if any(found.values()):
        yield from (f"there is no {kind} file" for kind, is_found in found.items() if not is_found)


def _weight_problems(files: list[Path]) -> Iterator[str]:
    binary = [path for path in files if path.suffix not in (".json", ".txt", ".md", ".py", ".jinja")]
    if all(_NO_WEIGHTS.fullmatch(path.name) for path in binary):
        yield "there are no model weights"
    for path in binary:
        shard = _SHARD.fullmatch(path.name)
        if shard is not None and not (path.parent / f"{shard[1]}{shard[2]}.index.json").is_file():
            yield f"{shard[1]}{shard[2]}.index.json is missing"


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
    # Every process writes one of these files, so there must be as many of each kind as there were processes.
    series: defaultdict[tuple[Path, str, str], set[int]] = defaultdict(set)
    for path in files:
        match = _OF_RANK.search(path.name)
        if match is not None:
            before, after = path.name[: match.start(2)], path.name[match.end(2) :]
            series[path.parent, before, after].add(int(match[2]))
    written = {rank for (_, before, _), ranks in series.items() if before == "rng_state_" for rank in ranks}
    # A single process writes rng_state.pth, so rng_state_0.pth is never alone.
    processes = written if save_on_each_node or not written else {*range(max(written) + 1), 1}
    # With tensor parallelism inside DeepSpeed, each data-parallel rank has one file per part.
    comparable = all("_mp_rank_" not in after or "_mp_rank_00" in after for _, _, after in series)
    for (_, before, after), ranks in series.items():
        expected = set(range(min(ranks) if save_on_each_node else 0, max(ranks)))
        if comparable:
            expected |= processes
        yield from (f"{before}{rank}{after} is missing" for rank in sorted(expected - ranks))


def _is_distributed(path: Path) -> bool:
    return path.suffix == ".distcp" or path.name == ".metadata"


def _distributed_problems(folder: Path) -> Iterator[str]:
    # The .metadata of torch.distributed.checkpoint holds the file, offset and length of every piece.
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
        return  # the format of another version of torch
    else:
        for name, size in sizes.items():
            path = folder / name
            if not path.is_file():
                yield f"{folder.name}/{name} is missing"
            elif path.stat().st_size < size:
                yield f"{folder.name}/{name} is cut short"
