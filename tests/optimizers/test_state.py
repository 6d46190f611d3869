"""Checkpoints and copies: the run continues to the bit, whatever happens between two steps."""

import copy
import io
import pickle

import pytest
import torch
from optimizer_cases import VARIANTS, assert_bit_equal, backward, estimating, make_params, snapshot
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from hf_momo import LastStep, Momo
from hf_momo.optimizers.scalars import SCALARS, names_of

by_variant = pytest.mark.parametrize(("cls", "options"), VARIANTS.values(), ids=VARIANTS.keys())
DTYPES = [torch.float32, torch.bfloat16]


class Model(nn.Module):
    """Named parameters, for checkpoints that save by name."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.weights = nn.ParameterList(make_params(dtype))


def start(cls, options, dtype=torch.float32):
    """Two groups with their own lr, an estimated bound, weight decay in one."""
    model = Model(dtype)
    params = list(model.weights)
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.05, "weight_decay": 0.2}]
    return model, cls(groups, **options, **estimating(cls, options), lower_bound=-0.3)


def run(model, optimizer, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.step(loss=backward(list(model.weights), generator))


def saved_and_loaded(state_dict):
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def through_state_dict(model, optimizer, cls, options, dtype):
    fresh, other = start(cls, options, dtype)
    fresh.load_state_dict(model.state_dict())
    other.load_state_dict(saved_and_loaded(optimizer.state_dict()))
    return fresh, other


def through_deepcopy(model, optimizer, cls, options, dtype):
    return copy.deepcopy((model, optimizer))


def through_pickle(model, optimizer, cls, options, dtype):
    return pickle.loads(pickle.dumps((model, optimizer)))


def distributed(*, flat):
    def through_distributed_checkpoint(model, optimizer, cls, options, dtype):
        settings = StateDictOptions(flatten_optimizer_state_dict=flat)
        state_dict = saved_and_loaded(get_optimizer_state_dict(model, optimizer, options=settings))
        fresh, other = start(cls, options, dtype)
        fresh.load_state_dict(model.state_dict())
        set_optimizer_state_dict(fresh, other, state_dict, options=settings)
        return fresh, other

    return through_distributed_checkpoint


WAYS = {
    "state_dict": through_state_dict,
    "deepcopy": through_deepcopy,
    "pickle": through_pickle,
    "distributed-nested": distributed(flat=False),
    "distributed-flat": distributed(flat=True),
}


@by_variant
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("steps", [0, 4])
def test_continues_to_the_bit(cls, options, way, dtype, steps):
    """Interrupted after ``steps`` and continued in a new optimizer: every tensor as in the unbroken run."""
    model, optimizer = start(cls, options, dtype)
    run(model, optimizer, steps, seed=1)
    if steps:  # a skipped step too, so that the count is not 0
        optimizer.step(loss=float("nan"))
    other_model, other = way(model, optimizer, cls, options, dtype)
    assert other is not optimizer
    if steps or way in (through_deepcopy, through_pickle):
        assert_bit_equal(snapshot(other), snapshot(optimizer))
    run(model, optimizer, 4, seed=2)
    run(other_model, other, 4, seed=2)
    assert_bit_equal(snapshot(other), snapshot(optimizer))
    assert other.last_step.skipped_steps == (steps > 0)
    assert other.last_step == optimizer.last_step


@by_variant
def test_model_scalars_stand_in_every_group(cls, options):
    """The scalars are 0-d float32 tensors with memory of their own; only the step size differs between groups."""
    model, optimizer = start(cls, options)
    run(model, optimizer, 3, seed=1)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    run(model, optimizer, 1, seed=2)
    first = optimizer.param_groups[0]
    pointers = set()
    for group in optimizer.param_groups:
        for name in names_of(group):
            assert isinstance(group[name], torch.Tensor)
            assert (group[name].shape, group[name].dtype) == ((), torch.float32)
            assert name == "step_size" or torch.equal(group[name], first[name])
            pointers.add(group[name].data_ptr())
    assert len(pointers) == len(optimizer.param_groups) * len(names_of(first))
    assert {"loss_avg", "grad_dot_param_avg", "weight_avg", "lower_bound", "step_size", "skipped_steps"} <= set(
        SCALARS
    )


@by_variant
def test_nothing_of_the_algorithm_is_an_attribute(cls, options):
    """A step adds no attribute: checkpoints keep only entries of groups and state of parameters."""
    model, optimizer = start(cls, options)
    before = set(vars(optimizer))
    run(model, optimizer, 2, seed=1)
    assert set(vars(optimizer)) == before
    assert all(isinstance(key, torch.Tensor) for key in optimizer.state)


@by_variant
def test_reload_before_the_first_step(cls, options):
    """Accelerate's ``prepare`` reloads the state at once, which must change nothing."""
    model, optimizer = start(cls, options)
    other_model, other = start(cls, options)
    other.load_state_dict(other.state_dict())
    run(model, optimizer, 3, seed=1)
    run(other_model, other, 3, seed=1)
    assert_bit_equal(snapshot(other), snapshot(optimizer))


