"""Choice of the kernel by name, device and size, and the error where a kernel cannot run."""

import copy
import importlib.util
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from hf_momo import Momo, MomoAdam, kernels
from hf_momo.kernels import (
    COMPILED_FROM_ELEMENTS,
    ELEMENTS_OF_A_TENSOR,
    KERNELS,
    compiled,
    compiler,
    eager,
    get_kernel,
)
from hf_momo.kernels.compiler import NoCompilerError

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """The state of a process that has built nothing yet, with an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache" / "hf_momo"
    monkeypatch.undo()
    forget()


def forget():
    compiler.load_library.cache_clear()
    kernels._log_once.cache_clear()


def test_names_of_a_cpu():
    assert get_kernel("eager", CPU, 10) is eager
    assert get_kernel("compiled", CPU, 10) is compiled


def test_auto():
    """Small models do not pay for a compiler run; on other devices only the eager kernel has been timed."""
    below = COMPILED_FROM_ELEMENTS - ELEMENTS_OF_A_TENSOR - 1
    assert get_kernel("auto", CPU, below) is eager
    assert get_kernel("auto", CPU, below + 1) is compiled
    assert get_kernel("auto", CPU, 64 * 100, num_tensors=100) is eager
    assert get_kernel("auto", CPU, 64 * 5_000, num_tensors=5_000) is compiled
    assert get_kernel("auto", CUDA, 10**9) is eager
    assert get_kernel("auto", MPS, 10**9) is eager


def test_unknown():
    with pytest.raises(ValueError, match=r"kernel: got 'cuda', must be one of 'auto', 'eager', 'compiled', 'triton'"):
        kernels.check_kernel("cuda")


def test_another_device(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=r"kernel: got 'compiled', which runs on cpu and not on .* device cuda"):
        get_kernel("compiled", CUDA, 10)
    if importlib.util.find_spec("triton") is None:  # not imported: the interpreter must be requested first
        pytest.skip("triton is not installed")
    with pytest.raises(ValueError, match=r"kernel: got 'triton', which runs on cuda and not on .* device cpu"):
        get_kernel("triton", CPU, 10)


@pytest.mark.parametrize("name", KERNELS)
def test_triton_is_an_extra(monkeypatch, name):
    """Without the package only ``kernel="triton"`` is refused, when the optimizer is made."""
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    if name == "triton":
        with pytest.raises(ValueError, match="kernel: got 'triton', but the package triton is not installed"):
            Momo([nn.Parameter(torch.ones(2))], kernel=name)
    else:
        Momo([nn.Parameter(torch.ones(2))], kernel=name)


@pytest.mark.parametrize(
    ("cc", "reason"),
    [
        ("/nowhere/cc -O1", "CC=/nowhere/cc -O1: there is no such program"),
        ("false", "measure.c -lm -o .* failed: 1"),
    ],
)
def test_no_compiler(fresh, monkeypatch, caplog, cc, reason):
    """A failed build is an error for ``kernel="compiled"``; with ``"auto"`` it is logged and the eager kernel runs."""
    monkeypatch.setenv("CC", cc)
    with pytest.raises(NoCompilerError, match=rf"kernel: got 'compiled', but .*{reason}.*; install a C compiler"):
        get_kernel("compiled", CPU, 10)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert get_kernel("auto", CPU, COMPILED_FROM_ELEMENTS) is eager
    (record,) = caplog.records
    assert record.getMessage().startswith("kernel: 'eager' instead of the faster 'compiled'")


def test_no_compiler_on_path(fresh, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoCompilerError, match=r"no C compiler \(cc, gcc, clang\) on PATH, and CC is not set"):
        compiler.load_library()


def test_built_once(fresh, monkeypatch):
    """A second process loads the library that the first one built, and no temporary file is left."""
    compiler.load_library()
    (built,) = fresh.iterdir()
    compiler.load_library.cache_clear()
    monkeypatch.setattr(compiler.subprocess, "run", lambda *args, **kwargs: pytest.fail("built again"))
    compiler.load_library()
    assert built.suffix == ".so"


def test_no_cache_folder(fresh):
    """Where a file stands in place of the cache folder, the library is built in a temporary folder of the process."""
    fresh.parent.write_text("")
    library = Path(compiler.load_library()._name)
    assert library.is_file()
    assert library.parent == Path(compiler._own_folder().name)
    assert get_kernel("compiled", CPU, 10) is compiled
    assert fresh.parent.read_text() == ""


def test_logged_once(fresh, caplog):
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            get_kernel("auto", CPU, 10)
    assert [record.getMessage() for record in caplog.records] == [
        "kernel: 'eager' for 10 parameters on cpu (asked for: 'auto')"
    ]


@pytest.mark.parametrize("cls", [Momo, MomoAdam])
def test_chosen_by_the_optimizer(cls):
    """The choice is made once, at the first step. Copies choose anew, and checkpoints do not hold the choice."""
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    optimizer = cls([weight], kernel="compiled")
    assert optimizer._kernel_choice.chosen is None
    optimizer.step(loss=1.0)
    assert optimizer._kernel is compiled
    other = copy.deepcopy(optimizer)
    assert other._kernel_choice.chosen is None
    assert other._kernel is compiled
    assert "kernel" not in optimizer.state_dict()["param_groups"][0]
