"""A ``MomoTrainer`` with ``momo_adam`` starts from a checkpoint of the stock Trainer's AdamW."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_model
from torch import nn
from trainer.tiny import Classifier, arguments, class_examples, training_logs, weights_of
from transformers import Trainer

from hf_momo import MomoAdam, MomoTrainer, load_adamw_state_dict

ADAMW = {"optim": "adamw_torch_fused", "learning_rate": 0.05, "weight_decay": 0.0}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    args = arguments(tmp_path, **ADAMW, save_strategy="steps", save_steps=4)
    Trainer(model=Classifier(), args=args, train_dataset=class_examples()).train()
    return tmp_path / "checkpoint-4"


def start(cls: type[Trainer], checkpoint: Path, **options: Any) -> Trainer:
    """Train from the weights and the averages of the checkpoint, as the conversion's docstring describes."""
    model: nn.Module = Classifier()
    load_model(model, checkpoint / "model.safetensors")
    args = arguments(checkpoint.parent, **(ADAMW | options))
    trainer = cls(model=model, args=args, train_dataset=class_examples())
    state_dict = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    optimizer = trainer.create_optimizer()
    if isinstance(optimizer, MomoAdam):
        load_adamw_state_dict(optimizer, state_dict, loss=1.2)
    else:
        optimizer.load_state_dict(copy.deepcopy(state_dict))
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] = args.learning_rate
    trainer.train()
    return trainer


def test_always_capped_is_the_run_of_adamw(checkpoint: Path) -> None:
    momo = {"optim": "momo_adam", "optim_args": "lower_bound=-1e12,weight_decay_form=adamw"}
    ours, theirs = start(MomoTrainer, checkpoint, **momo), start(Trainer, checkpoint)
    assert [entry["step_capped"] for entry in training_logs(ours)] == [1.0] * 4
    assert [entry["loss"] for entry in training_logs(ours)] == [entry["loss"] for entry in training_logs(theirs)]
    assert all(map(torch.equal, weights_of(ours.model), weights_of(theirs.model)))


def test_a_large_cap_does_not_spoil_the_start(checkpoint: Path) -> None:
    """Where AdamW diverges, the model of the loss starts at the loss and limits the first steps."""
    options = {"learning_rate": 3.0, "max_steps": 8}
    ours = start(MomoTrainer, checkpoint, optim="momo_adam", **options)
    theirs = start(Trainer, checkpoint, **options)
    losses, other_losses = ([entry["loss"] for entry in training_logs(trainer)] for trainer in (ours, theirs))
    assert training_logs(ours)[0]["step_capped"] == 0.0
    assert max(losses) < 2.0 < max(other_losses)
