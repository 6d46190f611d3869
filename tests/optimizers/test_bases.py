"""Optimizers of other packages in MomoWrapper: they train, resume to the bit and clip rightly; how each decays."""

from __future__ import annotations

import importlib
import io
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from hf_momo import MomoWrapper
from hf_momo.optimizers.bases import settings_in_units_of_a_step, weight_decay_form

# Third-party code warns of what it does with torch; that is not the wrapper's.
pytestmark = pytest.mark.filterwarnings("default")


class Base(NamedTuple):
    """An optimizer from PyPI.

    Attributes:
        package: The module that has it.
        name: The class.
        decay: Whether its weight decay is decoupled; ``None`` where one step does not tell.
        options: Its arguments.
    """

    package: str
    name: str
    decay: bool | None
    options: dict[str, Any] = {}  # noqa: RUF012 (read only)


BASES = {
    f"{base.package}.{base.name}": base
    for base in (
        Base("pytorch_optimizer", "AdaBelief", True),
        Base("pytorch_optimizer", "Adan", None),
        Base("pytorch_optimizer", "CAME", True),
        Base("pytorch_optimizer", "DiffGrad", True),
        Base("pytorch_optimizer", "Lamb", True),
        Base("pytorch_optimizer", "Lion", True),
        Base("pytorch_optimizer", "QHAdam", False),
        Base("pytorch_optimizer", "StableAdamW", True),
        Base("pytorch_optimizer", "SGDW", True),
        Base("pytorch_optimizer", "Tiger", True),
        Base("adabelief_pytorch", "AdaBelief", True, {"print_change_log": False}),
        Base("bitsandbytes.optim", "AdamW8bit", True),
        Base("bitsandbytes.optim", "Lion", True),
        Base("bitsandbytes.optim", "RMSprop", False),
        Base("dadaptation", "DAdaptAdam", None, {"lr": 1.0}),
        Base("galore_torch", "GaLoreAdamW", True),
        Base("grokadamw", "GrokAdamW", True),
        Base("lion_pytorch", "Lion", True),
        Base("optimi", "StableAdamW", True, {"triton": False}),
        Base("prodigyopt", "Prodigy", None, {"lr": 1.0}),
        Base("torchao.optim", "AdamW8bit", True),
        Base("transformers", "Adafactor", True, {"relative_step": False, "scale_parameter": False}),
    )
}
by_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())


def make(base: Base, params: Any, **options: Any) -> torch.optim.Optimizer:
    try:
        module = importlib.import_module(base.package)
    except ImportError as error:
        pytest.skip(f"{base.package} is not installed ({error})")
    optimizer: torch.optim.Optimizer = getattr(module, base.name)(params, **{"lr": 1e-2} | base.options | options)
    return optimizer


class Net(nn.Module):
    """Large enough for the blocks of 8-bit states (4096 elements and more)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(64, 96), nn.Linear(96, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(inputs)))


def train(model: Net, optimizer: Any, first: int, steps: int, factor: float = 1.0) -> list[float]:
    losses = []
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(32, 64, generator=generator)
        optimizer.zero_grad()
        loss = (model(inputs) - inputs[:, :8]).square().mean()
        loss.backward()
        for param in model.parameters():
            param.grad.mul_(factor)
        if isinstance(optimizer, MomoWrapper):
            optimizer.step(loss=loss.detach(), sample_weight=factor)
        else:
            optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def wrapped(base: Base, **options: Any) -> tuple[Net, MomoWrapper]:
    model = Net()
    return model, MomoWrapper(make(base, model.parameters()), **options)


@by_base
def test_trains(base: Base) -> None:
    """Steps below the cap: the bound is one that the loss comes near."""
    model, optimizer = wrapped(base, lower_bound=0.3)
    losses = train(model, optimizer, 0, 60)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert optimizer.last_step.num_steps == 60


@by_base
def test_capped_is_the_base_to_the_bit(base: Base) -> None:
    model, optimizer = wrapped(base, lower_bound=-1e12)
    train(model, optimizer, 0, 8)
    plain = Net()
    train(plain, make(base, plain.parameters()), 0, 8)
    assert optimizer.last_step.capped_steps == 8
    for param, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(param, expected)


def through_a_file(state_dict: dict[str, Any]) -> Any:
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def resumes_by_itself(base: Base) -> bool:
    models = Net(), Net()
    one, other = (make(base, model.parameters()) for model in models)
    train(models[0], one, 0, 5)
    models[1].load_state_dict(models[0].state_dict())
    other.load_state_dict(through_a_file(one.state_dict()))
    train(models[0], one, 5, 5)
    train(models[1], other, 5, 5)
    return all(torch.equal(*pair) for pair in zip(models[0].parameters(), models[1].parameters(), strict=True))


@by_base
def test_resumes_to_the_bit(base: Base) -> None:
    if not resumes_by_itself(base):
        pytest.skip(f"{base.package}.{base.name} does not resume to the bit by itself")
    model, optimizer = wrapped(base, lower_bound=0.5)
    train(model, optimizer, 0, 5)
    other, resumed = wrapped(base, lower_bound=0.5)
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    train(model, optimizer, 5, 5)
    train(other, resumed, 5, 5)
    assert resumed.last_step == optimizer.last_step
    for param, expected in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(param, expected)


@by_base
def test_clips_rightly(base: Base) -> None:
    """A gradient clipped by c, told as a sample of weight c, steps no further than one that was not clipped.

    Told without it, the loss seems too large for its gradient, and the step grows like 1 / c.
    """
    steps = {}
    for name, told in (("told", 0.25), ("not told", 1.0)):
        model, optimizer = wrapped(base, lower_bound=0.9)
        inputs = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
        loss = (model(inputs) - inputs[:, :8]).square().mean()
        loss.backward()
        for param in model.parameters():
            param.grad.mul_(0.25)
        optimizer.step(loss=loss.detach(), sample_weight=told)
        steps[name] = optimizer.entries[0]
    # One step: h - bound is c * (loss - bound) in the first, and loss - bound in the other; the slope is one.
    told, not_told = (steps[name] for name in ("told", "not told"))
    assert float(told["weight_avg"]) == pytest.approx(0.25 * float(not_told["weight_avg"]))
    assert float(told["loss_avg"]) == pytest.approx(0.25 * float(not_told["loss_avg"]))
    assert 0.0 < float(told["step_scale"]) <= float(not_told["step_scale"])
    if float(not_told["step_scale"]) < 1.0:
        assert float(told["step_scale"]) == pytest.approx(0.25 * float(not_told["step_scale"]), rel=1e-4)


@by_base
def test_the_form_of_the_decay_is_what_its_step_does(base: Base) -> None:
    """The difference that a weight decay makes to one step, against ``-lr * weight_decay * x``."""
    if base.decay is None:
        pytest.skip("one step does not tell: the decay is implicit, or its rate found during the step")
    ends = []
    start = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    for decay in (0.0, 0.5):
        param = nn.Parameter(start.clone())
        optimizer = make(base, [param], weight_decay=decay)
        param.grad = torch.randn(64, 128, generator=torch.Generator().manual_seed(1))
        form = weight_decay_form(optimizer, optimizer.param_groups[0])
        settings = settings_in_units_of_a_step(optimizer.param_groups[0], form)
        optimizer.step()
        ends.append(param.detach())
    assert (form != "coupled") is base.decay
    if base.decay:
        torch.testing.assert_close(ends[0] - ends[1], settings.weight_decay * start, rtol=0.03, atol=2e-4)
