"""PyTorch Lightning as the page describes it, with the code of the page: its trajectory is that of a plain loop."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hf_momo
from hf_momo import MomoAdam
from hf_momo.optimizers import MomoOptimizer

lightning = pytest.importorskip("lightning", reason="needs lightning")

PAGE = Path(hf_momo.__file__).parent / "tap" / "README.md"
BATCHES = 7

pytestmark = [
    # Lightning's own.
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*GPU available but not used"),
]


def module_class() -> Any:
    (code,) = re.findall(r"```python\n(import lightning\n.*?)```", PAGE.read_text(), re.DOTALL)
    namespace: dict[str, Any] = {"__name__": "page"}
    exec(code, namespace)
    return namespace["Regression"]


class Plain(lightning.LightningModule):
    """A module without any hooks for MoMo."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def configure_optimizers(self) -> MomoAdam:
        return MomoAdam(self.parameters(), lr=0.1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])


class Manual(Plain):
    """Manual optimization, as the page says."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        loss = super().training_step(batch, batch_idx)
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step(loss=loss.detach())


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def examples() -> TensorDataset:
    inputs = torch.randn(4 * BATCHES, 8, generator=torch.Generator().manual_seed(2))
    return TensorDataset(inputs, inputs.sum(dim=1, keepdim=True))


class Handed(lightning.Callback):
    """Records what every step was handed, once it is over: the factor is filled in during the step."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.optimizers[0].register_step_post_hook(self._record)

    def _record(self, optimizer: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if "loss" in kwargs:
            self.steps.append((float(kwargs["loss"]), float(kwargs.get("sample_weight", 1.0))))


def fit(module: Any, **options: Any) -> tuple[MomoOptimizer, list[tuple[float, float]]]:
    handed = Handed()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=[handed],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, DataLoader(examples(), batch_size=4))
    return trainer.optimizers[0], handed.steps


def plain_loop(accumulation: int, max_norm: float) -> tuple[nn.Module, MomoAdam, list[tuple[float, float]]]:
    """The same training by torch alone. Lightning divides the last, short window by the accumulation too."""
    model, steps = net(), []
    optimizer = MomoAdam(model.parameters(), lr=0.1)
    batches = list(DataLoader(examples(), batch_size=4))
    for _ in range(2):
        for at in range(0, BATCHES, accumulation):
            loss_sum = torch.zeros(())
            for inputs, targets in batches[at : at + accumulation]:
                loss = nn.functional.mse_loss(model(inputs), targets) / accumulation
                loss.backward()
                loss_sum += loss.detach()
            weight = torch.ones(())
            if max_norm:
                norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                weight = (max_norm / (norm + 1e-6)).clamp(max=1.0)
            optimizer.step(loss=loss_sum, sample_weight=weight)
            optimizer.zero_grad()
            steps.append((float(loss_sum), float(weight)))
    return model, optimizer, steps


def check(module: Any, optimizer: MomoOptimizer, expected: tuple[nn.Module, MomoAdam, Any]) -> None:
    model, reference, _ = expected
    assert optimizer.last_step == reference.last_step
    for ours, theirs in zip(module.net.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("max_norm", [0.0, 0.5])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_pattern_of_the_page(accumulation: int, max_norm: float) -> None:
    """Without it, accumulation and clipping train with a wrong loss: 9,912 at the end instead of 1.4."""
    module = module_class()()
    module.net = net()
    optimizer, handed = fit(module, accumulate_grad_batches=accumulation, gradient_clip_val=max_norm or None)
    expected = plain_loop(accumulation, max_norm)
    assert handed == expected[2]
    assert any(weight < 1.0 for _, weight in handed) is (max_norm > 0.0)
    check(module, optimizer, expected)


@pytest.mark.parametrize("module_type", [Plain, Manual])
def test_no_accumulation_and_no_clipping_need_no_hooks(module_type: Any) -> None:
    module = module_type()
    optimizer, _ = fit(module)
    check(module, optimizer, plain_loop(1, 0.0))


def test_fabric_takes_a_closure() -> None:
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    module = Plain()
    bare = module.configure_optimizers()
    model, optimizer = fabric.setup(module.net, bare)
    for _ in range(2):
        for inputs, targets in DataLoader(examples(), batch_size=4):

            def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(inputs), targets)
                fabric.backward(loss)
                return loss

            optimizer.step(closure)
    check(module, bare, plain_loop(1, 0.0))
