"""The loss handed to ``step()`` is the one whose gradient it gets, in every mode of training.

The tests use one identity: if the loss is linear in the weights, it equals ``<gradient, weights>``, so no reference
run is needed. The gradients are the ones that reach the optimizer: accumulated, averaged over ranks, clipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset
from trainer.tiny import (
    ALWAYS_CAPPED,
    Examples,
    LinearLoss,
    LinearLossOverWindow,
    ProbedTrainer,
    arguments,
    micro_batches,
    score_examples,
    score_loss_func,
    training_logs,
)
from transformers import Trainer

THREE = {"gradient_accumulation_steps": 3}


def run(folder: Path, model: nn.Module, *, examples: Any = None, compute_loss_func: Any = None, **options: Any) -> Any:
    trainer = ProbedTrainer(
        model=model,
        args=arguments(folder, **(ALWAYS_CAPPED | options)),
        train_dataset=score_examples() if examples is None else examples,
        compute_loss_func=compute_loss_func,
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("model_class", "options"),
    [
        pytest.param(LinearLoss, {}, id="plain"),
        pytest.param(LinearLossOverWindow, {}, id="plain-num-items"),
        pytest.param(LinearLoss, THREE, id="accumulation"),
        pytest.param(LinearLossOverWindow, THREE, id="accumulation-num-items"),
        pytest.param(
            LinearLossOverWindow, THREE | {"average_tokens_across_devices": False}, id="accumulation-no-averaging"
        ),
        pytest.param(LinearLoss, {"gradient_accumulation_steps": 8, "max_steps": 2}, id="accumulation-all"),
        pytest.param(LinearLoss, THREE | {"optim": "momo_adam"}, id="momo_adam"),
        pytest.param(LinearLoss, {"weight_decay": 0.1}, id="weight-decay"),
        pytest.param(LinearLoss, {"lr_scheduler_type": "linear", "warmup_steps": 2}, id="warm-up-from-zero"),
        pytest.param(
            LinearLoss, {"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 3}}}, id="num-steps"
        ),
        pytest.param(
            LinearLoss,
            THREE | {"accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}}},
            id="sync-each-batch",
        ),
    ],
)
def test_the_loss_is_the_one_whose_gradient_arrives(
    tmp_path: Path, model_class: type[nn.Module], options: dict[str, Any]
) -> None:
    trainer = run(tmp_path, model_class(), **options)
    trainer.probe.check_euler(options.get("max_steps", 4))
    assert all(handed.sample_weight == 1.0 for handed in trainer.probe.steps)


@pytest.mark.parametrize("model_class", [LinearLoss, LinearLossOverWindow])
def test_uneven_last_window(tmp_path: Path, model_class: type[nn.Module]) -> None:
    """Twenty examples make five batches, so every epoch has a window of three and one of two."""
    trainer = run(tmp_path, model_class(), examples=score_examples(20), max_steps=6, **THREE)
    trainer.probe.check_euler(6)


def test_uneven_last_window_of_a_stream(tmp_path: Path) -> None:
    """A stream of unknown length that ends within a window keeps its gradients for the next window.

    The tap forgot the losses of these micro-batches at every ``on_step_begin``, while the Trainer kept the gradients:
    the first step of an epoch was handed half of its loss.
    """

    class Stream(IterableDataset):
        def __iter__(self) -> Any:
            return iter(score_examples(20).examples)

    trainer = run(tmp_path, LinearLoss(), examples=Stream(), max_steps=6, gradient_accumulation_steps=2)
    trainer.probe.check_euler(6)


@pytest.mark.parametrize("averaging", [True, False])
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("model_class", [LinearLoss, LinearLossOverWindow])
def test_compute_loss_func(tmp_path: Path, model_class: type[nn.Module], accumulation: int, averaging: bool) -> None:
    trainer = run(
        tmp_path,
        model_class(),
        compute_loss_func=score_loss_func,
        gradient_accumulation_steps=accumulation,
        average_tokens_across_devices=averaging,
    )
    trainer.probe.check_euler(4)


def test_a_loss_of_the_window_counts_every_label_alike(tmp_path: Path) -> None:
    """With ``num_items_in_batch`` the loss is the mean over the labels of the whole window."""
    trainer = run(tmp_path, LinearLossOverWindow(), max_steps=1, **THREE)
    whole = micro_batches(Examples(score_examples().examples[:12]), 12)[0]
    expected = LinearLoss()(**whole)["loss"].item()
    assert trainer.probe.steps[0].loss == pytest.approx(expected, rel=1e-5)
    assert training_logs(trainer)[0]["loss"] == pytest.approx(expected, rel=1e-4)


def test_bf16_autocast(tmp_path: Path) -> None:
    """The identity holds to the precision of bfloat16, which is eight bits."""
    trainer = run(tmp_path, LinearLoss(), bf16=True, **THREE)
    assert trainer.accelerator.mixed_precision == "bf16"
    trainer.probe.check_euler(4, rel=2e-2)
    single = LinearLoss()(**micro_batches(score_examples(4), 4)[0])["loss"].item()
    assert abs(single) > 0.1, "the identity is only telling away from zero"


def test_torch_compile(tmp_path: Path) -> None:
    trainer = run(tmp_path, LinearLoss(), torch_compile=True, torch_compile_backend="eager", **THREE)
    assert hasattr(trainer.model_wrapped, "_orig_mod")
    trainer.probe.check_euler(4)


@pytest.mark.parametrize("optim", ["momo", "momo_adam"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_clipping_is_told_as_a_sample_weight(tmp_path: Path, accumulation: int, optim: str) -> None:
    """The optimizer gets ``c`` times the gradient of the loss, and ``c`` as the sample weight."""
    trainer = run(tmp_path, LinearLoss(), max_grad_norm=0.5, gradient_accumulation_steps=accumulation, optim=optim)
    trainer.probe.check_euler(4)
    for handed, grads, logs in zip(trainer.probe.steps, trainer.probe.grads, training_logs(trainer), strict=True):
        norm = float(torch.cat([grad.flatten() for grad in grads]).norm())
        assert norm == pytest.approx(0.5, rel=1e-4)
        assert handed.sample_weight == pytest.approx(0.5 / logs["grad_norm"], rel=1e-5)
        assert handed.sample_weight < 1.0


@pytest.mark.skipif(not hasattr(Trainer, "_mixed_mesh_grad_norm"), reason="it clips by the accelerator alone")
def test_clipping_past_the_accelerator(tmp_path: Path) -> None:
    """With gradients on several device meshes the Trainer clips by itself, and the factor did not reach the optimizer.

    The mixin relies on the Trainer's private ``_mixed_mesh_grad_norm``, which runs here on plain gradients.
    """
    trainer = ProbedTrainer(
        model=LinearLoss(),
        args=arguments(tmp_path, **(ALWAYS_CAPPED | {"max_grad_norm": 0.2})),
        train_dataset=score_examples(),
    )
    assert trainer._mixed_mesh_grads is None
    trainer._mixed_mesh_grads = True
    trainer.train()
    trainer.probe.check_euler(4)
    assert all(handed.sample_weight < 1.0 for handed in trainer.probe.steps)


def test_clipping_that_does_not_bind(tmp_path: Path) -> None:
    trainer = run(tmp_path, LinearLoss(), max_grad_norm=1e6)
    trainer.probe.check_euler(4)
    assert [handed.sample_weight for handed in trainer.probe.steps] == [1.0] * 4


def test_two_trainings_of_one_trainer(tmp_path: Path) -> None:
    """The second ``train()`` uses the prepared optimizer, which has the tap already."""
    trainer = run(tmp_path, LinearLoss(), **THREE)
    trainer.train()
    trainer.probe.check_euler(8)


def test_an_accelerator_made_anew(tmp_path: Path) -> None:
    """A hyperparameter search makes a new accelerator for every trial, and the optimizer must leave the old tap."""
    trainer = run(tmp_path, LinearLoss(), **THREE)
    old = trainer.loss_tap
    trainer.create_accelerator_and_postprocess()
    trainer.optimizer, trainer.probe = None, None
    trainer.train()
    assert trainer.loss_tap is not old
    trainer.probe.check_euler(4)
