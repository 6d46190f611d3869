"""The tap without an accelerator: a ``step()`` without a loss is handed what was recorded in its window."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hf_momo import LossTap, Momo, MomoAdam


class Loop:
    """A loop around a bare ``step()``. The loss is linear in the weights, so it equals ``<gradient, weights>``."""

    def __init__(self, optimizer_class: Any = Momo) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(6, generator=generator))
        self.other = nn.Parameter(torch.randn(2, 3, generator=generator))
        self.optimizer = optimizer_class([self.weight, self.other], lr=1e-3, lower_bound=-1e6)
        self.tap = LossTap()
        self.tap.attach(self.optimizer)
        self.handed: list[dict[str, float]] = []
        self.optimizer.register_step_pre_hook(self._look)
        self.generator = generator

    def _look(self, optimizer: Any, args: Any, kwargs: dict[str, Any]) -> None:
        product = sum((p.grad * p).sum().item() for p in (self.weight, self.other) if p.grad is not None)
        self.handed.append({key: float(value) for key, value in kwargs.items()} | {"grad_dot_param": product})

    def backward(self, *, ends_window: bool, scale: float = 1.0, **options: Any) -> Tensor:
        x = torch.randn(6, generator=self.generator) + 1.0
        loss = scale * (x @ self.weight + (self.other * x.view(2, 3)).sum())
        self.tap.record(loss.detach(), ends_window=ends_window, **options)
        loss.backward()
        return loss.detach()

    def check(self, steps: int) -> None:
        assert len(self.handed) == steps
        for handed in self.handed:
            scaled = handed["loss"] * handed["sample_weight"]
            assert scaled == pytest.approx(handed["grad_dot_param"], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("optimizer_class", [Momo, MomoAdam])
def test_a_window_of_one(optimizer_class: Any) -> None:
    loop = Loop(optimizer_class)
    for _ in range(3):
        loop.backward(ends_window=True)
        loop.optimizer.step()
        loop.optimizer.zero_grad()
    loop.check(3)


def test_a_window_of_several_sums() -> None:
    loop = Loop()
    for size in (3, 1, 2):
        losses = [loop.backward(ends_window=at == size - 1, scale=1 / size) for at in range(size)]
        loop.optimizer.step()
        loop.optimizer.zero_grad()
        assert loop.handed[-1]["loss"] == pytest.approx(sum(float(loss) for loss in losses))
    loop.check(3)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_step_that_never_came(set_to_none: bool) -> None:
    """The window after a skipped step holds only its own losses."""
    loop = Loop()
    for skipped in (True, True, False, True, False):
        for at in range(2):
            loop.backward(ends_window=at == 1, step_was_skipped=not set_to_none)
        if not skipped:
            loop.optimizer.step()
        loop.optimizer.zero_grad(set_to_none=set_to_none)
    loop.check(2)


@pytest.mark.parametrize("step_was_skipped", [True, False])
def test_gradients_that_still_stand_keep_their_losses(step_was_skipped: bool) -> None:
    """A loop that accumulates by hand was handed only the loss of its last backward."""
    loop = Loop()
    for _ in range(2):
        for _ in range(3):
            loop.backward(ends_window=True, scale=1 / 3, step_was_skipped=step_was_skipped)
        loop.optimizer.step()
        loop.optimizer.zero_grad()
    loop.check(2)


def test_two_losses_of_one_step() -> None:
    loop = Loop()
    loop.backward(ends_window=True)
    loop.backward(ends_window=True, scale=0.5)
    loop.optimizer.step()
    loop.check(1)


def test_a_second_step_without_backward_says_what_to_do() -> None:
    loop = Loop()
    loop.backward(ends_window=True)
    loop.optimizer.step()
    before = [param.detach().clone() for param in (loop.weight, loop.other)]
    bare, tap = Momo([nn.Parameter(torch.ones(2))]), LossTap()
    tap.attach(bare)
    with pytest.raises(ValueError, match=r"loss: got none, .*call tap\.record\(loss\.detach\(\), ends_window=True\)"):
        bare.step()
    with pytest.raises(ValueError, match=r"loss: got none.*optimizer\.step\(loss=loss\).*hf_momo\.MomoTrainer"):
        Momo([nn.Parameter(torch.ones(2))]).step()
    loop.handed.clear()
    loop.optimizer._optimizer_step_pre_hooks.popitem()  # the loop's own hook, which needs a loss
    with pytest.raises(ValueError, match="loss: got none"):
        loop.optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(before, (loop.weight, loop.other), strict=True))


@pytest.mark.parametrize("how", ["keyword", "closure"])
def test_a_loss_of_the_user_takes_precedence(how: str) -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer, tap = Momo([weight]), LossTap()
    tap.attach(optimizer)
    tap.record(torch.tensor(100.0), ends_window=True)
    loss = weight.square().sum()
    loss.backward()
    if how == "keyword":
        optimizer.step(loss=loss)
    else:
        optimizer.step(lambda: loss)
    assert float(optimizer.last_step.loss_avg) == 2.0


def test_a_loss_of_the_user_discards_the_recorded_one() -> None:
    """What was recorded for a step that got its own loss does not count for the next one."""
    loop = Loop()
    loop.backward(ends_window=True)
    loop.optimizer.step(loss=1.0, sample_weight=1.0)
    loop.optimizer.zero_grad(set_to_none=False)
    loop.backward(ends_window=True)
    loop.optimizer.step()
    assert loop.handed[0]["loss"] == 1.0
    loop.handed.pop(0)
    loop.check(1)


def test_attaching_twice_changes_nothing() -> None:
    loop = Loop()
    first = loop.tap.attach(loop.optimizer)
    assert loop.tap.attach(loop.optimizer) is first
    loop.backward(ends_window=True)
    loop.optimizer.step()
    loop.check(1)
    assert len(loop.optimizer._optimizer_step_pre_hooks) == 2  # the tap's and the loop's own


def test_detaching() -> None:
    loop = Loop()
    loop.tap.detach()
    loop.optimizer._optimizer_step_pre_hooks.clear()
    loop.backward(ends_window=True)
    with pytest.raises(ValueError, match="loss: got none"):
        loop.optimizer.step()
    loop.tap.attach(loop.optimizer)
    with pytest.raises(ValueError, match="loss: got none"):
        loop.optimizer.step()  # losses from the time without the tap are not recovered
    loop.backward(ends_window=True)
    loop.optimizer.step()
    assert loop.optimizer.last_step.num_steps == 1


def test_a_handle_detaches_one_optimizer() -> None:
    loop, tap = Loop(), LossTap()
    other = Momo([nn.Parameter(torch.ones(2))])
    tap.attach(other).remove()
    tap.record(torch.tensor(1.0), ends_window=True)
    with pytest.raises(ValueError, match="loss: got none"):
        other.step()
    assert not tap.optimizers
    tap.attach(other)
    tap.record(torch.tensor(1.0), ends_window=True)
    other.step()  # attaching anew was of no effect
    loop.backward(ends_window=True)
    loop.optimizer.step()
    loop.check(1)


def test_the_last_tap_counts() -> None:
    """An optimizer that goes from one accelerator to the next: the first one's tap knows no loss of it any more."""
    loop, second = Loop(), LossTap()
    loop.optimizer._optimizer_step_pre_hooks.popitem()  # the loop's own hook
    second.attach(loop.optimizer)
    assert (loop.tap.optimizers, second.optimizers) == ([], [loop.optimizer])
    second.record(torch.tensor(3.0), ends_window=True)
    loop.optimizer.step()
    assert float(loop.optimizer.last_step.loss_avg) == 3.0
    loop.tap.attach(loop.optimizer)
    assert (loop.tap.optimizers, second.optimizers) == ([loop.optimizer], [])