def test_kernel_is_no_part_of_a_checkpoint():
    """The kernel depends on the machine, not on the checkpoint."""
    _, optimizer = start(*VARIANTS["momo"])
    assert "kernel" not in optimizer.state_dict()["param_groups"][0]


@by_variant
def test_bare_step_at_lr_0_makes_the_state_and_nothing_else(cls, options):
    """Torch's distributed checkpoint calls ``step(closure=None)`` with zero gradients and every lr 0."""
    model, optimizer = start(cls, options)
    before = [p.detach().clone() for p in model.weights]
    for p in model.weights:
        p.grad = torch.zeros_like(p)
    lrs = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(0.0) if isinstance(group["lr"], torch.Tensor) else 0.0
    scalars = {n: v for n, v in snapshot(optimizer).items() if "params" not in n}
    assert optimizer.step(closure=None) is None
    assert len(optimizer.state) == 4
    assert all(not bool(tensor.any()) for state in optimizer.state.values() for tensor in state.values())
    after = snapshot(optimizer)
    assert_bit_equal({n: after[n] for n in scalars}, scalars)
    assert all(torch.equal(p, b) for p, b in zip(model.weights, before, strict=True))
    # The run that follows equals the run without that call.
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr
    run(model, optimizer, 2, seed=1)
    clean_model, clean = start(cls, options)
    run(clean_model, clean, 2, seed=1)
    assert_bit_equal(snapshot(optimizer), snapshot(clean))


def test_bare_step_with_one_lr_above_0_is_an_error():
    """A step without a loss is allowed only if it can move nothing."""
    _, optimizer = start(*VARIANTS["adam-proximal"])
    optimizer.param_groups[0]["lr"] = 0.0
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=r"loss: got none"):
        optimizer.step()
    assert_bit_equal(snapshot(optimizer), before)


@by_variant
def test_warm_up_from_lr_0(cls, options):
    """LambdaLR from 0: the first step is finite and moves nothing; later ones do."""
    model, optimizer = start(cls, options)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(k / 3, 1.0))
    before = [p.detach().clone() for p in model.weights]
    run(model, optimizer, 1, seed=1)
    assert set(optimizer.last_step.step_size) == {0.0}
    assert optimizer.last_step.num_steps == 1
    assert all(torch.equal(p, b) for p, b in zip(model.weights, before, strict=True))
    for k in range(4):
        scheduler.step()
        run(model, optimizer, 1, seed=2 + k)
        caps = [base * min((k + 1) / 3, 1.0) for base in scheduler.base_lrs]
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(caps)
    assert optimizer.last_step.skipped_steps == 0
    assert not torch.equal(model.weights[0], before[0])


def test_last_step():
    """``last_step`` holds the last committed step in Python numbers."""
    x = nn.Parameter(torch.tensor([3.0, 4.0]))
    y = nn.Parameter(torch.tensor([0.0]))
    optimizer = Momo([{"params": [x]}, {"params": [y], "lr": 0.5}], lr=1.0)
    assert optimizer.last_step == LastStep((0.0, 0.0), False, 0.0, 0.0, 0, 0, 0, 0)
    x.grad, y.grad = torch.tensor([6.0, 8.0]), torch.zeros(1)
    optimizer.step(loss=25.0)
    assert optimizer.last_step == LastStep((0.25, 0.125), False, 25.0, 0.0, 1, 0, 0, 0)
    optimizer.step(loss=float("inf"))
    assert optimizer.last_step == LastStep((0.25, 0.125), False, 25.0, 0.0, 1, 0, 1, 0)
    for group in optimizer.param_groups:
        group["lr"] /= 100
    optimizer.step(loss=25.0)
    last = optimizer.last_step
    assert last.step_size == pytest.approx((0.01, 0.005))
    assert (last.capped, last.num_steps, last.capped_steps, last.skipped_steps) == (True, 2, 1, 1)
