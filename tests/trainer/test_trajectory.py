"""A run of the Trainer equals the plain torch loop in losses, step sizes, bounds and weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trainer.tiny import (
    CLASSES,
    Classifier,
    Example,
    PlainStep,
    ProbedTrainer,
    arguments,
    class_examples,
    decay_groups,
    micro_batches,
    plain_loop,
    training_logs,
    weights_of,
)

from hf_momo import Momo, MomoAdam

OPTIMIZERS = [pytest.param("momo", Momo, 2.0, id="momo"), pytest.param("momo_adam", MomoAdam, 0.1, id="momo_adam")]
STEPS = 8


def run(folder: Path, model: nn.Module, optim: str, lr: float, **options: Any) -> ProbedTrainer:
    trainer = ProbedTrainer(
        model=model,
        args=arguments(folder, **({"optim": optim, "learning_rate": lr, "max_steps": STEPS} | options)),
        train_dataset=class_examples(),
    )
    trainer.train()
    return trainer


def windows(size: int, accumulation: int, steps: int = STEPS) -> list[list[Example]]:
    batches = micro_batches(class_examples(), size)
    repeated = batches * math.ceil(steps * accumulation / len(batches))
    return [repeated[at * accumulation : (at + 1) * accumulation] for at in range(steps)]


def check_same(trainer: ProbedTrainer, model: nn.Module, steps: list[PlainStep], **tolerance: float) -> None:
    tolerance = tolerance or {"rel": 1e-5, "abs": 1e-6}
    assert [handed.loss for handed in trainer.probe.steps] == pytest.approx([step.loss for step in steps], **tolerance)
    logs = training_logs(trainer)
    assert [entry["step_size"] for entry in logs] == pytest.approx([step.step_size for step in steps], **tolerance)
    assert [entry["lower_bound"] for entry in logs] == pytest.approx([step.lower_bound for step in steps], **tolerance)
    for ours, theirs in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance["rel"], atol=tolerance["abs"])


@pytest.mark.parametrize(("optim", "optimizer_class", "lr"), OPTIMIZERS)
@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("adapt", [False, True])
def test_plain_and_accumulated(
    tmp_path: Path, optim: str, optimizer_class: Any, lr: float, accumulation: int, adapt: bool
) -> None:
    trainer = run(
        tmp_path,
        Classifier(),
        optim,
        lr,
        gradient_accumulation_steps=accumulation,
        per_device_train_batch_size=8 // accumulation,
        optim_args=f"adapt_lower_bound={adapt}",
    )
    model = Classifier()
    optimizer = optimizer_class(decay_groups(model, 0.0), lr=lr, adapt_lower_bound=adapt)
    steps = plain_loop(model, optimizer, windows(8 // accumulation, accumulation))
    check_same(trainer, model, steps)
    assert len({step.step_size for step in steps}) > 1, "the step size is meant to adapt in this run"


@pytest.mark.parametrize(("optim", "optimizer_class", "lr"), OPTIMIZERS)
def test_a_batch_of_eight_is_four_of_two(tmp_path: Path, optim: str, optimizer_class: Any, lr: float) -> None:
    whole = run(tmp_path, Classifier(), optim, lr, per_device_train_batch_size=8)
    accumulated = run(tmp_path, Classifier(), optim, lr, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert [entry["step_size"] for entry in training_logs(accumulated)] == pytest.approx(
        [entry["step_size"] for entry in training_logs(whole)], rel=1e-3
    )
    for ours, theirs in zip(accumulated.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("optim", "optimizer_class", "lr"), OPTIMIZERS)
def test_clipping_with_its_sample_weight(tmp_path: Path, optim: str, optimizer_class: Any, lr: float) -> None:
    trainer = run(tmp_path, Classifier(), optim, lr, max_grad_norm=0.3, gradient_accumulation_steps=2)
    model = Classifier()
    steps = plain_loop(model, optimizer_class(decay_groups(model, 0.0), lr=lr), windows(4, 2), max_norm=0.3)
    check_same(trainer, model, steps)
    weights = [handed.sample_weight for handed in trainer.probe.steps]
    assert min(weights) < 0.5
    unclipped = run(tmp_path, Classifier(), optim, lr, gradient_accumulation_steps=2)
    assert training_logs(unclipped)[-1]["step_size"] != pytest.approx(steps[-1].step_size, rel=1e-3)


@pytest.mark.parametrize(("optim", "optimizer_class", "lr"), OPTIMIZERS)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_label_smoothing_with_the_automatic_bound(
    tmp_path: Path, optim: str, optimizer_class: Any, lr: float, accumulation: int
) -> None:
    smoothing = 0.2
    trainer = run(
        tmp_path,
        Classifier(),
        optim,
        lr,
        label_smoothing_factor=smoothing,
        optim_args="lower_bound=auto",
        gradient_accumulation_steps=accumulation,
    )

    def smoothed(model: nn.Module, batch: Example) -> Tensor:
        return nn.functional.cross_entropy(
            model(batch["features"])["logits"], batch["labels"], label_smoothing=smoothing
        )

    target = torch.full((CLASSES,), smoothing / CLASSES, dtype=torch.float64)
    target[0] += 1.0 - smoothing
    bound = float(torch.distributions.Categorical(probs=target).entropy())
    model = Classifier()
    optimizer = optimizer_class(decay_groups(model, 0.0), lr=lr, lower_bound=bound)
    steps = plain_loop(model, optimizer, windows(4, accumulation), loss_of=smoothed)
    check_same(trainer, model, steps)
    assert trainer.state.log_history[0]["lower_bound"] == pytest.approx(bound, rel=1e-6)
    assert min(step.loss for step in steps) > bound > 0.5


@pytest.mark.parametrize(("optim", "optimizer_class", "lr"), OPTIMIZERS)
def test_weight_decay_on_weights_but_not_on_biases(
    tmp_path: Path, optim: str, optimizer_class: Any, lr: float
) -> None:
    trainer = run(tmp_path, Classifier(), optim, lr, weight_decay=0.1)
    groups = trainer.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    model = Classifier()
    steps = plain_loop(model, optimizer_class(decay_groups(model, 0.1), lr=lr), windows(4, 1))
    check_same(trainer, model, steps)
    undecayed = Classifier()
    plain_loop(undecayed, optimizer_class(undecayed.parameters(), lr=lr), windows(4, 1))
    assert not torch.allclose(undecayed.hidden.weight, trainer.model.hidden.weight, rtol=1e-3)


def test_the_adamw_form_of_weight_decay(tmp_path: Path) -> None:
    trainer = run(tmp_path, Classifier(), "momo_adam", 0.1, weight_decay=0.1, optim_args="weight_decay_form=adamw")
    model = Classifier()
    optimizer = MomoAdam(decay_groups(model, 0.1), lr=0.1, weight_decay_form="adamw")
    check_same(trainer, model, plain_loop(model, optimizer, windows(4, 1)))


@pytest.mark.parametrize(("optim", "optimizer_class", "lr"), OPTIMIZERS)
def test_warm_up_from_zero(tmp_path: Path, optim: str, optimizer_class: Any, lr: float) -> None:
    """The schedule moves the cap and begins at 0. The first step must neither move anything nor divide by the cap."""
    trainer = run(tmp_path, Classifier(), optim, lr, lr_scheduler_type="constant_with_warmup", warmup_steps=4)
    model = Classifier()
    optimizer = optimizer_class(decay_groups(model, 0.0), lr=lr)
    steps = plain_loop(model, optimizer, windows(4, 1), lr_of=lambda index: lr * min(1.0, index / 4))
    check_same(trainer, model, steps)
    assert steps[0].step_size == 0.0
    assert steps[-1].step_size > 0.0


def test_the_trainers_betas_and_eps_reach_the_optimizer(tmp_path: Path) -> None:
    trainer = run(tmp_path, Classifier(), "momo_adam", 0.1, adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6)
    model = Classifier()
    optimizer = MomoAdam(decay_groups(model, 0.0), lr=0.1, betas=(0.8, 0.95), eps=1e-6)
    check_same(trainer, model, plain_loop(model, optimizer, windows(4, 1)))


def test_momos_beta_is_an_optim_arg(tmp_path: Path) -> None:
    trainer = run(tmp_path, Classifier(), "momo", 2.0, optim_args="beta=0.5,bias_correction=true")
    model = Classifier()
    optimizer = Momo(decay_groups(model, 0.0), lr=2.0, beta=0.5, bias_correction=True)
    check_same(trainer, model, plain_loop(model, optimizer, windows(4, 1)))


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    model = Classifier()
    model.hidden.requires_grad_(False)
    before = weights_of(model.hidden)
    trainer = run(tmp_path, model, "momo_adam", 0.1, weight_decay=0.1)
    assert all(torch.equal(old, new) for old, new in zip(before, trainer.model.hidden.parameters(), strict=True))
    assert trainer.optimizer.optimizer.last_step.num_steps == STEPS
