"""Several trainings on one accelerator: nothing of the earlier ones is kept, or mistaken for the present one."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import find_executable_batch_size
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from trainer.tiny import (
    Classifier,
    LinearLoss,
    Probe,
    arguments,
    class_examples,
    micro_batches,
    plain_loop,
    score_examples,
)

from hf_momo import Momo, MomoTrainer, connect, create_optimizer
from hf_momo.optimizers.registry import unwrap_optimizer
from hf_momo.tap.accelerator import tap_accelerator


class Checkpointed(LinearLoss):
    """Reentrant checkpointing: the graph of the loss does not lead to the parameters."""

    def forward(self, features: Tensor, labels: Tensor | None = None, **kwargs: Any) -> dict[str, Tensor]:
        def loss(features: Tensor) -> Tensor:
            return super(Checkpointed, self).forward(features, labels, **kwargs)["loss"]

        return {"loss": checkpoint(loss, features.requires_grad_(), use_reentrant=True)}


def train(accelerator: Accelerator, *, model: nn.Module | None = None, steps: int = 6) -> Any:
    """One training with everything new; returns weak references to model and optimizer."""
    model = LinearLoss() if model is None else model
    inner = create_optimizer("momo", model, accelerator=accelerator, lr=1e-3, lower_bound=-1e6)
    probe = Probe()
    probe.attach(inner)
    loader = DataLoader(score_examples(), batch_size=4)
    prepared, optimizer, loader = accelerator.prepare(model, inner, loader)
    for batch in loader:
        with accelerator.accumulate(prepared):
            accelerator.backward(prepared(**batch)["loss"])
            optimizer.step()
            optimizer.zero_grad()
    probe.check_euler(steps)
    return ref(model), ref(inner)


@pytest.mark.parametrize("free", ["free_memory", "clear", ""])
@pytest.mark.parametrize("model", [LinearLoss, Checkpointed])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_folds_on_one_accelerator(model: Any, free: str, accumulation: int) -> None:
    """A second fold with gradient checkpointing ended in "2 MoMo optimizers share this accelerator"."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
    for _ in range(3):
        if free:
            getattr(accelerator, free)()
        train(accelerator, model=model(), steps=6 // accumulation)
        assert len(tap_accelerator(accelerator).optimizers) == 1 or not free


@pytest.mark.parametrize("free", ["free_memory", "clear"])
def test_model_and_optimizer_are_collected(free: str) -> None:
    """The tap kept every optimizer it had seen, and so its parameters: 4 of 4 models of a loop of folds."""
    accelerator = Accelerator(cpu=True)
    references = []
    for _ in range(4):
        references += train(accelerator)
        getattr(accelerator, free)()
    gc.collect()
    assert [reference() for reference in references] == [None] * 8
    assert tap_accelerator(accelerator).optimizers == []


def test_an_optimizer_that_is_never_prepared_is_collected() -> None:
    accelerator, weight = Accelerator(cpu=True), nn.Parameter(torch.ones(2))
    reference = ref(create_optimizer("momo", [weight], accelerator=accelerator))
    gc.collect()
    assert reference() is None
    assert tap_accelerator(accelerator).optimizers == []


def test_objects_given_to_free_memory_are_returned_as_accelerate_does() -> None:
    accelerator, model = Accelerator(cpu=True), Classifier()
    create_optimizer("momo", model, accelerator=accelerator)
    assert accelerator.free_memory(model, model) == [None, None]


@pytest.mark.parametrize("frees", [True, False])
def test_find_executable_batch_size(frees: bool) -> None:
    """The loop of accelerate's example; the larger batches run out of memory, with it in the middle of a window."""
    # Without free_memory accelerate counts on where the lost window ended.
    accumulation = 2 if frees else 1
    accelerator, tried = Accelerator(cpu=True, gradient_accumulation_steps=accumulation), []
    model = Checkpointed()

    @find_executable_batch_size(starting_batch_size=7)
    def inner_training_loop(batch_size: int) -> Any:
        if frees:
            accelerator.free_memory()
        tried.append(batch_size)
        inner = create_optimizer("momo", model, accelerator=accelerator, lr=1e-3, lower_bound=-1e6)
        probe = Probe()
        probe.attach(inner)
        loader = DataLoader(score_examples(), batch_size=batch_size)
        prepared, optimizer, loader = accelerator.prepare(model, inner, loader)
        for batch in loader:
            with accelerator.accumulate(prepared):
                accelerator.backward(prepared(**batch)["loss"])
                if batch_size > 4:
                    model.zero_grad()
                    raise RuntimeError("CUDA out of memory.")
                optimizer.step()
                optimizer.zero_grad()
        return probe

    probe: Any = inner_training_loop()
    assert (tried[0], tried[-1]) == (7, 4)
    probe.check_euler(6 // accumulation)


@pytest.mark.parametrize("how", ["prepare", "connect"])
def test_an_optimizer_that_goes_on_after_free_memory(how: str) -> None:
    """Made before the call and used after it, it gets its losses again, and those of no earlier window."""
    accelerator, model = Accelerator(cpu=True), LinearLoss()
    inner: Any = create_optimizer("momo", model, accelerator=accelerator, lr=1e-3, lower_bound=-1e6)
    probe = Probe()
    probe.attach(inner)
    loader = DataLoader(score_examples(), batch_size=4)
    optimizer = accelerator.prepare(inner)
    for batch in loader:
        accelerator.backward(model(**batch)["loss"])
    accelerator.free_memory()
    inner.zero_grad()
    if how == "prepare":
        optimizer = accelerator.prepare(inner)
    else:
        connect(accelerator, inner)
    for batch in loader:
        accelerator.backward(model(**batch)["loss"])
        optimizer.step()
        optimizer.zero_grad()
    probe.check_euler(6)


def test_an_optimizer_that_was_let_go_says_how_to_go_on() -> None:
    accelerator, model = Accelerator(cpu=True), LinearLoss()
    optimizer = create_optimizer("momo", model, accelerator=accelerator)
    accelerator.free_memory()
    accelerator.backward(model(**next(iter(DataLoader(score_examples(), batch_size=4))))["loss"])
    with pytest.raises(ValueError, match=r"loss: got none.*free_memory\(\) has let go.*hf_momo\.connect\(acc"):
        optimizer.step()


def test_the_trainer_trains_twice(tmp_path: Any) -> None:
    """It calls ``free_memory`` when training begins, and keeps its optimizer: 8 steps, as 8 of a plain loop."""
    model, reference = Classifier(), Classifier()
    trainer = MomoTrainer(
        model=model,
        args=arguments(tmp_path, optim="momo", learning_rate=0.5, max_steps=4),
        train_dataset=class_examples(16),
    )
    trainer._get_train_sampler = lambda *args: torch.utils.data.SequentialSampler(trainer.train_dataset)
    trainer.train()
    trainer.train()
    assert unwrap_optimizer(trainer.optimizer).last_step.num_steps == 8
    plain_loop(
        reference,
        Momo(reference.parameters(), lr=0.5),
        [[batch] for batch in 2 * micro_batches(class_examples(16), 4)],
    )
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
