"""Backends and settings that are refused, each with its reason, and what is known of the others."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from torch.testing._internal.distributed.fake_pg import FakeStore

from hf_momo import MomoAdam
from hf_momo.tap import backends

CPU_AMP_WARNING = pytest.mark.filterwarnings("ignore:.*mixed_precision.*:UserWarning")


def deepspeed(stage: int, **zero: Any) -> SimpleNamespace:
    config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": stage, **zero}}
    plugin = DeepSpeedPlugin(hf_ds_config=config)
    return SimpleNamespace(
        distributed_type=DistributedType.DEEPSPEED, state=SimpleNamespace(deepspeed_plugin=plugin), _optimizers=[]
    )


def fsdp(version: int, strategy: str = "FULL_SHARD", **options: Any) -> SimpleNamespace:
    if version == 2:
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2, reshard_after_forward=True, **options)
    else:
        plugin = FullyShardedDataParallelPlugin(fsdp_version=1, sharding_strategy=strategy, **options)
    return SimpleNamespace(distributed_type=DistributedType.FSDP, state=SimpleNamespace(fsdp_plugin=plugin))


@pytest.mark.parametrize("kind", ["MEGATRON_LM", "XLA"])
def test_unknown_backends_are_refused(kind: str) -> None:
    with pytest.raises(NotImplementedError, match=rf"distributed_type is {kind}.*use one process, Distributed"):
        backends.check_supported(SimpleNamespace(distributed_type=DistributedType(kind)))


@pytest.mark.parametrize("kind", ["NO", "MULTI_CPU", "MULTI_GPU"])
def test_replicating_backends_are_not(kind: str) -> None:
    accelerator = SimpleNamespace(distributed_type=DistributedType(kind))
    backends.check_supported(accelerator)
    assert not backends.shards_plain_tensors(accelerator)


REFUSED = {
    "no-zero": (lambda: deepspeed(0), r"zero_stage: got 0, must be 1, 2 or 3; .*DistributedDataParallel"),
    "optimizer-offload": (
        lambda: deepspeed(2, offload_optimizer={"device": "cpu"}),
        r"offload_optimizer_device: got 'cpu', must be 'none'",
    ),
    "mics": (lambda: deepspeed(3, mics_shard_size=2), r"mics_shard_size: got 2; .*Leave it out"),
    "hybrid": (lambda: fsdp(1, "HYBRID_SHARD"), r"fsdp_sharding_strategy: HYBRID_SHARD .*set fsdp_version: 2"),
    "hybrid-zero2": (lambda: fsdp(1, "HYBRID_SHARD_ZERO2"), r"fsdp_sharding_strategy: .*HYBRID_SHARD_ZERO2 "),
    "ignored": (
        lambda: fsdp(1, ignored_modules=[torch.nn.Linear(1, 1)]),
        r"fsdp_ignored_modules: FSDP version 1 leaves .*ignore no modules",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_that_would_make_the_step_wrong_are_refused(make: Any, message: str) -> None:
    with pytest.raises(NotImplementedError, match=message):
        backends.check_supported(make())


SUPPORTED = {
    "zero-1": (lambda: deepspeed(1), True),
    "zero-2": (lambda: deepspeed(2, offload_optimizer={"device": "none"}), True),
    "zero-3": (lambda: deepspeed(3), True),
    "fsdp1": (lambda: fsdp(1), True),
    "fsdp1-zero2": (lambda: fsdp(1, "SHARD_GRAD_OP"), True),
    "fsdp1-whole": (lambda: fsdp(1, "NO_SHARD"), False),
    "fsdp2": (lambda: fsdp(2), False),
}


@pytest.mark.parametrize(("make", "sharded"), SUPPORTED.values(), ids=SUPPORTED)
def test_whether_plain_tensors_are_pieces(make: Any, sharded: bool) -> None:
    accelerator = make()
    backends.check_supported(accelerator)
    assert backends.shards_plain_tensors(accelerator) is sharded


def params(count: int) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2)) for _ in range(count)]


def test_groups_of_equal_settings_become_one() -> None:
    """ZeRO would have stepped each by itself: 3.84 and 2.00 in place of 5.84, and the second without a loss."""
    first, second, third = params(3)
    optimizer = MomoAdam([{"params": [first]}, {"params": [second, third]}], lr=0.1)
    backends.keep_one_group(optimizer)
    (group,) = optimizer.param_groups
    assert [id(param) for param in group["params"]] == [id(first), id(second), id(third)]


def test_an_empty_group_has_no_say() -> None:
    """A Trainer with no weight decayed has an empty first group."""
    (param,) = params(1)
    groups = [{"params": [], "weight_decay": 0.3, "lr": 0.5}, {"params": [param], "weight_decay": 0.1}]
    optimizer = MomoAdam(groups, lr=0.1)
    backends.keep_one_group(optimizer)
    (group,) = optimizer.param_groups
    assert (group["weight_decay"], group["lr"], len(group["params"])) == (0.1, 0.1, 1)


@pytest.mark.parametrize("name", ["lr", "weight_decay", "eps"])
def test_groups_of_different_settings_are_refused(name: str) -> None:
    optimizer = MomoAdam([{"params": [param], name: 0.5 / (k + 1)} for k, param in enumerate(params(2))])
    with pytest.raises(ValueError, match=rf"{name}: got 0.5, 0.25 in the parameter groups, must be one value under"):
        backends.keep_one_group(optimizer)
    assert len(optimizer.param_groups) == 2


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_padding_is_all_that_no_parameter_fills(ranks: int) -> None:
    """ZeRO-3 leaves it uninitialized. A NaN that stood in it had one run of CI skip every step, as not finite."""
    numels, cleared = [36, 3, 1, 12, 7, 64, 5], 0
    for rank in range(ranks):
        pieces = [(numel, -(-numel // ranks), rank) for numel in numels]
        flat = torch.cat([piece_of(torch.arange(numel), length, rank) for numel, length, rank in pieces])
        for start, length in backends.padding(pieces):
            assert (flat[start : start + length] == EMPTY).all()
            flat[start : start + length] = 0
            cleared += length
        assert not (flat == EMPTY).any()
    assert cleared == sum(-numel % ranks for numel in numels)


@pytest.fixture
def second_of_two_ranks() -> Iterator[None]:
    dist.init_process_group("fake", rank=1, world_size=2, store=FakeStore())
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("has_grad", [True, False])
def test_padding_of_weights_and_gradients_is_cleared_and_nothing_else(
    second_of_two_ranks: None, has_grad: bool
) -> None:
    """At every step: a checkpoint loaded between two has padding of its own."""
    sizes = [(4, 2), (3, 2), (1, 1)]
    parts = [SimpleNamespace(ds_numel=n, partition_numel=lambda k=k: k, ds_process_group=None) for n, k in sizes]
    flat = torch.nn.Parameter(torch.ones(5))
    optimizer = MomoAdam([flat])
    zero = SimpleNamespace(optimizer=optimizer, fp32_partitioned_groups_flat=[flat], fp16_groups=[parts])
    accelerator = SimpleNamespace(_optimizers=[SimpleNamespace(optimizer=zero)])
    for junk in (torch.nan, torch.inf):
        flat.data = torch.tensor([1.0, 2.0, 3.0, junk, junk])
        flat.grad = flat.detach().clone() if has_grad else None
        backends.clear_padding(accelerator, optimizer)
        for tensor in (flat, flat.grad) if has_grad else (flat,):
            assert tensor.tolist() == [1.0, 2.0, 3.0, 0.0, 0.0]


EMPTY = -1


def piece_of(values: torch.Tensor, length: int, rank: int) -> torch.Tensor:
    held = values[rank * length :][:length]
    return torch.cat([held, held.new_full((length - len(held),), EMPTY)])
