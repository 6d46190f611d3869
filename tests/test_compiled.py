"""Compiled models in loops of accelerate: which optimizer a loss belongs to shows in the compiled graph too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.utils.data import DataLoader
from trainer.tiny import Classifier, class_examples, micro_batches, plain_loop

from hf_momo import MomoAdam, create_optimizer


@pytest.fixture(autouse=True)
def _fresh_graphs() -> None:
    """Forget the graphs of earlier tests."""
    torch._dynamo.reset()


def handed_and_products(optimizers: list[Any]) -> list[list[tuple[float, float]]]:
    """The losses that the steps of each optimizer are given, beside ``<gradient, weights>``: one growing list each."""
    seen: list[list[tuple[float, float]]] = [[] for _ in optimizers]

    def look(which: int, optimizer: Any, kwargs: dict[str, Any]) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        seen[which].append((float(kwargs["loss"]), sum(float((p.detach() * p.grad).sum()) for p in params)))

    for which, optimizer in enumerate(optimizers):
        optimizer.register_step_pre_hook(lambda opt, args, kwargs, which=which: look(which, opt, kwargs))
    return seen


# torch's own compiler looks at the .grad of its inputs, here at that of what the generator made.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("compiled_by", ["user", "accelerate"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_two_optimizers_on_compiled_models(backend: str, compiled_by: str) -> None:
    """A GAN loop whose losses are linear in the weights of their own model."""
    by_accelerate = compiled_by == "accelerate"
    accelerator = Accelerator(cpu=True, dynamo_backend=backend if by_accelerate else None)
    models: list[Any] = [nn.Linear(3, 4, bias=False), nn.Linear(4, 1, bias=False)]
    optimizers = [
        create_optimizer(name, model, accelerator=accelerator, lr=1e-3, lower_bound=-1e6)
        for name, model in zip(("momo", "momo_adam"), models, strict=True)
    ]
    seen = handed_and_products(optimizers)
    if not by_accelerate:
        models = [torch.compile(model, backend=backend) for model in models]
    generator, critic, of_generator, of_critic = accelerator.prepare(*models, *optimizers)
    assert all(hasattr(model, "_orig_mod") for model in (generator, critic))

    def critic_loss() -> Tensor:
        with torch.no_grad():
            fake = generator(torch.randn(5, 3))
        return (critic(fake) - critic(torch.randn(5, 4))).mean()

    for _ in range(3):
        of_critic.zero_grad()
        accelerator.backward(critic_loss())
        of_critic.step()
        of_generator.zero_grad()
        accelerator.backward(-critic(generator(torch.randn(5, 3))).mean())
        of_generator.step()
    assert [len(steps) for steps in seen] == [3, 3]
    for steps in seen:
        for loss, product in steps:
            assert loss == pytest.approx(product, rel=1e-5, abs=1e-7)


def test_the_loss_compiled_with_the_model() -> None:
    """One graph from the inputs to the loss: its only leaves are the parameters of both models."""
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    first, second = nn.Linear(3, 4, bias=False), nn.Linear(3, 4, bias=False)
    optimizers = [create_optimizer("momo", model, accelerator=accelerator) for model in (first, second)]
    inputs = torch.randn(5, 3)

    @torch.compile(backend="aot_eager")
    def loss_of(which: int) -> Tensor:
        model = first if which == 0 else second
        return model(inputs).square().mean()

    @torch.compile(backend="aot_eager")
    def joint() -> Tensor:
        return (first(inputs) - second(inputs)).square().mean()

    tap = accelerator._hf_momo_tap
    assert [tap.reached_by(loss_of(which)) for which in (0, 1)] == [[optimizers[0]], [optimizers[1]]]
    assert tap.reached_by(joint()) == optimizers


def test_a_compiled_model_is_the_plain_loop() -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, reference = Classifier(), Classifier()
    optimizer: Any = create_optimizer("momo_adam", model, accelerator=accelerator, lr=0.1)
    inner = optimizer
    model, optimizer, loader = accelerator.prepare(
        torch.compile(model, backend="aot_eager"), optimizer, DataLoader(class_examples(), batch_size=4)
    )
    for batch in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(**batch)["loss"])
            optimizer.step()
            optimizer.zero_grad()
    batches = micro_batches(class_examples(), 4)
    expected = MomoAdam(reference.parameters(), lr=0.1)
    plain_loop(reference, expected, [batches[at : at + 2] for at in (0, 2, 4, 6)])
    assert inner.last_step.loss_avg == pytest.approx(expected.last_step.loss_avg, rel=1e-6)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


# torch's own, of modules that its compiler loads when it looks into AdamW.
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:Profiler record function:UserWarning")
@pytest.mark.parametrize("options", [{"kernel": "eager"}, {"kernel": "compiled"}], ids=["eager", "compiled"])
def test_breaks_in_a_compiled_training_step(options: dict[str, str]) -> None:
    """Forward, backward and step in one compiled function: no more graphs and breaks than with torch's fused AdamW."""
    counted = [
        _graphs_and_breaks(make, give_loss=give_loss)
        for make, give_loss in [
            (lambda params: torch.optim.AdamW(params, lr=1e-2, fused=True), False),
            (lambda params: MomoAdam(params, lr=1e-2, **options), True),
        ]
    ]
    (graphs_of_adamw, breaks_of_adamw), (graphs, breaks) = counted
    assert 0 < graphs <= graphs_of_adamw
    assert breaks <= breaks_of_adamw


def _graphs_and_breaks(make: Any, *, give_loss: bool) -> tuple[int, int]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = nn.Linear(4, 4)
    optimizer = make(model.parameters())
    counter = CompileCounter()

    @torch.compile(backend=counter)
    def train_step(inputs: Tensor) -> Tensor:
        loss: Tensor = model(inputs).square().mean()
        loss.backward()
        optimizer.step(**({"loss": loss} if give_loss else {}))
        optimizer.zero_grad()
        return loss

    losses = [float(train_step(torch.ones(2, 4)).detach()) for _ in range(5)]
    assert losses[-1] < losses[0]
    return counter.frame_count, sum(torch._dynamo.utils.counters["graph_break"].values())
