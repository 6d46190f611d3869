"""Properties of the Triton kernel alone: its table, its programs, and its machine code.

Its sums are in ``test_sums.py``, its steps in ``test_steps.py``. Without a GPU Triton's interpreter runs the code, and
the machine code is looked at but not run.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from optimizer_cases import VARIANTS, assert_near, make_params
from torch import nn

pytest.importorskip("triton", minversion="3.7")

from hf_momo.kernels import eager
from hf_momo.kernels import triton as kernel

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
by_variant = pytest.mark.parametrize(("cls", "options"), VARIANTS.values(), ids=VARIANTS.keys())
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def columns_of(shapes, dtype=torch.float32):
    return [[torch.randn(shape, device=DEVICE).to(dtype) for shape in shapes] for _ in range(3)]


def measured(columns, by=kernel):
    weight = torch.tensor(0.1, device=DEVICE)
    return by.measure_identity(*columns, grad_weight=weight, dtype=torch.float32)


@pytest.fixture
def launches(monkeypatch):
    """The number of tensors in every launch."""
    seen = []
    real = kernel.measure_kernel

    class Counted:
        def __getitem__(self, grid):
            def launch(table, num_rows, *args, **kwargs):
                seen.append(num_rows)
                return real[grid](table, num_rows, *args, **kwargs)

            return launch

    monkeypatch.setattr(kernel, "measure_kernel", Counted())
    return seen


@pytest.mark.parametrize("programs", [1, 2, 11])
def test_number_of_programs(monkeypatch, programs):
    """Every chunk belongs to exactly one program, also with more programs than chunks."""
    monkeypatch.setattr(kernel, "_num_programs", lambda device: programs)
    columns = columns_of([(2 * kernel.CHUNK,), (3,), (kernel.CHUNK + 1,), (kernel.CHUNK - 1,), (7, 5)])
    torch.testing.assert_close(measured(columns), measured(columns, eager), rtol=1e-5, atol=1e-2)


def test_every_element_counts_once():
    """The sum of ones is their number, for whole and partial chunks."""
    for size in (1, kernel.BLOCK, kernel.CHUNK - 1, kernel.CHUNK, kernel.CHUNK + 1, 3 * kernel.CHUNK + 5):
        ones = [torch.ones(size, device=DEVICE)]
        weight = torch.tensor(1.0, device=DEVICE)
        sums = kernel.measure_identity(ones, ones, grad_weight=weight, dtype=torch.float32)
        assert sums.tolist() == [float(size)] * 3


def test_one_launch_a_dtype(launches):
    """Many small tensors and a larger one, of two dtypes, take one launch per dtype."""
    shapes = [(i % 7 + 1,) for i in range(30)] + [(kernel.CHUNK + 9,)]
    narrow = columns_of(shapes[:12], torch.bfloat16)
    columns = [a + b for a, b in zip(columns_of(shapes), narrow, strict=True)]
    torch.testing.assert_close(measured(columns), measured(columns, eager), rtol=1e-5, atol=1e-2)
    assert launches == [31, 12]


def test_tables_stay_while_the_tensors_do():
    """The table is made and copied once for tensors at the same addresses, and old tables are dropped."""
    kernel._cached_table.cache_clear()
    columns = columns_of([(3,), (4, 5)])
    for _ in range(3):
        measured(columns)
    assert kernel._cached_table.cache_info()[:2] == (2, 1)  # hits, misses
    kept = [columns_of([(1,)]) for _ in range(kernel._NUM_TABLES + 1)]
    for other in kept:
        kernel._table(((*(column[0].data_ptr() for column in other), 0, 1, 1, 0),), (0.0, 0.0), DEVICE)
    assert kernel._cached_table.cache_info().currsize == kernel._NUM_TABLES


@pytest.fixture(scope="module")
def machine_code(tmp_path_factory):
    """Assembly of the kernel for Adam's metric, for an H100, an A100 and an AMD MI300."""
    targets = ["cuda:90:32", "float32", "cuda:80:32", "bfloat16", "hip:gfx942:64", "float32"]
    script = Path(__file__).with_name("device_code.py")
    cache = str(tmp_path_factory.mktemp("triton"))
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, str(script), *targets], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_loads_are_as_wide_as_they_get(machine_code):
    """A thread loads its eight elements of each of the four tensors 16 bytes at a time."""
    for assembly, loads in zip(machine_code, (8, 4), strict=False):
        assert len(re.findall(r"ld\.global\.v4\.b32", assembly["ptx"])) == loads


def test_arithmetic_is_exact(machine_code):
    """Roots and quotients are correctly rounded: approximate ones take tiny second moments for zero."""
    for assembly in machine_code[:2]:
        assert set(re.findall(r"\b(?:sqrt|div)\.\w+(?:\.ftz)?\.f32", assembly["ptx"])) == {"sqrt.rn.f32", "div.rn.f32"}


def test_registers_suffice(machine_code):
    """No register is spilled to memory."""
    for assembly in machine_code[:2]:
        assert ".local" not in assembly["ptx"]
    assert re.search(r"\.private_segment_fixed_size:\s+0\b", machine_code[2]["amdgcn"])


@pytest.mark.gpu
@needs_gpu
@by_variant
def test_no_synchronisation(cls, options):
    """CUDA raises an error if a call waits for the device; gradients are new tensors at each step."""
    params = [nn.Parameter(p.detach().cuda()) for p in make_params(torch.float32)]
    optimizer = cls(params, **options, kernel="triton")
    loss = torch.tensor(1.5, device="cuda")
    for _ in range(3):
        for p in params:
            p.grad = torch.randn_like(p)
        torch.cuda.set_sync_debug_mode("error")
        try:
            optimizer.step(loss=loss)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert optimizer.last_step.num_steps == 3


@pytest.mark.gpu
@needs_gpu
@by_variant
def test_captured_in_a_graph(cls, options):
    """Replaying a captured step equals taking the steps, also after tables were dropped."""
    ends = []
    for captured in (False, True):
        torch.manual_seed(0)
        params = [nn.Parameter(p.detach().cuda()) for p in make_params(torch.float32)]
        optimizer = cls(params, **options, kernel="triton")
        loss = torch.tensor(2.0, device="cuda")
        for p in params:
            p.grad = torch.randn_like(p)
        graph = torch.cuda.CUDAGraph() if captured else None
        optimizer.step(loss=loss)
        if graph is not None:
            torch.cuda.synchronize()
            with torch.cuda.graph(graph):
                optimizer.step(loss=loss)
            kernel._cached_table.cache_clear()
        for k in range(4):
            loss.fill_(1.5 + k)
            for p in params:
                p.grad.mul_(0.9)
            graph.replay() if graph is not None else optimizer.step(loss=loss)
        assert optimizer.last_step.num_steps == 5
        ends.append(torch.cat([p.detach().reshape(-1) for p in params]))
    assert_near(ends[1].cpu(), ends[0].cpu().double(), 1e-6, "parameters")
