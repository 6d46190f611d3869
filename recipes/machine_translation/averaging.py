"""Averaging of the last checkpoints, whose mean translates better than the last one alone."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Trainer

_WEIGHTS = "model.safetensors"


def average_checkpoints(trainer: Trainer, count: int) -> list[int]:
    """Set the weights of the model to the mean of the last checkpoints of its training.

    With several processes the first one reads the checkpoints and broadcasts the mean.

    Args:
        trainer: The Trainer after ``train``.
        count: Number of checkpoints. If there are fewer, all are averaged.

    Returns:
        The steps of the checkpoints in ascending order; empty on all processes but the first.
    """
    model: Any = trainer.model
    folders = _last_checkpoints(trainer, count) if trainer.is_world_process_zero() else []
    if folders:
        loaded = model.load_state_dict(_mean([folder / _WEIGHTS for folder in folders]), strict=False)
        # Tied weights are saved once, so that the others are missing.
        assert not loaded.unexpected_keys, loaded.unexpected_keys
    if trainer.args.world_size > 1:
        for tensor in model.state_dict().values():
            torch.distributed.broadcast(tensor, src=0)
    return [_step(folder) for folder in folders]


def _last_checkpoints(trainer: Trainer, count: int) -> list[Path]:
    folder = Path(str(trainer.args.output_dir))
    found = sorted((each for each in folder.glob("checkpoint-*") if (each / _WEIGHTS).is_file()), key=_step)
    return [each for each in found if _belongs_to_training(each, trainer)][-count:]


def _belongs_to_training(checkpoint: Path, trainer: Trainer) -> bool:
    """Return whether the log of a checkpoint is the beginning of this training's; an older run may have left some."""
    if _step(checkpoint) > trainer.state.global_step or not (state := checkpoint / "trainer_state.json").is_file():
        return False
    history = json.loads(state.read_text(encoding="utf-8"))["log_history"]
    # Compared as text, because NaN does not equal NaN.
    saved, own = (json.dumps(each, sort_keys=True) for each in (history, trainer.state.log_history[: len(history)]))
    return saved == own


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _mean(files: list[Path]) -> dict[str, Tensor]:
    """Return the mean of the tensors of each name, computed in float32 and returned in their own type."""
    total: dict[str, Tensor] = {}
    types: dict[str, torch.dtype] = {}
    for file in files:
        for name, tensor in load_file(file).items():
            types[name] = tensor.dtype
            total[name] = total[name] + tensor.float() if name in total else tensor.float()
    return {name: (tensor / len(files)).to(types[name]) for name, tensor in total.items()}
