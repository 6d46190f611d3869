"""Breaks one thing of the library on purpose, in a launched process, and names the rows that must then fail."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest.mock import patch


class Sabotage(NamedTuple):
    """One function of the library replaced by another.

    Attributes:
        target: Dotted name of the function.
        replacement: The function that takes its place.
        red: Rows that must fail.
        green: Rows that do not need the function and must pass.
    """

    target: str
    replacement: Callable[..., Any]
    red: tuple[str, ...]
    green: tuple[str, ...]


SABOTAGES = {
    "no all-reduce": Sabotage(
        "hf_momo.sharding.sum_over_ranks",
        lambda loss, sums, process_group=None: (loss, sums),
        red=(
            "ddp/loop/momo",
            "ddp/trainer/momo_adam",
            "torch/torch/replicas 2x1",
            "fsdp2/loop/momo_adam",
            "fsdp1/loop/momo_adam",
            "zero2/loop/momo",
        ),
        green=("torch/torch/self",),
    ),
    "no clearing of windows": Sabotage(
        "hf_momo.tap.gradients.are_gone",
        lambda optimizer, *, or_zero: False,
        red=("ddp/loop/scaler", "one/loop/scaler"),
        green=("ddp/loop/accumulated", "ddp/loop/momo"),
    ),
    "no sample weight": Sabotage(
        "hf_momo.tap.loss_tap.LossTap.record_clipping",
        lambda self, norm, max_norm, **kwargs: None,
        red=("ddp/loop/clipped momo", "ddp/trainer/clipped", "fsdp2/loop/clipped momo_adam"),
        green=("ddp/loop/momo", "fsdp2/loop/momo_adam"),
    ),
    "no sample weight of ZeRO": Sabotage(
        "hf_momo.tap.backends.deepspeed.DeepSpeed.clipping_factor",
        lambda self, optimizer: 1.0,
        red=("zero2/loop/clipped momo", "zero2/trainer/clipped"),
        green=("zero2/loop/momo_adam",),
    ),
    "no replica counts": Sabotage(
        "hf_momo.sharding.num_replicas",
        lambda params, process_group, *, sharded: [1] * len(params),
        red=("ddp/loop/momo_adam", "torch/torch/replicas 2x1", "torch/torch/plain and sharded"),
        green=("torch/torch/replicas 1x2", "fsdp2/loop/momo_adam", "fsdp1/loop/momo_adam", "zero2/loop/momo"),
    ),
    "shards taken for replicas": Sabotage(
        "hf_momo.tap.backends.base.Backend.adapt",
        lambda self, optimizer: None,
        red=("fsdp1/loop/momo_adam", "zero2/loop/momo"),
        green=("ddp/loop/momo_adam", "fsdp2/loop/momo_adam"),
    ),
    # One run of CI, before the launches filled uninitialized memory with NaN, skipped every step of
    # "zero3/loop/adamw form".
    "no clearing of ZeRO-3's padding": Sabotage(
        "hf_momo.tap.backends.deepspeed.DeepSpeed.before_step",
        lambda self, optimizer: None,
        red=("zero3/loop/momo", "zero3/loop/adamw form", "zero3/trainer/momo_adam"),
        green=("zero2/loop/momo",),
    ),
}


@contextlib.contextmanager
def broken(name: str) -> Iterator[None]:
    """Replace the function of the sabotage ``name`` within the block; an empty name replaces nothing."""
    if not name:
        yield
        return
    with patch(SABOTAGES[name].target, SABOTAGES[name].replacement):
        yield
