"""The tap in loops of accelerate, in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
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

from hf_momo import Momo, MomoAdam, MomoTrainer, create_optimizer
from hf_momo.optimizers import MomoOptimizer
from hf_momo.tap.accelerator import tap_accelerator


class Loop:
    """An accelerate loop with everything prepared, and a probe behind the tap."""

    def __init__(
        self,
        accumulation: int = 1,
        *,
        model: nn.Module | None = None,
        optimizer_class: Any = Momo,
        examples: int = 24,
        attach_first: bool = True,
        mixed_precision: str | None = None,
        scaler: Any = None,
        **options: Any,
    ) -> None:
        self.accelerator = Accelerator(
            cpu=True, gradient_accumulation_steps=accumulation, mixed_precision=mixed_precision
        )
        if scaler is not None:
            self.accelerator.native_amp, self.accelerator.scaler = True, scaler
        self.tap = tap_accelerator(self.accelerator)
        model = LinearLoss() if model is None else model
        self.inner: MomoOptimizer = optimizer_class(
            model.parameters(), **({"lr": 1e-3, "lower_bound": -1e6} | options)
        )
        self.probe = Probe()
        if attach_first:
            self._attach()
        data = score_examples(examples) if isinstance(model, LinearLoss) else class_examples(examples)
        loader = DataLoader(data, batch_size=4)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, self.inner, loader)
        if not attach_first:
            self._attach()

    def _attach(self) -> None:
        self.tap.attach(self.inner)
        self.probe.attach(self.inner)

    def epoch(self, max_norm: float = 0.0, *, set_to_none: bool = True) -> None:
        for batch in self.loader:
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(self.model(**batch)["loss"])
                if max_norm and self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), max_norm)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=set_to_none)


@pytest.mark.parametrize("attach_first", [True, False])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_loss_is_the_one_whose_gradient_arrives(accumulation: int, attach_first: bool) -> None:
    loop = Loop(accumulation, attach_first=attach_first)
    loop.epoch()
    loop.epoch()
    loop.probe.check_euler(12 // accumulation)


def test_an_uneven_last_window() -> None:
    """Accelerate divides by the accumulation steps there too, gradient and loss alike."""
    loop = Loop(4)
    loop.epoch()
    loop.epoch()
    loop.probe.check_euler(4)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_clipping(accumulation: int) -> None:
    loop = Loop(accumulation)
    loop.epoch(max_norm=0.2)
    loop.probe.check_euler(6 // accumulation)
    assert all(handed.sample_weight < 1.0 for handed in loop.probe.steps)


def test_asking_for_the_norm_does_not_clip() -> None:
    loop = Loop()
    for batch in loop.loader:
        loop.accelerator.backward(loop.model(**batch)["loss"])
        norm = loop.accelerator.clip_grad_norm_(loop.model.parameters(), float("inf"))
        assert norm > 0
        loop.optimizer.step()
        loop.optimizer.zero_grad()
    loop.probe.check_euler(6)
    assert all(handed.sample_weight == 1.0 for handed in loop.probe.steps)


def test_clipping_by_value_is_refused() -> None:
    """No factor describes it: steps became larger without a word."""
    loop = Loop()
    loop.accelerator.backward(loop.model(**next(iter(loop.loader)))["loss"])
    with pytest.raises(NotImplementedError, match=r"clip_grad_value_: .*use accelerator\.clip_grad_norm_"):
        loop.accelerator.clip_grad_value_(loop.model.parameters(), 0.1)


@pytest.mark.parametrize("tapped", [True, False])
def test_clipping_by_value_is_left_to_other_optimizers(tapped: bool) -> None:
    accelerator, weight = Accelerator(cpu=True), nn.Parameter(torch.ones(2))
    if tapped:
        tap_accelerator(accelerator)
    (3.0 * weight).sum().backward()
    accelerator.clip_grad_value_([weight], 0.1)
    torch.testing.assert_close(weight.grad, torch.full((2,), 0.1))


def clip_by_torch(loop: Loop) -> None:
    nn.utils.clip_grad_norm_(loop.model.parameters(), 0.2)


def scale(loop: Loop) -> None:
    for param in loop.model.parameters():
        param.grad *= 0.5


def replace(loop: Loop) -> None:
    for param in loop.model.parameters():
        param.grad = 0.5 * param.grad


CHANGES = {"clip": clip_by_torch, "scale": scale, "replace": replace}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("accumulation", [1, 3])
def test_gradients_changed_past_the_accelerator_are_warned_of(
    change: Any, accumulation: int, caplog: pytest.LogCaptureFixture
) -> None:
    """``torch.nn.utils.clip_grad_norm_`` made steps larger without a word."""
    loop = Loop(accumulation)
    for batch in loop.loader:
        with loop.accelerator.accumulate(loop.model):
            loop.accelerator.backward(loop.model(**batch)["loss"])
            if loop.accelerator.sync_gradients:
                change(loop)
            loop.optimizer.step()
            loop.optimizer.zero_grad()
    (record,) = [each for each in caplog.records if each.name == "hf_momo.tap.loss_tap"]
    assert "gradients were changed between accelerator.backward and step()" in record.message


@pytest.mark.parametrize("accumulation", [1, 6])
@pytest.mark.parametrize("as_number", [True, False])
def test_bound_of_the_batch(accumulation: int, as_number: bool) -> None:
    """The bound is scaled and summed as the loss is: so the share of the two is what it was for each micro-batch."""
    loop = Loop(accumulation)
    seen: list[Any] = []
    loop.inner.register_step_pre_hook(lambda optimizer, args, kwargs: seen.append(kwargs))
    for batch in loop.loader:
        with loop.accelerator.accumulate(loop.model):
            loss = loop.model(**batch)["loss"]
            bound = 0.5 * loss
            loop.accelerator.backward(loss, lower_bound=float(bound.detach()) if as_number else bound)
            loop.optimizer.step()
            loop.optimizer.zero_grad()
    assert len(seen) == 6 // accumulation
    for kwargs in seen:
        torch.testing.assert_close(kwargs["lower_bound"], 0.5 * kwargs["loss"])
        assert not kwargs["lower_bound"].requires_grad
    assert loop.inner.last_step.num_steps == 6 // accumulation


def test_bound_of_some_micro_batches() -> None:
    """The share of a micro-batch in the loss is not known, so neither is that of the optimizer's own bound."""
    loop = Loop(2)
    with pytest.raises(ValueError, match="lower_bound: given for some micro-batches of one optimizer step"):
        for index, batch in enumerate(loop.loader):
            with loop.accelerator.accumulate(loop.model):
                loop.accelerator.backward(loop.model(**batch)["loss"], lower_bound=None if index else -3.0)


