"""A step reads no number from the device, and its scratch memory does not grow with the model."""

import pytest
import torch
from memory import model_of, peak_memory
from optimizer_cases import METHODS, VARIANTS, backward, make_params, supported
from torch import nn

by_variant = pytest.mark.parametrize(("cls", "options"), VARIANTS.values(), ids=VARIANTS.keys())

READS = {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero"}


def events_of(step):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    return profile.events()


def within_a_fused_kernel(event):
    while event is not None:
        if event.name.startswith("aten::_fused_"):
            return True
        event = event.cpu_parent
    return False


@by_variant
@pytest.mark.parametrize("options_more", [{}, {"adapt_lower_bound": True, "weight_decay": 0.1}], ids=["plain", "all"])
def test_no_host_synchronisation(cls, options, options_more):
    """No element of a tensor becomes a Python number, for which the host would wait for an accelerator.

    torch's fused CPU kernels are exempt: they read the 0-d ``lr`` and Adam's counters, which the CUDA kernels take as
    pointers.
    """
    params = [*make_params(torch.float32), *make_params(torch.bfloat16), nn.Parameter(torch.randn(8, 6)[:, ::2])]
    groups = [{"params": params[:3]}, {"params": params[3:], "lr": 0.02}]
    optimizer = cls(groups, **supported(cls, {**options, **options_more}))
    weight = torch.tensor(0.5)
    for k in range(3):  # the first step, and steps that read the state made by it
        loss = backward(params, torch.Generator().manual_seed(k))
        params[0].grad = None if k == 2 else params[0].grad
        events = events_of(lambda loss=loss: optimizer.step(loss=loss, sample_weight=weight))
        assert any(event.name.startswith("aten::") for event in events)
        assert [e.name for e in events if e.name in READS and not within_a_fused_kernel(e)] == []


def test_trace_sees_a_read():
    """The check above finds a number that is read."""
    loss = torch.tensor(1.0)
    assert any(event.name in READS for event in events_of(lambda: float(loss)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@by_variant
def test_no_synchronisation_on_cuda(cls, options):
    """CUDA raises an error if a call waits for the device."""
    params = [nn.Parameter(p.detach().cuda()) for p in make_params(torch.float32)]
    optimizer = cls([{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.1}], **options)
    loss, weight = torch.tensor(1.5, device="cuda"), torch.tensor(0.5, device="cuda")
    for _ in range(3):
        for p in params:
            p.grad = torch.randn_like(p)
        torch.cuda.set_sync_debug_mode("error")
        try:
            optimizer.step(loss=loss, sample_weight=weight)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert optimizer.last_step.num_steps == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@by_variant
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_cuda_equals_cpu(cls, options, dtype):
    """Steps on both devices agree to the rounding of the dtype, and both skip a bad batch."""
    ends = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        params = [nn.Parameter(p.detach().to(device)) for p in make_params(dtype)]
        optimizer = cls(params, **{"weight_decay": 0.1, **options})
        generator = torch.Generator().manual_seed(1)
        for loss in (2.0, float("nan"), 1.5, 3.0):
            for p in params:
                p.grad = torch.randn(p.shape, generator=generator).to(p)
            optimizer.step(loss=loss)
        assert optimizer.last_step.skipped_steps == 1
        ends.append(torch.cat([p.detach().cpu().double().reshape(-1) for p in params]))
    tolerance = 8 * max(torch.finfo(dtype).eps, 1e-6)
    torch.testing.assert_close(ends[1], ends[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cls", [method.cls for method in METHODS.values() if method.constant_scratch])
@pytest.mark.parametrize(
    ("layout", "dtype"),
    [
        ("contiguous", torch.float32),
        ("contiguous", torch.bfloat16),
        ("expanded gradient", torch.float32),
        ("strided", torch.float32),
    ],
    ids=str,
)
def test_scratch_memory_is_a_constant(cls, layout, dtype):
    """A step allocates the same few MB at its peak for 1 and for 4 million elements."""
    peaks = []
    for elements in (1 << 20, 4 << 20):
        param = model_of(elements, layout, dtype)
        optimizer = cls([param], weight_decay=0.1)
        optimizer.step(loss=1.0)
        peaks.append(peak_memory(lambda optimizer=optimizer: optimizer.step(loss=1.0)))
    assert 0 < peaks[0] < 12 << 20
    assert abs(peaks[1] - peaks[0]) < 64 << 10


def test_memory_is_measured():
    """The measurement sees a temporary copy of the model."""
    assert peak_memory(lambda: torch.ones(1 << 20).mul(2.0).sum()) >= 8 << 20
