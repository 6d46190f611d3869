"""The plain loop: one process, the whole batch in one forward pass, no Hugging Face, and the oracle beside it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from invariants.batches import Window, accumulation_steps, item_weights, windows
from invariants.configurations import Setting
from invariants.models import build, examples, item_losses
from optimizer_cases import METHODS, oracle_group, oracle_options
from oracle import Oracle
from torch import Tensor, nn

from hf_momo import get_optimizer_info
from hf_momo.optimizers import MomoOptimizer


@dataclass
class Trajectory:
    """The values of a run, step by step.

    Attributes:
        loss: Losses of the batches.
        loss_avg: Their running averages.
        step_size: Step sizes of the first group.
        lower_bound: The bound after each step.
        weights: The weights at the end, by name.
        from_oracle: Largest difference from the oracle, relative to the largest value.
    """

    loss: list[float]
    loss_avg: list[float]
    step_size: list[float]
    lower_bound: list[float]
    weights: dict[str, Tensor]
    from_oracle: float = 0.0


def decayed(name: str) -> bool:
    """Whether the Trainer decays a parameter of our models."""
    return not name.endswith("bias") and ".ln_" not in name


def parameter_groups(model: nn.Module, setting: Setting, *, one_group: bool) -> list[dict[str, Any]]:
    """All parameters in one group, or those with weight decay and those without."""
    named, decay = list(model.named_parameters()), setting.weight_decay
    if one_group or setting.groups != "decay":
        return [{"params": [param for _, param in named], "weight_decay": decay}]
    return [
        {"params": [param for name, param in named if decayed(name)], "weight_decay": decay},
        {"params": [param for name, param in named if not decayed(name)], "weight_decay": 0.0},
    ]


def oracle_for(setting: Setting, groups: list[dict[str, Any]]) -> Oracle:
    """The oracle on copies of the parameters."""
    optimizer = get_optimizer_info(setting.optim).create(
        [{**group, "params": [torch.zeros(1)]} for group in groups], **setting.options
    )
    settings = optimizer.param_groups
    return Oracle(
        [{**oracle_group(own), "params": group["params"]} for own, group in zip(settings, groups, strict=True)],
        **oracle_options(settings[0]),
        **METHODS[setting.optim].oracle(settings[0]),
    )


@cache
def plain_loop(
    way: str,
    setting: Setting,
    ranks: int,
    one_group: bool = False,
    skipped: tuple[int, ...] = (),
    rank: int | None = None,
) -> Trajectory:
    """Train on one process what ``ranks`` processes are to train together.

    Args:
        way: ``"loop"`` or ``"trainer"``: which model.
        setting: What is trained.
        ranks: How many processes shared the batch, which matters to how its loss is normalized.
        one_group: Whether all parameters are in one group whatever the setting says.
        skipped: Windows whose step is not taken.
        rank: Train on the micro-batches of this one alone.
    """
    # What trains in float32 is compared with float64; half precision, with a loop that rounds alike.
    dtype = {"autocast": torch.float32, "bfloat16": torch.bfloat16}.get(setting.precision, torch.float64)
    model = build(way, setting, euler=False, dtype=dtype)
    data = examples(way, setting, euler=False, dtype=dtype)
    groups = parameter_groups(model, setting, one_group=one_group)
    oracle = oracle_for(setting, groups)
    optimizer = get_optimizer_info(setting.optim).create(groups, **setting.options)
    result = Trajectory([], [], [], [], {})
    for index, window in enumerate(windows(setting.layout, setting.examples, ranks)):
        if index in skipped:
            continue
        if rank is not None:
            window = window[rank::ranks]
        loss = window_loss(model, data, window, setting, ranks if rank is None else 1)
        loss.backward()
        weight = clip(model, setting.max_norm)
        grads = [[param.grad for param in group["params"]] for group in groups]
        loss = loss.detach()
        oracle.step(float(loss), grads, sample_weight=weight)
        optimizer.step(loss=loss, sample_weight=weight)
        optimizer.zero_grad()
        last = optimizer.last_step
        result.loss.append(float(loss))
        result.loss_avg.append(last.loss_avg)
        result.step_size.append(last.step_size[0])
        result.lower_bound.append(last.lower_bound)
        result.from_oracle = max(result.from_oracle, distance_from(oracle, optimizer))
        if dtype == torch.bfloat16:
            follow(oracle, optimizer)
    result.weights = {name: param.detach().clone() for name, param in model.named_parameters()}
    return result


def window_loss(model: nn.Module, data: Any, window: Window, setting: Setting, ranks: int) -> Tensor:
    """Return the loss of all micro-batches of all ranks, in one forward pass."""
    chosen = [data[index] for batch in window for index in batch]
    batch = {key: torch.stack([example[key] for example in chosen]) for key in chosen[0]}
    labels = batch.pop("labels")
    shift = "input_ids" in batch
    labels = labels[..., 1:] if shift else labels
    kept = {index: data[index]["labels"][int(shift) :] != -100 for micro in window for index in micro}
    weights = item_weights(
        window, kept, setting.normalize, ranks=ranks, accumulation=accumulation_steps(setting.layout, ranks)
    )
    half = setting.precision == "autocast"  # the plain loop of float16 is in float64: its scaler is part of the row
    with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
        outputs = model(**batch)
    logits = outputs["logits"]
    return (item_losses(logits[..., :-1, :] if shift else logits, labels) * weights).sum()


def clip(model: nn.Module, max_norm: float) -> float:
    """Clip the gradients to ``max_norm`` and return the factor."""
    if not max_norm:
        return 1.0
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    return min(1.0, max_norm / (float(norm) + 1e-6))


def distance_from(oracle: Oracle, optimizer: MomoOptimizer) -> float:
    """Return the largest difference between the two after a step, relative to the largest value."""
    last = optimizer.last_step
    pairs = [(last.loss_avg, oracle.loss_avg), (last.lower_bound, oracle.lower_bound)]
    pairs += [(size, group.step_size) for size, group in zip(last.step_size, oracle.groups, strict=True)]
    differences = [relative(torch.tensor(ours), torch.tensor(theirs)) for ours, theirs in pairs]
    for ours, theirs in zip(optimizer.param_groups, oracle.groups, strict=True):
        differences += [relative(p.detach(), q.x) for p, q in zip(ours["params"], theirs.params, strict=True)]
    return max(differences)


def follow(oracle: Oracle, optimizer: MomoOptimizer) -> None:
    """Set the oracle to the weights and averages that bfloat16 has rounded."""
    for ours, theirs in zip(optimizer.param_groups, oracle.groups, strict=True):
        for p, q in zip(ours["params"], theirs.params, strict=True):
            q.x, q.m = p.detach().double(), optimizer.state[p]["exp_avg"].double()


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference, in units of the largest value; infinite if one is NaN."""
    ours, theirs = ours.double(), theirs.double()
    if not ours.numel():
        return 0.0
    scale = float(theirs.abs().max())
    difference = float((ours - theirs).abs().max()) / (scale or 1.0)
    return difference if difference == difference else float("inf")
