"""Trainings with torch's distributed checkpoint that are killed and resumed: FSDP2 on two ranks, one plain model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from checkpoints.backends import whole
from checkpoints.kills import Kill, die, install
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from trainer.tiny import decay_groups, scalars_of

from hf_momo import Momo, MomoAdafactor, MomoAdam, MomoMuon, adamw_state_dict, load_adamw_state_dict
from hf_momo.optimizers import MomoOptimizer

STEPS, SAVE_EVERY, BATCH = 8, 2, 8

SETTINGS: dict[str, Callable[[nn.Module], MomoOptimizer]] = {
    "momo_adam": lambda model: MomoAdam(decay_groups(model, 0.1), lr=0.3, adapt_lower_bound=True, lower_bound=-0.1),
    "momo": lambda model: Momo(decay_groups(model, 0.1), lr=5.0),
    "momo_adafactor": lambda model: MomoAdafactor(decay_groups(model, 0.1), lr=0.3, lower_bound=-0.1),
    "momo_muon": lambda model: MomoMuon(decay_groups(model, 0.1), lr=0.1, slope="batch", lower_bound=-0.1),
    "estimates": lambda model: MomoAdam(decay_groups(model, 0.1), lr=0.3, slope="batch", gap="progress"),
}


class Regression(nn.Module):
    """Layers with odd numbers of rows, so that shards differ in size. The last layer's bias has one row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(5, 7)
        self.output = nn.Linear(7, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.output(torch.tanh(self.hidden(features)))


def with_distributed_checkpoint(
    folder: Path, *, setting: str, flat: bool = False, kill: Kill | None = None, resume: bool = False
) -> Callable[[], dict[str, Any]]:
    """Train eight steps on batches of eight, each rank on its part, with a checkpoint at every second step.

    Args:
        folder: Folder for the run's checkpoints.
        setting: One of ``SETTINGS``.
        flat: Whether the optimizer's state is saved under flat names.
        kill: Where the process dies.
        resume: Whether to begin from the last checkpoint that has a table of contents.
    """
    options = StateDictOptions(flatten_optimizer_state_dict=flat)

    def run() -> dict[str, Any]:
        rank, ranks = _start()
        install(kill)
        model = _model(ranks)
        optimizer = SETTINGS[setting](model)
        first = _load_last(folder, model, optimizer, options) if resume else 0
        losses = {}
        for step in range(first + 1, STEPS + 1):
            loss = _backward(model, step, rank, ranks)
            optimizer.step(loss=loss)
            optimizer.zero_grad()
            losses[step] = _mean(loss)
            if step % SAVE_EVERY == 0:
                state = _state(model, optimizer, options)
                dcp.save(state, storage_writer=FileSystemWriter(folder / f"step-{step}"), no_dist=ranks == 1)
            if kill is not None and (kill.step, kill.file, kill.rank) == (step, None, rank):
                die()
        averages = [optimizer.state[p][name] for p in model.parameters() for name in sorted(optimizer.state[p])]
        return {
            "first": first,
            "losses": losses,
            "weights": [whole(param) for param in model.parameters()],
            "state": [whole(tensor) for tensor in averages],
            "scalars": scalars_of(optimizer),
        }

    return run


def converted() -> dict[str, Any]:
    """Convert unsharded averages of AdamW to MomoAdam on shards, take some steps, convert back and take some more."""
    rank, ranks = _start()
    plain = Regression().double()
    adamw = torch.optim.AdamW(decay_groups(plain, 0.1), lr=0.05)
    for step in range(1, 4):
        loss = _backward(plain, step, 0, 1)
        adamw.step()
        adamw.zero_grad()
    model = _model(ranks, plain)
    ours = MomoAdam(decay_groups(model, 0.1), lr=0.3)
    load_adamw_state_dict(ours, adamw.state_dict(), loss=_backward(plain, 4, rank, ranks))
    start = scalars_of(ours)
    for step in range(4, 7):
        loss = _backward(model, step, rank, ranks)
        ours.step(loss=loss)
        ours.zero_grad()
    end = scalars_of(ours)
    back = torch.optim.AdamW(decay_groups(model, 0.1))
    back.load_state_dict(adamw_state_dict(ours))
    for step in range(7, 9):
        _backward(model, step, rank, ranks)
        back.step()
        back.zero_grad()
    return {"scalars": [*start, *end], "weights": [whole(param) for param in model.parameters()]}


def _model(ranks: int, weights: nn.Module | None = None) -> Regression:
    model = Regression().double()
    if weights is not None:
        model.load_state_dict(weights.state_dict())
    if ranks > 1:
        for module in (model.hidden, model.output, model):
            fully_shard(module)
    return model


def _backward(model: nn.Module, step: int, rank: int, ranks: int) -> Tensor:
    features, targets = (part[rank::ranks] for part in _batch(step))
    loss = (model(features) - targets).square().mean()
    loss.backward()
    return loss.detach()


def _start() -> tuple[int, int]:
    if "RANK" not in os.environ:
        return 0, 1
    dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size()


def _batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    features = torch.randn(BATCH, 5, generator=generator, dtype=torch.float64)
    noise = 0.1 * torch.randn(BATCH, 1, generator=generator, dtype=torch.float64)
    return features, features.sum(dim=1, keepdim=True).sin() + noise


def _state(model: nn.Module, optimizer: MomoOptimizer, options: StateDictOptions) -> dict[str, Any]:
    return {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=options),
    }


def _load_last(folder: Path, model: nn.Module, optimizer: MomoOptimizer, options: StateDictOptions) -> int:
    step = max(int(path.parent.name.split("-")[1]) for path in folder.glob("step-*/.metadata"))
    state = _state(model, optimizer, options)
    dcp.load(state, checkpoint_id=folder / f"step-{step}", no_dist=not dist.is_initialized())
    set_model_state_dict(model, state["model"])
    set_optimizer_state_dict(model, optimizer, state["optimizer"], options=options)
    return step


def _mean(loss: Tensor) -> float:
    if dist.is_initialized():
        dist.all_reduce(loss)
        loss /= dist.get_world_size()
    return float(loss)
