"""``create_optimizer(..., accelerator=...)`` in accelerate loops, and several optimizers on one accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from invariants.launching import needs_cpu_events
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from trainer.tiny import Classifier, class_examples, micro_batches, plain_loop

from hf_momo import Momo, MomoAdam, connect, create_optimizer


def train(accelerator: Accelerator, model: Any, optimizer: Any, loader: Any) -> list[float]:
    """The loop of accelerate's examples, word for word; returns the optimizer's running averages of the loss."""
    averages = []
    for batch in loader:
        with accelerator.accumulate(model):
            loss = model(**batch)["loss"]
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            averages.append(float(optimizer.param_groups[0]["loss_avg"]))
    return averages


@pytest.mark.parametrize("after", [False, True], ids=["before-prepare", "after-prepare"])
@pytest.mark.parametrize(("name", "cls", "lr"), [("momo", Momo, 2.0), ("momo_adam", MomoAdam, 0.1)])
def test_the_loop_is_a_plain_torch_loop(name: str, cls: Any, lr: float, after: bool) -> None:
    accelerator, model = Accelerator(cpu=True, gradient_accumulation_steps=2), Classifier()
    loader = accelerator.prepare(DataLoader(class_examples(), batch_size=4))
    if after:
        model = accelerator.prepare(model)
    optimizer: Any = create_optimizer(name, model, accelerator=accelerator, lr=lr)
    prepared = accelerator.prepare(optimizer) if after else accelerator.prepare(model, optimizer)
    model, optimizer = (model, prepared) if after else prepared
    averages = train(accelerator, model, optimizer, loader)

    reference = Classifier()
    batches = micro_batches(class_examples(), 4)
    windows = [batches[at : at + 2] for at in range(0, len(batches), 2)]
    expected = cls(reference.parameters(), lr=lr)
    plain_loop(reference, expected, windows, max_norm=1.0)
    assert len(averages) == len(windows)
    assert averages[-1] == pytest.approx(expected.last_step.loss_avg, rel=1e-6)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_weight_decay_groups_are_those_of_the_trainer() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    optimizer = create_optimizer("momo_adam", model, accelerator=Accelerator(cpu=True), weight_decay=0.1)
    assert [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups] == [(1, 0.1), (3, 0.0)]


def test_groups_of_the_user_are_taken_as_they_are() -> None:
    layers = [nn.Linear(2, 2), nn.Linear(2, 1)]
    groups = [{"params": layer.parameters(), "lr": 0.1 * (k + 1)} for k, layer in enumerate(layers)]
    optimizer = create_optimizer("momo", groups, accelerator=Accelerator(cpu=True), weight_decay=0.1)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.1, 0.1), (0.2, 0.1)]


def test_an_optimizer_without_the_accelerator_says_what_to_write() -> None:
    accelerator, model = Accelerator(cpu=True), nn.Linear(2, 1)
    model, optimizer = accelerator.prepare(model, create_optimizer("momo_adam", model))
    accelerator.backward(model(torch.ones(1, 2)).sum())
    with pytest.raises(ValueError, match=r"loss: got none.*create_optimizer\(\.\.\., accelerator=accelerator\)"):
        optimizer.step()


def test_only_our_optimizers_are_connected() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(TypeError, match=r"optimizer: got SGD, must be an optimizer of hf_momo: momo, momo_adam"):
        connect(Accelerator(cpu=True), torch.optim.SGD(model.parameters(), lr=0.1))


def test_uneven_inputs_are_refused() -> None:
    """A rank without batches takes no part in the all-reduce of the step, and the others would hang."""
    accelerator = Accelerator(cpu=True)
    create_optimizer("momo", nn.Linear(2, 1), accelerator=accelerator)
    with pytest.raises(NotImplementedError, match=r"join_uneven_inputs: .*use even_batches=True"):
        accelerator.join_uneven_inputs([])


class Gan:
    """Two linear models. Each loss is linear in its own model's weights, so it equals ``<grad, weights>``.

    The generator's loss passes through the discriminator, as in any GAN.
    """

    def __init__(self, accumulation: int = 1) -> None:
        torch.manual_seed(0)
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
        models = nn.Linear(3, 4, bias=False), nn.Linear(4, 1, bias=False)
        optimizers = [
            create_optimizer(name, model, accelerator=self.accelerator, lr=1e-3, lower_bound=-1e6)
            for name, model in zip(("momo", "momo_adam"), models, strict=True)
        ]
        self.handed: list[tuple[int, float, float]] = []
        for which, optimizer in enumerate(optimizers):
            optimizer.register_step_pre_hook(
                lambda optimizer, args, kwargs, which=which: self._look(which, optimizer, kwargs)
            )
        self.generator, self.critic, self.of_generator, self.of_critic = self.accelerator.prepare(*models, *optimizers)

    def _look(self, which: int, optimizer: Any, kwargs: dict[str, Any]) -> None:
        product = sum(float((p.detach() * p.grad).sum()) for group in optimizer.param_groups for p in group["params"])
        self.handed.append((which, float(kwargs["loss"]) * float(kwargs["sample_weight"]), product))

    def critic_loss(self) -> Tensor:
        with torch.no_grad():
            fake = self.generator(torch.randn(5, 3))
        return (self.critic(fake) - self.critic(torch.randn(5, 4))).mean()

    def generator_loss(self) -> Tensor:
        return -self.critic(self.generator(torch.randn(5, 3))).mean()

    def check(self, of_generator: int, of_critic: int) -> None:
        assert [which for which, *_ in self.handed].count(0) == of_generator
        assert [which for which, *_ in self.handed].count(1) == of_critic
        for which, loss, product in self.handed:
            assert loss == pytest.approx(product, rel=1e-5, abs=1e-7), which


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_gan_with_alternating_steps(set_to_none: bool) -> None:
    """The generator's loss leaves gradients on the critic, which are zeroed before its own turn."""
    gan = Gan()
    for _ in range(4):
        gan.of_critic.zero_grad(set_to_none=set_to_none)
        gan.accelerator.backward(gan.critic_loss())
        gan.of_critic.step()
        gan.of_generator.zero_grad(set_to_none=set_to_none)
        gan.accelerator.backward(gan.generator_loss())
        gan.of_generator.step()
    gan.check(4, 4)


