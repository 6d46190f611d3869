"""The mean of the last checkpoints of a training, which translates better than the last alone."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Trainer

_WEIGHTS = "model.safetensors"


def average_checkpoints(trainer: Trainer, count: int) -> list[int]:
    """Give the model the mean of the weights in the last checkpoints of its training.

    On several processes the first one reads them, and the others get the mean from it.

    Args:
        trainer: After `train`.
        count: How many checkpoints; where the training has left fewer, all of them.

    Returns:
        The steps of the checkpoints, ascending; on other processes than the first none.
    """
    model: Any = trainer.model
    folders = _last_checkpoints(trainer, count) if trainer.is_world_process_zero() else []
    if folders:
        loaded = model.load_state_dict(_mean([folder / _WEIGHTS for folder in folders]), strict=False)
        # Weights that are tied to others, which alone are saved, are missing.
        assert not loaded.unexpected_keys, loaded.unexpected_keys
    if trainer.args.world_size > 1:
        for tensor in model.state_dict().values():
            torch.distributed.broadcast(tensor, src=0)
    return [_step(folder) for folder in folders]


def _last_checkpoints(trainer: Trainer, count: int) -> list[Path]:
    folder = Path(str(trainer.args.output_dir))
    found = sorted((each for each in folder.glob("checkpoint-*") if (each / _WEIGHTS).is_file()), key=_step)
    return [each for each in found if _is_of_this_training(each, trainer)][-count:]


def _is_of_this_training(checkpoint: Path, trainer: Trainer) -> bool:
    """Whether the log of a checkpoint is the beginning of the training's: an overwritten run may have left some."""
    if _step(checkpoint) > trainer.state.global_step or not (state := checkpoint / "trainer_state.json").is_file():
        return False
    history = json.loads(state.read_text(encoding="utf-8"))["log_history"]
    # As text, because a loss that is not a number equals nothing.
    saved, own = (json.dumps(each, sort_keys=True) for each in (history, trainer.state.log_history[: len(history)]))
    return saved == own


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _mean(files: list[Path]) -> dict[str, Tensor]:
    """The mean of tensors saved under the same names, added up in float32 and given in the type that they have."""
    total: dict[str, Tensor] = {}
    types: dict[str, torch.dtype] = {}
    for file in files:
        for name, tensor in load_file(file).items():
            types[name] = tensor.dtype
            total[name] = total[name] + tensor.float() if name in total else tensor.float()
    return {name: (tensor / len(files)).to(types[name]) for name, tensor in total.items()}
