"""Inner products of a step, and the update of sign methods, on a CPU by C code: one call over all tensors.

``measure.c`` reads every tensor once, in vector registers, and holds no memory but the sums. A compiler builds it
at the first step of the first optimizer on a machine (see ``compiler.py``), as one program for all shapes, groups
and dtypes, so nothing is ever compiled again. It runs on torch's own threads. Blocks are added up in float64 in one
order, so the same tensors on the same number of threads give the same bits.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from hf_momo.kernels.compiler import load_library
from hf_momo.kernels.tables import INDEX, SIZE, Row, TableKernel, split

_C_NAMES = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "bfloat16", torch.float16: "float16"}
# Fewer elements are not worth the waking of another thread.
_ELEMENTS_OF_A_THREAD = 1 << 18

# Runtimes that PyTorch is built on: GNU's, Intel's and LLVM's, which both answer to GNU's names on Linux.
_RUNTIMES = ("libgomp.so.1", "libiomp5.so", "libomp.so.5", "libomp.so")

_int64, _double, _pointer = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class _Runtime(ctypes.Structure):
    _fields_ = (("parallel", _pointer), ("thread_num", _pointer), ("num_threads", _pointer))


class _Job(ctypes.Structure):
    _fields_ = (
        ("rows", _pointer),
        ("num_rows", _int64),
        ("num_parts", _int64),
        ("batch_slope", _int64),
        ("sums", _pointer),
        ("runtime", ctypes.POINTER(_Runtime)),
    )


_ARGUMENTS = {
    "identity": (ctypes.POINTER(_Job), _pointer),
    "sign": (ctypes.POINTER(_Job), _pointer),
    "adam": (ctypes.POINTER(_Job), _double, _double, _pointer, _pointer),
    "update_sign": (ctypes.POINTER(_Job), _double, _double, _pointer, _pointer),
}


def _call(
    kind: str,
    stored: torch.dtype,
    dtype: torch.dtype | None,
    rows: Sequence[Row],
    batch_slope: bool,
    *arguments: float,
) -> Tensor:
    """Return the sums of a kind of loop over the rows; an update has none, and no ``dtype``."""
    function = _function(kind, stored, dtype)
    assert function is not None
    table = array("q", chain.from_iterable(rows))
    num_parts = max(1, min(torch.get_num_threads(), sum(row[SIZE] for row in rows) // _ELEMENTS_OF_A_THREAD))
    sums = torch.empty(num_parts, 4, dtype=torch.float64)
    job = _Job(table.buffer_info()[0], len(rows), num_parts, batch_slope, sums.data_ptr(), _runtime(os.getpid()))
    function(ctypes.byref(job), *arguments)
    return sums if dtype is None else sums.sum(dim=0)[: 4 if batch_slope else 3].to(dtype)


_PROCESS = os.getpid()


@functools.cache
def _runtime(process: int) -> Any:
    """Pointer to the threads that torch itself computes with, a null pointer where they cannot be had.

    Threads of our own would share the cores with torch's, which go on spinning for milliseconds after every operation:
    18.7 instead of 11.8 ms for 36.7 million parameters on two cores. A forked process has none of its parent's
    threads, and would wait for them for ever.
    """
    if process == _PROCESS:
        for name in _RUNTIMES:
            with contextlib.suppress(OSError, AttributeError):
                library = ctypes.CDLL(name, mode=os.RTLD_NOLOAD)
                functions = (library.GOMP_parallel, library.omp_get_thread_num, library.omp_get_num_threads)
                return ctypes.pointer(_Runtime(*(ctypes.cast(function, _pointer).value for function in functions)))
    return ctypes.POINTER(_Runtime)()


@functools.cache
def _readable(dtype: torch.dtype) -> tuple[torch.dtype, ...]:
    """Dtypes of tensors that can be summed in ``dtype``. A compiler may lack float16."""
    return tuple(stored for stored in _C_NAMES if _function("adam", stored, dtype) is not None)


@functools.cache
def _function(kind: str, stored: torch.dtype, dtype: torch.dtype | None) -> Callable[..., None] | None:
    names = [kind, _C_NAMES[stored], *([] if dtype is None else [_C_NAMES[dtype]])]
    function = getattr(load_library(), "_".join(names), None)
    if function is not None:
        function.argtypes, function.restype = _ARGUMENTS[kind], None
    return function


def _average(
    kind: str,
    stored: torch.dtype,
    dtype: torch.dtype,
    rows: tuple[Row, ...],
    grad_weight: Tensor,
    has_average: bool,
    batch_slope: bool,
) -> Tensor:
    return _call(kind, stored, dtype, rows, batch_slope, grad_weight.data_ptr())


def _adam(
    stored: torch.dtype,
    dtype: torch.dtype,
    rows: tuple[Row, ...],
    betas: tuple[float, float],
    scaled_eps: Tensor,
    corrections: Tensor,
    batch_slope: bool,
) -> Tensor:
    return _call("adam", stored, dtype, rows, batch_slope, *betas, scaled_eps.data_ptr(), corrections.data_ptr())


def update_sign(*columns: Sequence[Tensor], betas: tuple[float, float], lr: Tensor, skip: Tensor) -> Sequence[int]:
    """Take the step of a sign method; see ``eager.update_sign``. The loop reads and writes every tensor once."""
    readable = [stored for stored in _C_NAMES if _function("update_sign", stored, None) is not None]
    tables, other = split(columns, readable)
    wide_lr, wide_skip = lr.double(), skip.double()
    for stored, rows in tables.items():
        _call("update_sign", stored, None, rows, False, *betas, wide_lr.data_ptr(), wide_skip.data_ptr())
        for row in rows:
            # torch does this for what its own operations write to, so that autograd sees a use after the change.
            torch.autograd.graph.increment_version(columns[0][row[INDEX]])
    return other


_kernel = TableKernel(_readable, lambda dtype: torch.float64, _average, _adam)
measure_identity, measure_sign, measure_adam = _kernel.measure_identity, _kernel.measure_sign, _kernel.measure_adam