def test_both_backward_before_either_step() -> None:
    """A single sum gave the first optimizer both losses and the second none. The critic's gradient belongs to both."""
    gan = Gan()
    for _ in range(3):
        gan.accelerator.backward(gan.critic_loss())
        gan.accelerator.backward(gan.generator_loss())
        gan.of_generator.step()
        gan.of_critic.step()
        gan.of_generator.zero_grad()
        gan.of_critic.zero_grad()
    gan.check(3, 3)


def test_critic_steps_more_often_and_is_clipped() -> None:
    gan = Gan()
    for _ in range(3):
        for _ in range(2):
            gan.of_critic.zero_grad()
            gan.accelerator.backward(gan.critic_loss())
            gan.accelerator.clip_grad_norm_(gan.critic.parameters(), 0.05)
            gan.of_critic.step()
        gan.of_generator.zero_grad()
        gan.accelerator.backward(gan.generator_loss())
        gan.of_generator.step()
    gan.check(3, 6)


def hidden(critic: nn.Module, size: int = 5) -> Tensor:
    """A loss whose graph does not lead to the parameters: reentrant checkpointing runs ``backward`` inside of it."""
    return checkpoint(critic, torch.randn(size, 4, requires_grad=True), use_reentrant=True).mean()


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_loss_whose_graph_hides_the_parameters_is_assigned_by_the_gradients(set_to_none: bool) -> None:
    """It ended in an error, and two folds with gradient checkpointing on one accelerator did too."""
    gan = Gan()
    for _ in range(3):
        gan.accelerator.backward(hidden(gan.critic))
        gan.accelerator.backward(hidden(gan.critic))
        gan.of_critic.step()
        gan.of_critic.zero_grad(set_to_none=set_to_none)
        gan.accelerator.backward(hidden(gan.critic))  # abandoned
        gan.of_critic.zero_grad(set_to_none=set_to_none)
    gan.check(0, 3)


def test_a_loss_that_cannot_be_assigned_is_named() -> None:
    """FSDP2 hides the parameters from the graph and, until the last micro-batch of a window, has no gradients."""
    gan = Gan()
    elsewhere = nn.Parameter(torch.ones(2))
    with pytest.raises(RuntimeError, match=r"loss: 2 MoMo optimizers.*accelerator.backward\(loss, optimizer=opti"):
        gan.accelerator.backward(elsewhere.sum())
    gan.accelerator.backward(hidden(gan.critic), optimizer=gan.of_critic)
    gan.of_critic.step()
    gan.check(0, 1)


def test_a_name_that_is_not_connected() -> None:
    gan = Gan()
    other = Momo([nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match=r"optimizer: got a Momo that is not connected to this accelerator"):
        gan.accelerator.backward(gan.critic_loss(), optimizer=[gan.of_critic, other])


@pytest.fixture
def one_rank() -> Iterator[None]:
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield
    dist.destroy_process_group()


@needs_cpu_events
def test_losses_of_fully_sharded_models_are_assigned_by_the_gradients(one_rank: None) -> None:
    """FSDP2: a second training beside a first one that was not freed ended in an error."""
    accelerator, mesh = Accelerator(cpu=True), init_device_mesh("cpu", (1,))
    models = [fully_shard(nn.Linear(3, 1, bias=False), mesh=mesh) for _ in range(2)]
    optimizers = [
        create_optimizer("momo", model, accelerator=accelerator, lr=1e-3, lower_bound=-1e6) for model in models
    ]
    handed: list[float] = []
    for optimizer in optimizers:
        optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: handed.append(float(kwargs["loss"])))
    for model, optimizer in 2 * list(zip(models, optimizers, strict=True)):
        losses = []
        for _ in range(2):  # the second backward adds to the gradients of the first
            losses.append(model(torch.randn(5, 3)).mean())
            accelerator.backward(losses[-1])
        optimizer.step()
        optimizer.zero_grad()
        assert handed.pop() == pytest.approx(sum(losses).item())
    models[0].set_requires_gradient_sync(False)
    with pytest.raises(RuntimeError, match=r"loss: 2 MoMo optimizers share this accelerator"):
        accelerator.backward(models[0](torch.randn(5, 3)).mean())