def accumulate_by_hand(loop: Loop) -> None:
    for index, batch in enumerate(loop.loader):
        loop.accelerator.backward(loop.model(**batch)["loss"] / 2)
        if index % 2:
            loop.optimizer.step()
            loop.optimizer.zero_grad(set_to_none=False)


UNCHANGED: dict[str, Any] = {
    "plain": lambda loop: loop.epoch(),
    "clipped": lambda loop: loop.epoch(max_norm=0.2),
    "norm": lambda loop: loop.epoch(max_norm=float("inf")),
    "zeroed in place": lambda loop: loop.epoch(set_to_none=False),
    "by hand": accumulate_by_hand,
}


@pytest.mark.parametrize("train", UNCHANGED.values(), ids=UNCHANGED)
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_no_warning_where_nothing_was_changed(
    train: Any, accumulation: int, scaled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0) if scaled else None
    loop = Loop(accumulation, mixed_precision="fp16" if scaled else None, scaler=scaler)
    train(loop)
    train(loop)
    assert not caplog.records


@pytest.mark.parametrize("set_to_none", [True, False])
def test_accumulation_by_hand(set_to_none: bool) -> None:
    """A loop that divides and steps by itself was handed only the loss of its last micro-batch.

    In such a loop every micro-batch looks to accelerate like the end of a window.
    """
    loop = Loop()
    for index, batch in enumerate(loop.loader):
        loop.accelerator.backward(loop.model(**batch)["loss"] / 3)
        if index % 3 == 2:
            loop.optimizer.step()
            loop.optimizer.zero_grad(set_to_none=set_to_none)
    loop.probe.check_euler(2)


