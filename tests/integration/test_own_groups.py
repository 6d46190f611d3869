"""Trainers that make their own parameter groups keep them with MoMo, whatever kind of method makes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from integration import own_groups
from integration.own_groups import FROZEN_RATE, HEAD_RATE, encoder, examples, train
from trainer.tiny import quiet
from transformers import Trainer, TrainingArguments

import hf_momo
from hf_momo import MomoAdam, MomoTrainerMixin, MomoTrainingArguments
from hf_momo.optimizers.registry import get_optimizer_info, list_optimizers, unwrap_optimizer

KINDS = [own_groups.InstanceMethod, own_groups.ClassMethod, own_groups.StaticMethod, own_groups.OwnOptimizer]
OPTIMIZERS = [*list_optimizers(), "adamw_torch", "sgd"]
LEARNING_RATE = 0.05


@contextmanager
def integrated() -> Iterator[None]:
    hf_momo.integrate()
    try:
        yield
    finally:
        hf_momo.integrate(undo=True)


def with_mixin(kind: Any, options: dict[str, Any]) -> Any:
    mixed = type("Mixed", (MomoTrainerMixin, kind), {})
    return mixed(model=encoder(), args=MomoTrainingArguments(**options), train_dataset=examples())


def with_integrate(kind: Any, options: dict[str, Any]) -> Any:
    with integrated():
        return kind(model=encoder(), args=TrainingArguments(**options), train_dataset=examples())


def check(result: dict[str, Any], rate: float = LEARNING_RATE) -> None:
    assert list(dict.fromkeys(result["rates"])) == [FROZEN_RATE, rate, HEAD_RATE]
    moved = result["moved"]
    assert moved["first"] == 0.0 and moved["second"] > 0.0 and moved["head"] > 0.0, moved


@pytest.mark.parametrize("optim", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("make", [with_mixin, with_integrate])
def test_the_groups_of_the_trainer_are_trained(make: Any, kind: Any, optim: str, tmp_path: Path) -> None:
    """With ``momo_adam`` the head of sentence-transformers' ``SoftmaxLoss`` was never trained.

    Its instance method was not called at all, and for stock optimizers called on the class: an AttributeError.
    """
    options = quiet(tmp_path) | {"optim": optim, "learning_rate": LEARNING_RATE}
    if optim in list_optimizers() and get_optimizer_info(optim).takes_base:
        options["optim_args"] = "base=adamw_torch"
    trainer = make(kind, options)
    context = integrated() if make is with_integrate else contextmanager(lambda: iter([None]))()
    with context:
        check(train(trainer))
    made = unwrap_optimizer(trainer.optimizer)
    if optim in list_optimizers():
        assert isinstance(made, get_optimizer_info(optim).optimizer_cls)
        logs = [entry for entry in trainer.state.log_history if "loss" in entry]
        assert len(logs) == 4 and all(entry["step_size"] >= 0.0 and "lower_bound" in entry for entry in logs)
    else:
        assert isinstance(trainer, MomoTrainerMixin) is (make is with_mixin)


def test_the_training_is_that_of_the_same_groups_in_a_plain_loop(tmp_path: Path) -> None:
    options = quiet(tmp_path) | {"optim": "momo_adam", "learning_rate": LEARNING_RATE}
    trainer = with_mixin(own_groups.InstanceMethod, options)
    trainer._get_train_sampler = lambda *args: torch.utils.data.SequentialSampler(trainer.train_dataset)
    head = {name: value.clone() for name, value in trainer.loss.head.state_dict().items()}
    trainer.train()
    loss = own_groups.SoftmaxLoss(encoder())
    loss.head.load_state_dict(head)
    optimizer = MomoAdam(own_groups.groups_of(loss), lr=LEARNING_RATE)
    for at in range(0, 16, 4):
        rows = examples()[at : at + 4]
        value = loss(torch.stack([row["features"] for row in rows]), torch.stack([row["labels"] for row in rows]))
        optimizer.zero_grad()
        value.backward()
        optimizer.step(loss=value)
    for ours, theirs in zip(trainer.loss.parameters(), loss.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", [own_groups.LossTrainer, own_groups.InstanceMethod])
def test_the_names_are_known_outside_of_training(kind: Any, tmp_path: Path) -> None:
    """A user's Trainer may ask for the class and the options itself."""
    trainer = with_mixin(kind, quiet(tmp_path) | {"optim": "momo_adam", "learning_rate": LEARNING_RATE})
    cls, options = trainer.get_optimizer_cls_and_kwargs(trainer.args)
    assert (cls, options["lr"]) == (MomoAdam, LEARNING_RATE)
    assert ("optimizer_dict" in options) is (kind is own_groups.InstanceMethod)
    if kind is own_groups.LossTrainer:
        assert type(trainer).get_optimizer_cls_and_kwargs(trainer.args)[0] is MomoAdam
    with pytest.raises(ValueError, match="momo_adam"):
        Trainer.get_optimizer_cls_and_kwargs(trainer.args)


@pytest.mark.parametrize(("optim", "kind"), [("momo_adam", "mixed"), ("adamw_torch", "stock")])
def test_under_hf_momo_run(optim: str, kind: str, tmp_path: Path) -> None:
    options = {"output_dir": tmp_path, "optim": optim, "learning_rate": LEARNING_RATE, "max_steps": 4}
    options |= {"report_to": "none", "save_strategy": "no", "logging_steps": 1, "lr_scheduler_type": "constant"}
    options |= {"use_cpu": True, "remove_unused_columns": False}
    words = [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [sys.executable, "-m", "hf_momo", "run", str(own_groups.__file__), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    check(result)
    assert result["type"] == kind
    assert [("step_size" in entry) for entry in result["logs"]] == [optim == "momo_adam"] * 4
