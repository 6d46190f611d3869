"""Compares what the ranks did with the plain loop, and the ranks with each other."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from invariants.configurations import Row
from invariants.launching import Ranks
from invariants.reference import Trajectory, plain_loop, relative


class Differences(NamedTuple):
    """Largest differences seen over all steps and ranks, relative to the largest value of the trajectory.

    Attributes:
        loss: In the mean over ranks of the losses handed to the optimizers, and in their running average.
        step_size: In the step sizes of all groups.
        lower_bound: In the bound after every step.
        weights: In the weights after the last step, each relative to the largest of its tensor.
        euler: Between loss and ``<gradient, weights>`` of the linear model, as handed to the optimizer and as averaged
            by it.
        ranks: 0 if all scalars of all ranks are equal to the bit, else infinite.
    """

    loss: float
    step_size: float
    lower_bound: float
    weights: float
    euler: float
    ranks: float

    @property
    def largest(self) -> float:
        return max(self)


def differences(row: Row, ranks: Ranks) -> Differences:
    """Return the differences of the ranks from the plain loop.

    Raises:
        AssertionError: If a rank failed to train the row.
    """
    for result in ranks:
        assert "error" not in result, result["error"]
    real, linear = ([result[kind] for result in ranks] for kind in ("trajectory", "euler"))
    pairs = [compared(row, real, rank) for rank in range(len(real))]
    largest = [max(values) for values in zip(*pairs, strict=True)]
    alike = row.setting.alone or all(
        scalars(one, at) == scalars(other, at)
        for run in (real, linear)
        for one, other in pairwise(run)
        for at in range(max(len(one["steps"]), len(other["steps"])))
    )
    return Differences(*largest, euler_difference(row, linear), 0.0 if alike else float("inf"))


def compared(row: Row, real: list[dict[str, Any]], rank: int) -> tuple[float, float, float, float]:
    """Return the first four differences, for one rank."""
    reference = reference_of(row, real[rank]["skipped"], rank)
    steps = real[rank]["steps"]
    if len(steps) != len(reference.loss):
        return (float("inf"),) * 4
    of_groups = [
        {name: [step["scalars"][group][name] for step in steps] for name in steps[0]["scalars"][0]}
        for group in range(len(steps[0]["scalars"]))
    ]
    loss = distance(handed_loss(row, real, rank), reference.loss)
    return (
        max(loss, *(distance(group["loss_avg"], reference.loss_avg) for group in of_groups)),
        max(distance(group["step_size"], reference.step_size) for group in of_groups),
        max(distance(group["lower_bound"], reference.lower_bound) for group in of_groups),
        weights_difference(real[rank]["weights"], reference),
    )


def reference_of(row: Row, skipped: list[int], rank: int) -> Trajectory:
    """Return the plain loop on the batches of all ranks, or of this rank if each trains its own model."""
    alone = rank if row.setting.alone else None
    return plain_loop(row.way, row.setting, row.backend.ranks, row.one_group, tuple(skipped), alone)


def handed_loss(row: Row, runs: list[dict[str, Any]], rank: int) -> list[float]:
    """Return the loss that the optimizers were handed: the mean over the ranks that train together."""
    together = [runs[rank]] if row.setting.alone else runs
    steps = zip(*(run["steps"] for run in together), strict=True)
    return [sum(step["loss"] for step in of_ranks) / len(of_ranks) for of_ranks in steps]


def weights_difference(weights: dict[str, list[float]], reference: Trajectory) -> float:
    assert weights.keys() == reference.weights.keys()
    return max(
        distance(weights[name], tensor.double().flatten().tolist()) for name, tensor in reference.weights.items()
    )


def euler_difference(row: Row, linear: list[dict[str, Any]]) -> float:
    """Return the largest difference between the loss of the linear model and ``<gradient, weights>``."""
    result = 0.0
    for rank, run in enumerate(linear):
        losses = handed_loss(row, linear, rank)
        scaled = [loss * step["sample_weight"] for loss, step in zip(losses, run["steps"], strict=True)]
        averages = [step["scalars"][0] for step in run["steps"]]
        result = max(
            result,
            distance(scaled, [step["product"] for step in run["steps"]]),
            distance([each["loss_avg"] for each in averages], [each["grad_dot_param_avg"] for each in averages]),
        )
    return result


def scalars(run: dict[str, Any], at: int) -> Any:
    return run["steps"][at]["scalars"] if at < len(run["steps"]) else None


def distance(ours: list[float], theirs: list[float]) -> float:
    return relative(torch.tensor(ours, dtype=torch.float64), torch.tensor(theirs, dtype=torch.float64))
