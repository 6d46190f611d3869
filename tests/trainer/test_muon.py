"""``optim="momo_muon"``: the Trainer's parameter groups are split by what the model's parameters are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from integration.own_groups import HEAD_RATE, InstanceMethod, OwnOptimizer, encoder, examples
from torch import nn
from trainer.tiny import arguments, gpt2, t5, text_examples, training_logs, weights_of

from hf_momo import MomoMuon, MomoTrainer, MomoTrainerMixin
from hf_momo.optimizers.registry import unwrap_optimizer

ARGUMENTS: dict[str, Any] = {"optim": "momo_muon", "learning_rate": 0.02, "max_steps": 4, "adam_epsilon": 1e-5}


def muon_arguments(folder: Path, **options: Any) -> Any:
    return arguments(folder, **{**ARGUMENTS, **options})


@pytest.mark.parametrize("make", [gpt2, t5])
def test_groups_of_the_trainer(tmp_path: Path, make: Any) -> None:
    """Weights with and without decay, each split; embeddings and the tied head belong to Adam."""
    trainer = MomoTrainer(model=make(), args=muon_arguments(tmp_path, weight_decay=0.1))
    optimizer = unwrap_optimizer(trainer.create_optimizer())
    assert isinstance(optimizer, MomoMuon)
    methods = MomoMuon.methods_of(trainer.model)
    names = {id(param): name for name, param in trainer.model.named_parameters()}
    assert {"muon", "adam"} == set(methods.values())
    for group in optimizer.param_groups:
        for param in group["params"]:
            assert methods[names[id(param)]] == group["method"]
            assert (group["weight_decay"] == 0.0) == (param.ndim < 2 or "bias" in names[id(param)])
    shared = {id(module.weight) for module in trainer.model.modules() if isinstance(module, nn.Embedding)}
    assert not any(id(p) in shared for g in optimizer.param_groups if g["method"] == "muon" for p in g["params"])


def test_resumed_equals_unbroken(tmp_path: Path) -> None:
    def make(steps: int) -> MomoTrainer:
        torch.manual_seed(0)
        args = muon_arguments(tmp_path, max_steps=steps, save_strategy="steps", save_steps=3, weight_decay=0.1)
        return MomoTrainer(model=gpt2(), args=args, train_dataset=text_examples())

    make(3).train()
    resumed, unbroken = make(6), make(6)
    resumed.train(resume_from_checkpoint=True)
    unbroken.train()
    for ours, theirs in zip(weights_of(resumed.model), weights_of(unbroken.model), strict=True):
        assert torch.equal(ours, theirs)
    assert [entry["step_size"] for entry in training_logs(unbroken)] == pytest.approx([0.02] * 6)


def test_betas_come_from_the_trainer_s_arguments(tmp_path: Path) -> None:
    """Left out, they are the optimizer's own; ``momentum`` in ``optim_args`` must be the first of them."""
    for options, expected in (
        ({}, (0.95, 0.95)),
        ({"adam_beta2": 0.98}, (0.95, 0.98)),
        ({"adam_beta1": 0.9, "optim_args": "momentum=0.9"}, (0.9, 0.95)),
    ):
        optimizer = MomoTrainer(model=gpt2(), args=muon_arguments(tmp_path, **options)).create_optimizer()
        assert unwrap_optimizer(optimizer).param_groups[0]["betas"] == expected
    trainer = MomoTrainer(model=gpt2(), args=muon_arguments(tmp_path, optim_args="momentum=0.9"))
    with pytest.raises(ValueError, match=r"momentum: got 0\.9, but betas\[0\] is 0\.95; .*--adam_beta1"):
        trainer.create_optimizer()


def test_a_model_without_matrices(tmp_path: Path) -> None:
    trainer = MomoTrainer(model=nn.Sequential(nn.LayerNorm(4)), args=muon_arguments(tmp_path))
    with pytest.raises(ValueError, match=r"none of them is a matrix.*Use momo_adam"):
        trainer.create_optimizer()


class WithInstanceMethod(MomoTrainerMixin, InstanceMethod):
    pass


class WithOwnOptimizer(MomoTrainerMixin, OwnOptimizer):
    pass


# The first asks with the loss, so its head is known; the second's is no part of the model, and a matrix by its shape.
@pytest.mark.parametrize(
    ("trainer_cls", "head"), [(WithInstanceMethod, ["adam"]), (WithOwnOptimizer, ["muon", "adam"])]
)
def test_groups_of_a_trainer_of_another_package(tmp_path: Path, trainer_cls: Any, head: list[str]) -> None:
    """Groups that a subclass makes keep their rates, each split in two; also where it passes no model on."""
    trainer = trainer_cls(model=encoder(), args=muon_arguments(tmp_path), train_dataset=examples())
    optimizer = unwrap_optimizer(trainer.create_optimizer())
    both = ["muon", "adam"]
    expected = [(0.0, both), (0.02, both), (HEAD_RATE, head)]
    assert [(group["lr"], group["method"]) for group in optimizer.param_groups] == [
        (rate, method) for rate, methods in expected for method in methods
    ]
    trainer.train()
    assert optimizer.last_step.num_steps == 4
