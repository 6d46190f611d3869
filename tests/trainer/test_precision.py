"""Mixed and low precision through the Trainer. Steps that a scaler skips are in ``test_window.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trainer.tiny import (
    ALWAYS_CAPPED,
    Classifier,
    Example,
    Examples,
    LinearLoss,
    LinearLossOverWindow,
    ProbedTrainer,
    arguments,
    class_examples,
    decay_groups,
    micro_batches,
    plain_loop,
    score_examples,
    training_logs,
)

from hf_momo import Momo, MomoAdam
from hf_momo.optimizers.registry import unwrap_optimizer
from hf_momo.optimizers.scalars import SCALARS

OPTIMIZERS = [pytest.param("momo", Momo, 2.0, id="momo"), pytest.param("momo_adam", MomoAdam, 0.1, id="momo_adam")]
# bfloat16 has eight bits, and a loss is a sum of some dozens of rounded products.
BFLOAT16 = 2e-2
# Precision of float16, relative to the loss.
FLOAT16 = 5e-3

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def in_bfloat16(examples: Examples) -> Examples:
    """Return the examples with features in bfloat16, for a model with bfloat16 parameters."""
    return Examples([{**example, "features": example["features"].bfloat16()} for example in examples.examples])


def autocast_loss(model: nn.Module, batch: Example) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model(**batch)["loss"]


def check_same(trainer: ProbedTrainer, model: nn.Module, steps: list[Any]) -> None:
    """Compare to float32's rounding and not bfloat16's, since the operations and their order are the same."""
    assert [handed.loss for handed in trainer.probe.steps] == pytest.approx([step.loss for step in steps], rel=1e-6)
    sizes = [entry["step_size"] for entry in training_logs(trainer)]
    assert sizes == pytest.approx([step.step_size for step in steps], rel=1e-5)
    assert len(set(sizes)) > 1, "the step size is meant to adapt in this run"
    for ours, theirs in zip(trainer.model.parameters(), model.parameters(), strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("optim", "optimizer_class", "lr"), OPTIMIZERS)
def test_bf16_autocast_is_the_plain_loop(tmp_path: Path, optim: str, optimizer_class: Any, lr: float) -> None:
    """Parameters, gradients and the optimizer are float32. The loss has the dtype that autocast gave it."""
    trainer = ProbedTrainer(
        model=Classifier(),
        args=arguments(tmp_path, bf16=True, optim=optim, learning_rate=lr, gradient_accumulation_steps=2),
        train_dataset=class_examples(),
    )
    trainer.train()
    assert trainer.accelerator.mixed_precision == "bf16"
    model, batches = Classifier(), micro_batches(class_examples(), 4)
    windows = [batches[at : at + 2] for at in (0, 2, 4, 6)]
    optimizer = optimizer_class(decay_groups(model, 0.0), lr=lr)
    check_same(trainer, model, plain_loop(model, optimizer, windows, loss_of=autocast_loss))
    exact = Classifier()
    unrounded = plain_loop(exact, optimizer_class(decay_groups(exact, 0.0), lr=lr), windows)
    assert trainer.probe.steps[0].loss == pytest.approx(unrounded[0].loss, rel=BFLOAT16)
    assert trainer.probe.steps[0].loss != unrounded[0].loss, "the run is meant to be in bfloat16"


@pytest.mark.parametrize(("optim", "optimizer_class", "lr"), OPTIMIZERS)
def test_bf16_parameters_are_the_plain_loop(tmp_path: Path, optim: str, optimizer_class: Any, lr: float) -> None:
    """Parameters, gradients and averages are bfloat16 without float32 copies, and the model of the loss is float32."""
    trainer = ProbedTrainer(
        model=Classifier().bfloat16(),
        args=arguments(tmp_path, optim=optim, learning_rate=lr, max_steps=24),
        train_dataset=in_bfloat16(class_examples()),
    )
    trainer.train()
    model = Classifier().bfloat16()
    windows = 3 * [[batch] for batch in micro_batches(in_bfloat16(class_examples()), 4)]
    check_same(trainer, model, plain_loop(model, optimizer_class(decay_groups(model, 0.0), lr=lr), windows))
    inner = unwrap_optimizer(trainer.optimizer)
    assert {param.dtype for param in trainer.model.parameters()} == {torch.bfloat16}
    assert {state["exp_avg"].dtype for state in inner.state.values()} == {torch.bfloat16}
    assert {group[name].dtype for group in inner.param_groups for name in SCALARS} == {torch.float32}
    losses = [entry["loss"] for entry in training_logs(trainer)]
    assert sum(losses[-8:]) < 0.6 * sum(losses[:8])
    assert training_logs(trainer)[-1]["skipped_steps"] == 0


@pytest.mark.parametrize("optim", ["momo", "momo_adam"])
@pytest.mark.parametrize("model_class", [LinearLoss, LinearLossOverWindow])
@pytest.mark.parametrize("max_grad_norm", [0.0, 0.2])
def test_bf16_parameters_and_accumulation(
    tmp_path: Path, model_class: type[nn.Module], max_grad_norm: float, optim: str
) -> None:
    trainer = ProbedTrainer(
        model=model_class().bfloat16(),
        args=arguments(
            tmp_path,
            gradient_accumulation_steps=4,
            max_grad_norm=max_grad_norm,
            **(ALWAYS_CAPPED | {"optim": optim}),
        ),
        train_dataset=in_bfloat16(score_examples()),
    )
    trainer.train()
    trainer.probe.check_euler(4, BFLOAT16)
    if model_class is LinearLoss:
        with torch.no_grad():
            batches = micro_batches(in_bfloat16(score_examples()), 4)[:4]
            parts = [float(LinearLoss().bfloat16()(**batch)["loss"] / 4) for batch in batches]
        assert trainer.probe.steps[0].loss == pytest.approx(sum(parts), rel=1e-6), "the window's sum is not rounded"
        assert float(torch.tensor(sum(parts)).bfloat16()) != pytest.approx(sum(parts), rel=1e-6)
    assert all((handed.sample_weight < 1.0) is (max_grad_norm > 0.0) for handed in trainer.probe.steps)


class OnCuda(ProbedTrainer):
    """Trainer on the first CUDA device only."""

    init_scale: float | None = None

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.init_scale is not None:
            self.accelerator.scaler = torch.amp.GradScaler("cuda", init_scale=self.init_scale)


class OverflowingOnCuda(OnCuda):
    """Trainer whose first scales overflow float16, so the scaler skips steps and halves the scale."""

    init_scale = 2.0**24


def cuda_arguments(folder: Path, **options: Any) -> Any:
    args = arguments(folder, use_cpu=False, **options)
    args._n_gpu = 1
    return args


@pytest.mark.gpu
@on_cuda
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        pytest.param({}, 1e-4, id="float32"),
        pytest.param({"bf16": True}, BFLOAT16, id="bf16"),
        pytest.param({"fp16": True}, FLOAT16, id="fp16"),
        pytest.param({"bf16": True, "max_grad_norm": 0.2}, BFLOAT16, id="bf16-clipping"),
        pytest.param({"fp16": True, "max_grad_norm": 0.2}, FLOAT16, id="fp16-clipping"),
    ],
)
@pytest.mark.parametrize("accumulation", [1, 3])
def test_on_cuda(tmp_path: Path, options: dict[str, Any], tolerance: float, accumulation: int) -> None:
    trainer = OnCuda(
        model=LinearLoss(),
        args=cuda_arguments(tmp_path, gradient_accumulation_steps=accumulation, **(ALWAYS_CAPPED | options)),
        train_dataset=score_examples(),
    )
    trainer.train()
    assert next(trainer.model.parameters()).device.type == "cuda"
    assert (trainer.accelerator.scaler is not None) is ("fp16" in options)
    taken = len(trainer.probe.steps)
    # The scaler's own first scale, 65536, may overflow once.
    assert taken == 4 or (taken > 1 and "fp16" in options)
    trainer.probe.check_euler(taken, tolerance)


@pytest.mark.gpu
@on_cuda
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("max_grad_norm", [0.0, 0.2])
def test_steps_that_the_scaler_skips_on_cuda(tmp_path: Path, accumulation: int, max_grad_norm: float) -> None:
    trainer = OverflowingOnCuda(
        model=LinearLoss(),
        args=cuda_arguments(
            tmp_path,
            fp16=True,
            max_steps=12,
            gradient_accumulation_steps=accumulation,
            max_grad_norm=max_grad_norm,
            **ALWAYS_CAPPED,
        ),
        train_dataset=score_examples(),
    )
    trainer.train()
    taken = len(trainer.probe.steps)
    assert 0 < taken < 12, "the run is meant to skip some steps and to take others"
    trainer.probe.check_euler(taken, FLOAT16)
    last = unwrap_optimizer(trainer.optimizer).last_step
    assert (last.num_steps, last.skipped_steps) == (taken, 0)


@pytest.mark.gpu
@on_cuda
@pytest.mark.parametrize(("optim", "optimizer_class", "lr"), OPTIMIZERS)
def test_cuda_is_the_plain_loop_on_a_cpu(tmp_path: Path, optim: str, optimizer_class: Any, lr: float) -> None:
    trainer = OnCuda(
        model=Classifier(),
        args=cuda_arguments(tmp_path, optim=optim, learning_rate=lr, gradient_accumulation_steps=2),
        train_dataset=class_examples(),
    )
    trainer.train()
    model, batches = Classifier(), micro_batches(class_examples(), 4)
    windows = [batches[at : at + 2] for at in (0, 2, 4, 6)]
    steps = plain_loop(model, optimizer_class(decay_groups(model, 0.0), lr=lr), windows)
    assert [handed.loss for handed in trainer.probe.steps] == pytest.approx([step.loss for step in steps], rel=1e-3)
    for ours, theirs in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-4)