@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_clipping(max_norm: float) -> None:
    loop = Loop()
    for _ in range(2):
        loop.backward(ends_window=False)
        loop.backward(ends_window=True)
        norm = nn.utils.clip_grad_norm_([loop.weight, loop.other], max_norm)
        loop.tap.record_clipping(norm, max_norm)
        loop.optimizer.step()
        loop.optimizer.zero_grad()
    loop.check(2)
    assert [handed["sample_weight"] < 1.0 for handed in loop.handed] == [max_norm < 1.0] * 2


def test_clipping_twice_multiplies() -> None:
    loop = Loop()
    loop.backward(ends_window=True)
    for max_norm in (1.0, 0.25):
        norm = nn.utils.clip_grad_norm_([loop.weight, loop.other], max_norm)
        loop.tap.record_clipping(norm, max_norm)
    loop.optimizer.step()
    loop.check(1)


def test_clipping_of_a_step_that_never_came_is_forgotten() -> None:
    loop = Loop()
    loop.backward(ends_window=True)
    loop.tap.record_clipping(torch.tensor(10.0), 1.0)
    loop.optimizer.zero_grad()
    loop.backward(ends_window=True)
    loop.optimizer.step()
    loop.check(1)
    assert loop.handed[0]["sample_weight"] == 1.0


def test_opening_a_window_forgets() -> None:
    loop = Loop()
    loop.backward(ends_window=False)
    loop.tap.record_clipping(torch.tensor(10.0), 1.0)
    loop.tap.open_window()
    loop.optimizer.zero_grad()
    loop.backward(ends_window=True)
    loop.optimizer.step()
    loop.check(1)


def test_a_copy_of_the_optimizer_has_no_tap() -> None:
    """Copies have no hooks: a copied optimizer asks for its loss instead of taking another's."""
    loop = Loop()
    loop.backward(ends_window=True)
    for twin in (copy.deepcopy(loop.optimizer), pickle.loads(pickle.dumps(loop.optimizer))):
        with pytest.raises(ValueError, match="loss: got none"):
            twin.step()
    loop.optimizer.step()
    loop.check(1)


def test_distributed_checkpoints_bare_step_takes_no_loss() -> None:
    """Torch's distributed checkpoint calls ``step()`` at lr 0 to have the state made."""
    loop = Loop()
    loop.optimizer._optimizer_step_pre_hooks.popitem()
    for group in loop.optimizer.param_groups:
        group["lr"] = 0.0
    for param in (loop.weight, loop.other):
        param.grad = torch.zeros_like(param)
    loop.optimizer.step(closure=None)
    assert loop.optimizer.last_step.num_steps == 0
    assert len(loop.optimizer.state) == 2
