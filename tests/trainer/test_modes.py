"""Further modes of the Trainer: out-of-memory retries, compiled and replicated models, schedules of the user.

``test_euler.py`` and ``test_window.py`` test accumulation, clipping and skipped steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trainer.tiny import (
    ALWAYS_CAPPED,
    Classifier,
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


def check_same_weights(model: nn.Module, reference: nn.Module) -> None:
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


class BreakInBackward(torch.autograd.Function):
    """Identity function whose backward pass fails."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB.")


class StarvedInBackward(Classifier):
    """Model whose memory runs out in the backward pass of one call, after the output layer got its gradients."""

    def __init__(self, at_call: int) -> None:
        super().__init__()
        self.calls, self.at_call = 0, at_call

    def forward(self, features: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls != self.at_call:
            return super().forward(features, labels)
        hidden = BreakInBackward.apply(torch.tanh(self.hidden(features)))
        logits = self.output(hidden)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@pytest.mark.parametrize("at_call", [1, 2, 4, 6, 9])
def test_memory_that_ran_out_in_the_backward_pass(tmp_path: Path, at_call: int) -> None:
    """The loss was recorded and part of the gradients were computed, but the step never came.

    The Trainer starts again with a smaller batch, and with the optimizer and the weights as they were.
    """
    model = StarvedInBackward(at_call)
    trainer = ProbedTrainer(
        model=model,
        args=arguments(
            tmp_path, auto_find_batch_size=True, gradient_accumulation_steps=3, max_steps=5, learning_rate=0.1
        ),
        train_dataset=class_examples(),
    )
    trainer.train()
    assert model.calls == at_call + 14
    assert trainer.state.global_step == 5

    # 32 examples in batches of 4 make windows of 3, 3 and 2 batches; in batches of 3, windows of 3, 3, 3 and 2.
    fours, threes = (micro_batches(class_examples(), size) for size in (4, 3))
    before = [fours[0:3], fours[3:6], fours[6:8]][: (at_call - 1) // 3 + (at_call == 9)]
    after = [threes[0:3], threes[3:6], threes[6:9], threes[9:11], threes[0:3]]
    reference = Classifier()
    steps = plain_loop(reference, MomoAdam(decay_groups(reference, 0.0), lr=0.1), before + after)
    assert [handed.loss for handed in trainer.probe.steps] == pytest.approx([step.loss for step in steps], rel=1e-5)
    # The Trainer clears its history.
    logs, logged = training_logs(trainer), steps[len(before) :]
    assert [entry["step_size"] for entry in logs] == pytest.approx([step.step_size for step in logged], rel=1e-5)
    assert {entry["step_capped"] for entry in logs} <= {0.0, 1.0}, "a log counts the steps since the last one"
    check_same_weights(model, reference)
    assert trainer.optimizer.optimizer.last_step.num_steps == len(before) + 5


def test_compiled_is_the_plain_loop(tmp_path: Path) -> None:
    """The graphs of autograd are compiled too."""
    trainer = ProbedTrainer(
        model=Classifier(),
        args=arguments(
            tmp_path,
            torch_compile=True,
            torch_compile_backend="aot_eager",
            gradient_accumulation_steps=2,
            learning_rate=0.1,
            weight_decay=0.1,
        ),
        train_dataset=class_examples(),
    )
    trainer.train()
    assert hasattr(trainer.model_wrapped, "_orig_mod")
    reference = Classifier()
    batches = micro_batches(class_examples(), 4)
    windows = [batches[at : at + 2] for at in (0, 2, 4, 6)]
    steps = plain_loop(reference, MomoAdam(decay_groups(reference, 0.1), lr=0.1), windows)
    assert [handed.loss for handed in trainer.probe.steps] == pytest.approx([step.loss for step in steps], rel=1e-5)
    check_same_weights(trainer.model, reference)


class ByReplica(LinearLoss):
    """Outputs like DataParallel's: each of two replicas has its share of the batch and its own loss."""

    replica_class: type[nn.Module] = LinearLoss

    def forward(self, features: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return self.gathered(features=features, labels=labels)

    def gathered(self, **inputs: Tensor) -> dict[str, Tensor]:
        shares = zip(*(value.chunk(2) for value in inputs.values()), strict=True)
        outputs = [
            self.replica_class.forward(self, **dict(zip(inputs, share, strict=True)))  # type: ignore[arg-type]
            for share in shares
        ]
        return {
            "loss": torch.cat([output["loss"].reshape(1, -1) for output in outputs]).squeeze(-1),
            "logits": torch.cat([output["logits"] for output in outputs]),
        }


class ByReplicaOverWindow(ByReplica):
    """The same outputs, with the number of items once per replica."""

    replica_class = LinearLossOverWindow

    def forward(self, features: Tensor, labels: Tensor | None = None, **kwargs: Any) -> dict[str, Tensor]:
        return self.gathered(features=features, labels=labels, **kwargs)


@pytest.mark.parametrize("averaging", [True, False])
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("model_class", [ByReplica, ByReplicaOverWindow])
def test_one_loss_a_replica(tmp_path: Path, model_class: type[ByReplica], accumulation: int, averaging: bool) -> None:
    """The Trainer has its own path for several GPUs in one process. On a CPU, DataParallel calls the wrapped model."""
    args = arguments(
        tmp_path,
        gradient_accumulation_steps=accumulation,
        per_device_train_batch_size=2,
        average_tokens_across_devices=averaging,
        **ALWAYS_CAPPED,
    )
    args._n_gpu = 2
    trainer = ProbedTrainer(model=model_class(), args=args, train_dataset=score_examples())
    trainer.train()
    assert isinstance(trainer.model_wrapped, nn.DataParallel)
    trainer.probe.check_euler(4)
    window = score_examples().examples[: 4 * accumulation]
    if model_class is ByReplica:
        expected = torch.stack([LinearLoss()(**half)["loss"] for half in micro_batches(Examples(window), 2)]).mean()
    elif averaging:
        expected = LinearLoss()(**micro_batches(Examples(window), len(window))[0])["loss"]
    else:
        return  # The Trainer rounds half of an odd number of items down.
    assert trainer.probe.steps[0].loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices in one process")
@pytest.mark.parametrize("averaging", [True, False])
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("model_class", [LinearLoss, LinearLossOverWindow])
def test_data_parallel(tmp_path: Path, model_class: type[nn.Module], accumulation: int, averaging: bool) -> None:
    trainer = ProbedTrainer(
        model=model_class(),
        args=arguments(
            tmp_path,
            use_cpu=False,
            gradient_accumulation_steps=accumulation,
            average_tokens_across_devices=averaging,
            **ALWAYS_CAPPED,
        ),
        train_dataset=score_examples(96),
    )
    trainer.train()
    assert trainer.args.n_gpu == torch.cuda.device_count()
    assert isinstance(trainer.model_wrapped, nn.DataParallel)
    trainer.probe.check_euler(4)


def test_a_scheduler_of_the_user(tmp_path: Path) -> None:
    """A scheduler in ``optimizers=(optimizer, scheduler)`` moves the cap."""
    model, reference = Classifier(), Classifier()
    optimizer = Momo(model.parameters(), lr=2.0)
    caps = [0.02, 4.0, 0.01, 0.5]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: caps[min(step, 3)] / 2.0)
    trainer = ProbedTrainer(
        model=model,
        args=arguments(tmp_path, optim="adamw_torch", gradient_accumulation_steps=2),
        train_dataset=class_examples(),
        optimizers=(optimizer, scheduler),
    )
    trainer.train()
    assert trainer.lr_scheduler is scheduler
    batches = micro_batches(class_examples(), 4)
    steps = plain_loop(
        reference,
        Momo(reference.parameters(), lr=2.0),
        [batches[at : at + 2] for at in (0, 2, 4, 6)],
        lr_of=lambda index: caps[index],
    )
    logs = training_logs(trainer)
    assert [entry["step_size"] for entry in logs] == pytest.approx([step.step_size for step in steps], rel=1e-5)
    assert [entry["step_capped"] for entry in logs] == [1.0, 0.0, 1.0, 0.0]
    check_same_weights(model, reference)
