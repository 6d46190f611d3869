"""Inner products of a step on a CPU by C code that the user's own compiler makes: one call over all tensors.

``measure.c`` reads every tensor once, in vector registers, and holds no memory but the sums. It is built at the first
step of the first optimizer on a machine (see ``compiler.py``) and is one program for all shapes, groups and dtypes, so
nothing is ever compiled again. Blocks are added up in float64 in one order, so the same tensors on the same number of
threads give the same bits.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from hf_momo.kernels import eager
from hf_momo.kernels.compiler import load_library
from hf_momo.kernels.tables import SIZE, Row, measure_by_tables, pick, pick_numbers

_C_NAMES = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "bfloat16", torch.float16: "float16"}
# Fewer elements are not worth the waking of another thread (some 50 microseconds).
_ELEMENTS_OF_A_THREAD = 1 << 18

_int64, _double, _pointer = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
_TABLE = (_pointer, _int64, _int64, _int64)
_ARGUMENTS = {
    "identity": (*_TABLE, _pointer, _pointer),
    "adam": (*_TABLE, _double, _double, _pointer, _pointer, _pointer),
}


def measure_identity(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor] | None,
    *,
    grad_weight: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """Inner products for the identity metric; see ``eager.measure_identity``.

    Raises:
        NoCompilerError: If the C code cannot be built here.
    """
    weight = grad_weight.to(torch.float64)

    def by_table(stored: torch.dtype, rows: tuple[Row, ...]) -> Tensor:
        return _call("identity", stored, dtype, rows, weight.data_ptr())

    def by_eager(indices: list[int]) -> Tensor:
        averages = None if exp_avgs is None else pick(exp_avgs, indices)
        return eager.measure_identity(
            pick(params, indices), pick(grads, indices), averages, grad_weight=grad_weight, dtype=dtype
        )

    columns = (params, grads) if exp_avgs is None else (params, grads, exp_avgs)
    return measure_by_tables(columns, _readable(dtype), by_table, by_eager)


def measure_adam(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    *,
    betas: tuple[float, float],
    eps: float,
    bias_corrections: tuple[Tensor, Tensor],
    dtype: torch.dtype,
) -> Tensor:
    """Inner products for Adam's metric; see ``eager.measure_adam``.

    Raises:
        NoCompilerError: If the C code cannot be built here.
    """
    columns = (params, grads, exp_avgs, exp_avg_sqs)
    first, second = (correction.to(torch.float64) for correction in bias_corrections)
    roots = second.sqrt()
    scaled_eps, corrections = (eps * roots).contiguous(), (roots / first).contiguous()

    def by_table(stored: torch.dtype, rows: tuple[Row, ...]) -> Tensor:
        return _call("adam", stored, dtype, rows, *betas, scaled_eps.data_ptr(), corrections.data_ptr())

    def by_eager(indices: list[int]) -> Tensor:
        return eager.measure_adam(
            *(pick(column, indices) for column in columns),
            betas=betas,
            eps=eps,
            bias_corrections=pick_numbers(bias_corrections, indices),
            dtype=dtype,
        )

    return measure_by_tables(columns, _readable(dtype), by_table, by_eager)


def _call(kind: str, stored: torch.dtype, dtype: torch.dtype, rows: tuple[Row, ...], *arguments: float) -> Tensor:
    function = _function(kind, stored, dtype)
    assert function is not None
    table = torch.tensor(rows, dtype=torch.int64)
    num_parts = max(1, min(torch.get_num_threads(), sum(row[SIZE] for row in rows) // _ELEMENTS_OF_A_THREAD))
    sums = torch.empty(num_parts, 3, dtype=torch.float64)

    def measure(part: int) -> None:
        function(table.data_ptr(), len(rows), part, num_parts, *arguments, sums[part].data_ptr())

    others = [_threads(os.getpid(), num_parts - 1).submit(measure, part) for part in range(1, num_parts)]
    measure(0)
    for other in others:
        other.result()
    return sums.sum(dim=0).to(dtype)


@functools.lru_cache(maxsize=1)
def _threads(process: int, number: int) -> ThreadPoolExecutor:
    # By process, as a forked one has none of its parent's threads. Not OpenMP: a second runtime beside torch's own
    # would keep threads of both spinning on the same cores.
    return ThreadPoolExecutor(number, thread_name_prefix="hf_momo_measure")


@functools.cache
def _readable(dtype: torch.dtype) -> tuple[torch.dtype, ...]:
    """Dtypes of tensors that can be summed in ``dtype``. A compiler may lack float16."""
    return tuple(stored for stored in _C_NAMES if _function("adam", stored, dtype) is not None)


@functools.cache
def _function(kind: str, stored: torch.dtype, dtype: torch.dtype) -> Callable[..., None] | None:
    function = getattr(load_library(), f"{kind}_{_C_NAMES[stored]}_{_C_NAMES[dtype]}", None)
    if function is not None:
        function.argtypes, function.restype = _ARGUMENTS[kind], None
    return function
