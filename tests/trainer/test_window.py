"""A window without a step leaves nothing to the next one: overflows in mixed precision, out-of-memory retries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trainer.tiny import ALWAYS_CAPPED, LinearLoss, LinearLossOverWindow, ProbedTrainer, arguments, score_examples


class ScaledTrainer(ProbedTrainer):
    """Trainer with float16 autocast and a real GradScaler, which accelerate does not use on a CPU."""

    init_scale = 2.0**10

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        self.accelerator.native_amp = True
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=self.init_scale)


class OverflowingTrainer(ScaledTrainer):
    """Trainer whose first scales overflow float16, so the scaler skips steps and halves the scale."""

    init_scale = 2.0**24


# Precision of float16 autocast, relative to the loss.
HALF_PRECISION = 5e-3


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("max_grad_norm", [0.0, 0.2])
def test_under_a_scaler(tmp_path: Path, accumulation: int, max_grad_norm: float) -> None:
    trainer = ScaledTrainer(
        model=LinearLoss(),
        args=arguments(
            tmp_path,
            fp16=True,
            gradient_accumulation_steps=accumulation,
            max_grad_norm=max_grad_norm,
            **ALWAYS_CAPPED,
        ),
        train_dataset=score_examples(),
    )
    trainer.train()
    trainer.probe.check_euler(4, HALF_PRECISION)
    assert all((handed.sample_weight < 1.0) is (max_grad_norm > 0.0) for handed in trainer.probe.steps)


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("max_grad_norm", [0.0, 0.2])
@pytest.mark.parametrize("in_place", [False, True])
def test_steps_that_the_scaler_skips(
    tmp_path: Path, accumulation: int, max_grad_norm: float, in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an overflow the next step was handed the sum of two windows: 1168 instead of 583."""
    if in_place:
        monkeypatch.setattr(nn.Module, "zero_grad", zero_grad_in_place)
    trainer = OverflowingTrainer(
        model=LinearLoss(),
        args=arguments(
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
    trainer.probe.check_euler(taken, HALF_PRECISION)
    assert trainer.optimizer.optimizer.last_step.num_steps == taken
    assert trainer.optimizer.optimizer.last_step.skipped_steps == 0, "the scaler's skips are not the optimizer's"


def zero_grad_in_place(self: nn.Module, set_to_none: bool = True) -> None:
    for param in self.parameters():
        if param.grad is not None:
            param.grad.zero_()


def running_out_of_memory(model_class: type[nn.Module], at_call: int) -> type[nn.Module]:
    """Return a class of models whose forward fails once, as if memory had run out."""

    class Starved(model_class):  # type: ignore[misc,valid-type]
        calls = 0

        def forward(self, features: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            type(self).calls += 1
            if type(self).calls == at_call:
                raise RuntimeError("CUDA out of memory.")
            return super().forward(features, labels)

    return Starved


@pytest.mark.parametrize("at_call", [2, 3, 5])
@pytest.mark.parametrize("model_class", [LinearLoss, LinearLossOverWindow])
def test_a_batch_that_did_not_fit_into_memory(tmp_path: Path, model_class: type[nn.Module], at_call: int) -> None:
    """``auto_find_batch_size`` starts again within a window, and the step was handed 7.47 instead of 6.06."""
    starved = running_out_of_memory(model_class, at_call)
    trainer = ProbedTrainer(
        model=starved(),
        args=arguments(tmp_path, auto_find_batch_size=True, gradient_accumulation_steps=3, **ALWAYS_CAPPED),
        train_dataset=score_examples(),
    )
    trainer.train()
    assert starved.calls > 12
    trainer.probe.check_euler(4 + (at_call - 1) // 3)


def test_a_training_that_failed_within_a_window(tmp_path: Path) -> None:
    """The next ``train()`` of the same trainer begins with an empty window."""

    class Interrupted(Exception):
        pass

    class Trainer(ProbedTrainer):
        steps_left = 5

        def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
            if self.steps_left == 0:
                raise Interrupted
            self.steps_left -= 1
            return super().training_step(*args, **kwargs)

    trainer = Trainer(
        model=LinearLoss(),
        args=arguments(tmp_path, gradient_accumulation_steps=3, **ALWAYS_CAPPED),
        train_dataset=score_examples(),
    )
    with pytest.raises(Interrupted):
        trainer.train()
    trainer.steps_left = 100
    trainer.train()
    trainer.probe.check_euler(1 + 4)
