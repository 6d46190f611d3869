"""Whole steps of the optimizers with every kernel: equal to the oracle's, within the documented memory."""

import pytest
import torch
from memory import model_of, peak_memory
from optimizer_cases import (
    VARIANTS,
    assert_bit_equal,
    assert_matches,
    backward,
    estimating,
    gradients,
    make_oracle,
    make_params,
    snapshot,
)

from hf_momo import Momo, MomoAdam, MomoLion

by_variant = pytest.mark.parametrize(("cls", "options"), VARIANTS.values(), ids=VARIANTS.keys())


@pytest.fixture
def name(kernel, cls):
    name = kernel.__name__.rpartition(".")[2]
    if name not in cls.direction.kernels:
        pytest.skip(f"{cls.__name__} has no {name} kernel")
    return name


@by_variant
def test_steps_are_those_of_the_oracle(name, device, cls, options):
    """Two groups, an estimated bound, and one parameter that has no gradient in some steps."""
    params = [torch.nn.Parameter(p.detach().to(device)) for p in make_params()]
    groups = [{"params": params[:2], "weight_decay": 0.1}, {"params": params[2:], "lr": 0.05}]
    optimizer = cls(groups, **options, **estimating(cls, options), kernel=name)
    oracle = make_oracle(optimizer)
    generator = torch.Generator().manual_seed(1)
    for active in (None, [0, 1, 3], None, [2, 3]):
        cpu_params = [torch.nn.Parameter(p.detach().cpu()) for p in params]
        loss = backward(cpu_params, generator, active)
        for param, cpu_param in zip(params, cpu_params, strict=True):
            param.grad = None if cpu_param.grad is None else cpu_param.grad.to(device)
        optimizer.step(loss=loss)
        oracle.step(float(loss), gradients(optimizer))
        # torch's fused kernels work with a float32 bias correction.
        assert_matches(optimizer, oracle, 1e-6)


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # of numpy, in Triton's interpreter
@by_variant
def test_a_bad_batch_leaves_no_trace(name, device, cls, options):
    """An infinite gradient changes nothing but the count of skipped steps."""
    params = [torch.nn.Parameter(p.detach().to(device)) for p in make_params(torch.float32)]
    optimizer = cls(params, **options, kernel=name)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step(loss=1.0)
    before = snapshot(optimizer)
    params[0].grad.view(-1)[1] = float("inf")
    optimizer.step(loss=1.0)
    assert optimizer.last_step.skipped_steps == 1
    assert_bit_equal(snapshot(optimizer), before, but=["skipped_steps"])


@by_variant
def test_checkpoints_know_nothing_of_the_kernel(name, device, cls, options):
    """A state dict of one kernel is continued by another, with the same entries."""
    ends = []
    for second in ("eager", name):
        torch.manual_seed(0)
        params = [torch.nn.Parameter(p.detach().to(device)) for p in make_params(torch.float32)]
        first_half, second_half = cls(params, **options, kernel=name), cls(params, **options, kernel=second)
        for p in params:
            p.grad = torch.randn_like(p)
        first_half.step(loss=2.0)
        second_half.load_state_dict(first_half.state_dict())
        second_half.step(loss=1.5)
        ends.append(snapshot(second_half))
    assert ends[0].keys() == ends[1].keys()
    for key, value in ends[0].items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(ends[1][key], value, rtol=1e-5, atol=1e-6)
        else:
            assert ends[1][key] == value


@pytest.mark.parametrize("cls", [Momo, MomoAdam, MomoLion])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16], ids=str)
def test_memory_of_the_compiled_kernel(cls, stored):
    """The kernel allocates a table of 56 bytes per tensor and some numbers, nothing of the size of the model.

    It is measured alone: torch's CPU kernel updates 16-bit parameters through float32 copies, piece by piece.
    """
    peaks = []
    for elements in (1 << 20, 4 << 20):
        param = model_of(elements, "contiguous", stored)
        optimizer = cls([param], kernel="compiled")
        optimizer.step(loss=1.0)
        (block,), weights = optimizer._blocks(), optimizer._averaging()
        peaks.append(peak_memory(lambda o=optimizer, b=block, w=weights: o._measure(b, w)))
    assert 0 < peaks[0] < 4096
    assert peaks[1] == peaks[0]


@pytest.mark.parametrize("cls", [Momo, MomoAdam, MomoLion])
def test_memory_of_a_step(cls):
    """A whole float32 step with the compiled kernel allocates a few kB for any size of the model."""
    peaks = []
    for elements in (1 << 20, 4 << 20):
        param = model_of(elements, "contiguous", torch.float32)
        optimizer = cls([param], weight_decay=0.1, kernel="compiled")
        optimizer.step(loss=1.0)
        peaks.append(peak_memory(lambda o=optimizer: o.step(loss=1.0)))
    assert 0 < peaks[0] < 64 << 10
    assert peaks[1] == peaks[0]