def test_two_losses_with_a_backward_each() -> None:
    loop = Loop()
    for batch in loop.loader:
        loop.accelerator.backward(loop.model(**batch)["loss"])
        loop.accelerator.backward(0.1 * loop.model(batch["features"])["logits"].sum())
        loop.optimizer.step()
        loop.optimizer.zero_grad()
    loop.probe.check_euler(6)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_losses_weighted_by_a_gradient(accumulation: int) -> None:
    """``backward(losses, gradient=weights)``: the step was handed the mean of the losses, 11.0 instead of 8.75."""
    loop = Loop(accumulation)
    for batch in loop.loader:
        with loop.accelerator.accumulate(loop.model):
            losses = torch.stack([loop.model(x[None], y[None])["loss"] for x, y in zip(*batch.values(), strict=True)])
            loop.accelerator.backward(losses, gradient=torch.tensor([0.5, 0.0, 0.125, 1.0]))
            loop.optimizer.step()
            loop.optimizer.zero_grad()
    loop.probe.check_euler(6 // accumulation)


def test_a_batch_that_the_loop_abandons() -> None:
    """A user's way to deal with a batch that does not fit into memory: zero the gradients and continue."""
    loop = Loop()
    for index, batch in enumerate(loop.loader):
        loop.accelerator.backward(loop.model(**batch)["loss"])
        if index % 2 == 0:
            loop.optimizer.zero_grad()
            continue
        loop.optimizer.step()
        loop.optimizer.zero_grad()
    loop.probe.check_euler(3)


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("max_norm", [0.0, 0.2])
def test_steps_that_the_scaler_skips(accumulation: int, set_to_none: bool, max_norm: float) -> None:
    """After an overflow the next step was handed the sum of two windows: 1168 instead of 583."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    loop = Loop(accumulation, mixed_precision="fp16", scaler=scaler)
    skipped = 0
    for _ in range(4):
        for batch in loop.loader:
            with loop.accelerator.accumulate(loop.model):
                loop.accelerator.backward(loop.model(**batch)["loss"])
                if max_norm and loop.accelerator.sync_gradients:
                    loop.accelerator.clip_grad_norm_(loop.model.parameters(), max_norm)
                loop.optimizer.step()
                skipped += loop.accelerator.sync_gradients and loop.optimizer.step_was_skipped
                loop.optimizer.zero_grad(set_to_none=set_to_none)
    assert skipped > 1
    loop.probe.check_euler(24 // accumulation - skipped, rel=5e-3)
    assert loop.inner.last_step.skipped_steps == 0


def test_bf16_autocast() -> None:
    loop = Loop(2, mixed_precision="bf16")
    loop.epoch()
    loop.probe.check_euler(3, rel=2e-2)


def test_a_second_step_without_backward_says_what_to_do() -> None:
    loop = Loop()
    loop.inner._optimizer_step_pre_hooks.popitem()  # the probe needs a loss
    batch = next(iter(loop.loader))
    loop.accelerator.backward(loop.model(**batch)["loss"])
    loop.optimizer.step()
    with pytest.raises(ValueError, match=r"loss: got none.*since its last step.*call accelerator\.backward\(loss\)"):
        loop.optimizer.step()


def test_a_backward_past_the_accelerator_says_what_to_call() -> None:
    """The error advised ``create_optimizer(..., accelerator=...)``, which the loop had called."""
    accelerator, model = Accelerator(cpu=True), Classifier()
    optimizer: Any = create_optimizer("momo", model, accelerator=accelerator)
    model, optimizer = accelerator.prepare(model, optimizer)
    model(**micro_batches(class_examples(4), 4)[0])["loss"].backward()
    with pytest.raises(ValueError, match=r"loss: got none.*call accelerator\.backward\(loss\) instead of loss\.back"):
        optimizer.step()


def test_a_trainers_backward_past_the_accelerator_says_what_to_call(tmp_path: Path) -> None:
    """The error advised MomoTrainer to a subclass of it whose ``training_step`` calls ``loss.backward()``."""

    class PlainBackward(MomoTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
            loss: Tensor = self.compute_loss(model, self._prepare_inputs(inputs))
            loss.backward()
            return loss.detach()

    trainer = PlainBackward(model=Classifier(), args=arguments(tmp_path), train_dataset=class_examples())
    with pytest.raises(ValueError, match=r"loss: got none.*training_step self\.accelerator\.backward\(loss\)"):
        trainer.train()


def test_the_loss_of_a_closure_takes_precedence() -> None:
    """Accelerate's own ``step(closure)``: each step gets the loss that the closure returns."""
    loop = Loop(model=LinearLoss())
    loop.inner._optimizer_step_pre_hooks.popitem()
    seen: list[float] = []
    loop.inner.register_step_post_hook(lambda optimizer, args, kwargs: seen.append(optimizer.last_step.loss_avg))
    expected = None
    for batch in loop.loader:

        def closure(batch: dict[str, Tensor] = batch) -> Tensor:
            loop.optimizer.zero_grad()
            loss: Tensor = loop.model(**batch)["loss"]
            loop.accelerator.backward(loss)
            return loss

        with torch.no_grad():
            loss = loop.model(**batch)["loss"].item()
        expected = loss if expected is None else 0.9 * expected + 0.1 * loss
        loop.optimizer.step(closure)
        assert seen[-1] == pytest.approx(expected, rel=1e-5)


def test_tapping_twice_is_tapping_once() -> None:
    loop = Loop()
    assert tap_accelerator(loop.accelerator) is loop.tap
    loop.tap.attach(loop.inner)
    loop.epoch()
    loop.probe.check_euler(6)


def test_other_accelerators_are_left_alone() -> None:
    loop = Loop()
    other = Accelerator(cpu=True)
    assert "backward" not in vars(other)
    weight = nn.Parameter(torch.ones(2))
    other.backward(weight.sum())
    batch = next(iter(loop.loader))
    loop.accelerator.backward(loop.model(**batch)["loss"])
    loop.optimizer.step()
    loop.probe.check_euler(1)


def test_the_wrapped_methods_still_look_like_themselves() -> None:
    loop = Loop()
    assert loop.accelerator.backward.__doc__ == Accelerator.backward.__doc__
    assert loop.accelerator.clip_grad_norm_.__name__ == "clip_grad_norm_"


@pytest.mark.parametrize(("optimizer_class", "lr"), [(Momo, 2.0), (MomoAdam, 0.1)])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_loop_is_a_plain_torch_loop(optimizer_class: Any, lr: float, accumulation: int) -> None:
    loop = Loop(accumulation, model=Classifier(), optimizer_class=optimizer_class, examples=32, lr=lr, lower_bound=0.0)
    loop.epoch(max_norm=1.0)
    model = Classifier()
    batches = micro_batches(class_examples(), 4)
    windows = [batches[at : at + accumulation] for at in range(0, len(batches), accumulation)]
    steps = plain_loop(model, optimizer_class(model.parameters(), lr=lr), windows, max_norm=1.0)
    assert [handed.loss for handed in loop.probe.steps] == pytest.approx([step.loss for step in steps], rel=1e-5)
    for ours, theirs in zip(loop.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_saved_and_loaded_state(tmp_path: Any) -> None:
    """``save_state`` in mid-run, then ``load_state`` into new objects: the rest of the run is the same."""

    def make() -> Loop:
        return Loop(
            model=Classifier(), optimizer_class=MomoAdam, examples=32, lr=0.1, lower_bound=0.0, adapt_lower_bound=True
        )

    unbroken = make()
    unbroken.epoch()
    unbroken.accelerator.save_state(str(tmp_path))
    unbroken.epoch()
    resumed = make()
    resumed.accelerator.load_state(str(tmp_path))
    resumed.epoch()
    assert resumed.probe.steps == unbroken.probe.steps[8:]
    assert resumed.inner.last_step == unbroken.inner.last_step
    for ours, theirs in zip(resumed.model.parameters(), unbroken.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
