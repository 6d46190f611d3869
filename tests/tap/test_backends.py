"""Backends: settings that are refused, each with its reason, and the answers of the supported ones."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from torch.testing._internal.distributed.fake_pg import FakeStore

from hf_momo import MomoAdafactor, MomoAdam
from hf_momo.tap.backends import backend_of
from hf_momo.tap.backends.deepspeed import keep_one_group, padding
from hf_momo.utils.versions import OLDEST

needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs deepspeed")


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
        backend_of(SimpleNamespace(distributed_type=DistributedType(kind)))


@pytest.mark.parametrize("kind", ["NO", "MULTI_CPU", "MULTI_GPU"])
def test_replicating_backends_change_nothing(kind: str) -> None:
    backend = backend_of(SimpleNamespace(distributed_type=DistributedType(kind), gradient_accumulation_steps=3))
    backend.check_settings()
    assert not (backend.shards_plain_tensors or backend.needs_one_group or backend.steps_in_backward)
    assert backend.loss_divisor(scale_wrt_gas=True) == 3


REFUSED = {
    "no-zero": (lambda: deepspeed(0), r"zero_stage: got 0, must be 1, 2 or 3; .*DistributedDataParallel"),
    "optimizer-offload": (
        lambda: deepspeed(2, offload_optimizer={"device": "cpu"}),
        r"offload_optimizer_device: got 'cpu', must be 'none'",
    ),
    "mics": (lambda: deepspeed(3, mics_shard_size=2), r"mics_shard_size: got 2; .*Remove the setting"),
    "hybrid": (lambda: fsdp(1, "HYBRID_SHARD"), r"fsdp_sharding_strategy: got HYBRID_SHARD\. .*set fsdp_version: 2"),
    "hybrid-zero2": (lambda: fsdp(1, "HYBRID_SHARD_ZERO2"), r"fsdp_sharding_strategy: got .*HYBRID_SHARD_ZERO2\. "),
    "ignored": (
        lambda: fsdp(1, ignored_modules=[torch.nn.Linear(1, 1)]),
        r"fsdp_ignored_modules: FSDP version 1 keeps .*ignore no modules",
    ),
}


def cases(table: dict[str, Any]) -> list[Any]:
    needing = ("no-zero", "optimizer-offload", "mics", "zero")
    return [
        pytest.param(*values, id=name, marks=[needs_deepspeed] if name.startswith(needing) else [])
        for name, values in table.items()
    ]


@pytest.mark.parametrize(("make", "message"), cases(REFUSED))
def test_settings_that_would_make_the_step_wrong_are_refused(make: Any, message: str) -> None:
    with pytest.raises(NotImplementedError, match=message):
        backend_of(make()).check_settings()


SUPPORTED = {
    "zero-1": (lambda: deepspeed(1), True),
    "zero-2": (lambda: deepspeed(2, offload_optimizer={"device": "none"}), True),
    "zero-3": (lambda: deepspeed(3), True),
    "fsdp1": (lambda: fsdp(1), True),
    "fsdp1-zero2": (lambda: fsdp(1, "SHARD_GRAD_OP"), True),
    "fsdp1-whole": (lambda: fsdp(1, "NO_SHARD"), False),
    "fsdp2": (lambda: fsdp(2), False),
}


@pytest.mark.parametrize(("make", "sharded"), cases(SUPPORTED))
def test_whether_plain_tensors_are_shards(make: Any, sharded: bool) -> None:
    backend = backend_of(make())
    backend.check_settings()
    assert backend.shards_plain_tensors is sharded
    optimizer = MomoAdam(params(1))
    backend.adapt(optimizer)
    assert optimizer.sharded is sharded


@pytest.mark.parametrize("make", cases({name: (make,) for name, (make, sharded) in SUPPORTED.items() if sharded}))
def test_flat_parameters_are_refused_where_shapes_matter(make: Any) -> None:
    """Flat parameters have no rows and columns, and the message names the backends that keep them."""
    message = "MomoAdafactor needs whole tensors.* flatten.*FSDP2.*DistributedDataParallel"
    with pytest.raises(NotImplementedError, match=message):
        backend_of(make()).adapt(MomoAdafactor(params(1)))


@needs_deepspeed
def test_an_older_deepspeed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.19.0 failed one or two of thirteen ZeRO-3 invariants at every run, with gradients that were NaN throughout."""
    monkeypatch.setattr("deepspeed.__version__", "0.19.0")
    with pytest.raises(ImportError, match=rf"deepspeed 0\.19\.0 is installed.*needs deepspeed {OLDEST['deepspeed']}"):
        backend_of(deepspeed(2)).check_settings()


