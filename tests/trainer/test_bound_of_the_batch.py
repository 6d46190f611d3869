"""A lower bound that ``compute_loss`` returns with every batch reaches the optimizer, scaled as the loss is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from trainer.test_trajectory import STEPS, check_same, windows
from trainer.tiny import (
    Classifier,
    DistillingTrainer,
    ProbedTrainer,
    WindowClassifier,
    arguments,
    class_examples,
    decay_groups,
    plain_loop,
)

from hf_momo import MomoAdam


def distill(folder: Path, model: Any, **options: Any) -> DistillingTrainer:
    trainer = DistillingTrainer(
        model=model,
        teacher=Classifier() if type(model) is Classifier else WindowClassifier(),
        args=arguments(folder, **({"optim": "momo_adam", "learning_rate": 0.1, "max_steps": STEPS} | options)),
        train_dataset=class_examples(),
        eval_dataset=class_examples(8),
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("model_class", [Classifier, WindowClassifier])
@pytest.mark.parametrize("accumulation", [1, 8])
@pytest.mark.parametrize("max_norm", [0.0, 0.3])
def test_accumulated_bound_is_that_of_the_whole_batch(
    tmp_path: Path, model_class: Any, accumulation: int, max_norm: float
) -> None:
    """Eight micro-batches of one example give the run of one batch of eight, whoever divides the loss."""
    trainer = distill(
        tmp_path,
        model_class(),
        gradient_accumulation_steps=accumulation,
        per_device_train_batch_size=8 // accumulation,
        max_grad_norm=max_norm,
    )
    model, teacher = Classifier(), Classifier()
    optimizer = MomoAdam(decay_groups(model, 0.0), lr=0.1)
    steps = plain_loop(
        model,
        optimizer,
        windows(8, 1),
        max_norm=max_norm,
        bound_of=lambda batch: DistillingTrainer.bound_of(teacher, batch),
    )
    check_same(trainer, model, steps)
    assert len({step.lower_bound for step in steps}) == STEPS
    assert len({step.step_size for step in steps}) > 3, "the step size is meant to adapt in this run"


def test_evaluation_is_left_alone(tmp_path: Path) -> None:
    """``compute_loss`` is that of the class again after a step, and evaluation calls it without a bound."""
    trainer = distill(tmp_path, Classifier(), eval_strategy="steps", eval_steps=2)
    assert "compute_loss" not in vars(trainer)
    assert sum("eval_loss" in entry for entry in trainer.state.log_history) == STEPS // 2


def test_missing_bound(tmp_path: Path) -> None:
    class Forgetful(ProbedTrainer):
        lower_bound_in_outputs = True

    trainer = Forgetful(model=Classifier(), args=arguments(tmp_path, optim="momo"), train_dataset=class_examples())
    with pytest.raises(ValueError, match="lower_bound_in_outputs: the outputs of compute_loss have no entry"):
        trainer.train()


def test_other_optimizers_get_no_bound(tmp_path: Path) -> None:
    """With another optimizer the class trains as it would without a bound."""
    trainer = DistillingTrainer(
        model=Classifier(),
        teacher=Classifier(),
        args=arguments(tmp_path, optim="adamw_torch", learning_rate=1e-3),
        train_dataset=class_examples(),
    )
    trainer.probe = object()  # no other, since it expects a loss
    trainer.train()
    assert all(torch.isfinite(param).all() for param in trainer.model.parameters())


def test_loss_computed_anew(tmp_path: Path) -> None:
    """A bound of one loss and a gradient of another do not belong together."""

    class Unrelated(DistillingTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            backward = self.accelerator.backward

            def backward_of_another_loss(loss: Any, **options: Any) -> None:
                backward(model(**self._prepare_inputs(inputs))["loss"], **options)

            self.accelerator.backward = backward_of_another_loss
            try:
                return super().training_step(model, inputs, *args, **kwargs)
            finally:
                self.accelerator.backward = backward

    trainer = Unrelated(
        model=Classifier(),
        teacher=Classifier(),
        args=arguments(tmp_path, optim="momo"),
        train_dataset=class_examples(),
    )
    with pytest.raises(RuntimeError, match=r"lower_bound: the loss that accelerator.backward got was not computed"):
        trainer.train()