def params(count: int) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2)) for _ in range(count)]


def test_groups_of_equal_settings_become_one() -> None:
    """ZeRO stepped each by itself: with 3.84 and 2.00 instead of 5.84, and the second without a loss."""
    first, second, third = params(3)
    optimizer = MomoAdam([{"params": [first]}, {"params": [second, third]}], lr=0.1)
    keep_one_group(optimizer)
    (group,) = optimizer.param_groups
    assert [id(param) for param in group["params"]] == [id(first), id(second), id(third)]


def test_the_settings_of_an_empty_group_do_not_count() -> None:
    """A Trainer with no weight decayed has an empty first group."""
    (param,) = params(1)
    groups = [{"params": [], "weight_decay": 0.3, "lr": 0.5}, {"params": [param], "weight_decay": 0.1}]
    optimizer = MomoAdam(groups, lr=0.1)
    keep_one_group(optimizer)
    (group,) = optimizer.param_groups
    assert (group["weight_decay"], group["lr"], len(group["params"])) == (0.1, 0.1, 1)


@pytest.mark.parametrize("name", ["lr", "weight_decay", "eps"])
def test_groups_of_different_settings_are_refused(name: str) -> None:
    optimizer = MomoAdam([{"params": [param], name: 0.5 / (k + 1)} for k, param in enumerate(params(2))])
    with pytest.raises(ValueError, match=rf"{name}: got 0.5, 0.25 in the parameter groups, must be one value under"):
        keep_one_group(optimizer)
    assert len(optimizer.param_groups) == 2


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_padding_is_all_that_no_parameter_fills(ranks: int) -> None:
    """ZeRO-3 leaves it uninitialized. A NaN in it made one run of CI skip every step as not finite."""
    numels, cleared = [36, 3, 1, 12, 7, 64, 5], 0
    for rank in range(ranks):
        pieces = [(numel, -(-numel // ranks), rank) for numel in numels]
        flat = torch.cat([piece_of(torch.arange(numel), length, rank) for numel, length, rank in pieces])
        for start, length in padding(pieces):
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


class Zero:
    """The attributes of ZeRO's optimizers that hf_momo reads. The invariants train with the real ones."""

    def __init__(self, optimizer: Any, flat: Any) -> None:
        sizes = [(4, 2), (3, 2), (1, 1)]
        parts = [SimpleNamespace(ds_numel=n, partition_numel=lambda k=k: k, ds_process_group=None) for n, k in sizes]
        self.optimizer, self.fp32_partitioned_groups_flat, self.fp16_groups = optimizer, [flat], [parts]
        self.clip_grad, self._global_grad_norm = 1.0, torch.tensor(4.0)


def zero_backend(stage: int, flat: Any, groups: int = 1) -> tuple[Any, MomoAdam, Zero]:
    optimizer = MomoAdam([{"params": [param]} for param in (flat, *params(groups - 1))])
    accelerator, zero = deepspeed(stage), Zero(optimizer, flat)
    accelerator._optimizers.append(SimpleNamespace(optimizer=zero))
    return backend_of(accelerator), optimizer, zero


@needs_deepspeed
@pytest.mark.parametrize("has_grad", [True, False])
def test_padding_of_weights_and_gradients_is_cleared_and_nothing_else(
    second_of_two_ranks: None, has_grad: bool
) -> None:
    """Before every step, because a checkpoint brings its own padding."""
    flat = torch.nn.Parameter(torch.ones(5))
    backend, optimizer, _ = zero_backend(3, flat)
    for junk in (torch.nan, torch.inf):
        flat.data = torch.tensor([1.0, 2.0, 3.0, junk, junk])
        flat.grad = flat.detach().clone() if has_grad else None
        backend.before_step(optimizer)
        for tensor in (flat, flat.grad) if has_grad else (flat,):
            assert tensor.tolist() == [1.0, 2.0, 3.0, 0.0, 0.0]


READ = {
    "clip_grad": (2, lambda backend, optimizer: backend.clipping_factor(optimizer)),
    "_global_grad_norm": (2, lambda backend, optimizer: backend.clipping_factor(optimizer)),
    "fp16_groups": (3, lambda backend, optimizer: backend.before_step(optimizer)),
    "fp32_partitioned_groups_flat": (3, lambda backend, optimizer: backend.check_prepared(optimizer)),
}


@needs_deepspeed
@pytest.mark.parametrize("name", READ)
def test_an_attribute_that_a_release_of_deepspeed_has_moved_is_an_error(name: str, second_of_two_ranks: None) -> None:
    """It had defaults: without ``clip_grad``, say, the factor was 1, and clipped steps would have grown in silence."""
    import deepspeed as library

    stage, read = READ[name]
    backend, optimizer, zero = zero_backend(stage, torch.nn.Parameter(torch.ones(5)))
    read(backend, optimizer)
    backend, optimizer, zero = zero_backend(stage, torch.nn.Parameter(torch.ones(5)))
    delattr(zero, name)
    with pytest.raises(RuntimeError, match=rf"deepspeed {library.__version__}: Zero has no attribute '{name}'"):
        read(backend, optimizer)


@needs_deepspeed
@pytest.mark.parametrize("part", ["ds_numel", "partition_numel", "ds_process_group"])
def test_an_attribute_of_a_parameter_that_has_moved_is_an_error(part: str, second_of_two_ranks: None) -> None:
    backend, optimizer, zero = zero_backend(3, torch.nn.Parameter(torch.ones(5)))
    delattr(zero.fp16_groups[0][0], part)
    with pytest.raises(RuntimeError, match=rf"has no attribute '{part}'"):
        backend.before_step(optimizer)


@needs_deepspeed
@pytest.mark.parametrize(("bound", "norm", "factor"), [(0.0, 4.0, 1.0), (1.0, 4.0, 0.25), (8.0, 4.0, 1.0)])
@pytest.mark.parametrize("kind", [torch.tensor, float])
def test_the_clipping_factor_of_zero(bound: float, norm: float, factor: float, kind: Any) -> None:
    backend, optimizer, zero = zero_backend(2, torch.nn.Parameter(torch.ones(5)))
    zero.clip_grad, zero._global_grad_norm = bound, kind(norm)
    assert float(backend.clipping_factor(optimizer)) == pytest.approx(factor)


@needs_deepspeed
def test_groups_that_zero_has_partitioned_are_refused() -> None:
    """Connected after ``prepare``, the second group's step ended in a loss that was missing."""
    backend, optimizer, _ = zero_backend(2, torch.nn.Parameter(torch.ones(5)), groups=2)
    backend.adapt(optimizer)
    with pytest.raises(ValueError, match=r"param_groups: got 2, must be one .*connect the optimizer before"):
        backend.check_prepared(optimizer)


@needs_deepspeed
def test_sub_groups_of_zero_3_are_refused() -> None:
    backend, optimizer, zero = zero_backend(3, torch.nn.Parameter(torch.ones(5)))
    zero.fp32_partitioned_groups_flat *= 2
    with pytest.raises(NotImplementedError, match=r"sub_group_size: ZeRO-3 splits .* into 2 sub-groups"):
        backend.check_prepared(optimizer)


@needs_deepspeed
@pytest.mark.parametrize("stage", [2, 3])
def test_an_optimizer_that_was_not_prepared_is_an_error(stage: int) -> None:
    """Its clipping factor and its padding are unknown, and counted as 1 and as none."""
    backend, optimizer = backend_of(deepspeed(stage)), MomoAdam(params(1))
    with pytest.raises(RuntimeError, match=r"optimizer: this MomoAdam was not prepared .*accelerator\.prepare"):
        (backend.before_step if stage == 3 else backend.clipping_factor)(optimizer)


EMPTY = -1


def piece_of(values: torch.Tensor, length: int, rank: int) -> torch.Tensor:
    held = values[rank * length :][:length]
    return torch.cat([held, held.new_full((length - len(held),), EMPTY)])
