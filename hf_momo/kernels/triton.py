"""Inner products of a step on a GPU by a Triton kernel: one launch over all tensors of a dtype, whatever their sizes.

A table in device memory holds the address and the size of every tensor. Tensors are cut into chunks, each program
walks through its share of the chunks one after the other, adds up in registers and writes three or four numbers; these
are added up in float64. The number of programs depends on the device alone, so memory is a constant, nothing waits for
the device, and the same tensors give the same bits on every run. Nothing here is particular to a vendor.

With ``TRITON_INTERPRET=1`` set before triton is imported, the same code runs on a CPU, slowly: for tests.
"""

from __future__ import annotations

import contextlib
import functools
import struct

import torch
from torch import Tensor

from hf_momo.kernels import eager
from hf_momo.kernels.tables import SIZE, Row, TableKernel
from hf_momo.kernels.triton_code import DTYPES, NUM_SETTINGS, measure_kernel

# Not timed on a GPU yet. A block is 8 elements a thread, for each of up to four tensors; 8 programs of 4 warps fill
# half of a processor's thread slots, and their loads in flight exceed what its share of the bandwidth needs.
BLOCK = 1024
CHUNK = 4 * BLOCK
NUM_WARPS = 4
PROGRAMS_A_PROCESSOR = 8
INTERPRETED_PROGRAMS = 3

# Tables of gradients that come and go at other addresses are made anew; these many are kept.
_NUM_TABLES = 64


def _launch(
    stored: torch.dtype,
    dtype: torch.dtype,
    rows: tuple[Row, ...],
    betas: tuple[float, float],
    grad_weight: Tensor,
    adam: tuple[Tensor, Tensor] | None,
    *,
    momentum: bool = True,
    sign: bool = False,
    batch_slope: bool,
) -> Tensor:
    device = grad_weight.device
    table, num_chunks = _table(rows, betas, device)
    programs = _num_programs(device)
    partials = torch.empty(programs, 4 if batch_slope else 3, dtype=dtype, device=device)
    eps, corrections = adam if adam is not None else (grad_weight, grad_weight)
    # A launch goes to the current device, which need not be that of the tensors.
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        measure_kernel[programs,](
            table,
            len(rows),
            num_chunks,
            grad_weight,
            eps,
            corrections,
            partials,
            STORED=DTYPES[stored],
            SUMMED=DTYPES[dtype],
            ADAM=adam is not None,
            MOMENTUM=momentum,
            SIGN=sign,
            BATCH=batch_slope,
            CHUNK=CHUNK,
            BLOCK=BLOCK,
            num_warps=NUM_WARPS,
        )
    return partials.sum(dim=0, dtype=torch.float64).to(dtype)


@functools.cache
def _num_programs(device: torch.device) -> int:
    if device.type != "cuda":
        return INTERPRETED_PROGRAMS
    return int(torch.cuda.get_device_properties(device).multi_processor_count) * PROGRAMS_A_PROCESSOR


# Tables written while a CUDA graph is captured: a replay copies the host's half once more, so it has to stay.
_tables_of_graphs: list[tuple[Tensor, Tensor]] = []


def _table(rows: tuple[Row, ...], betas: tuple[float, float], device: torch.device) -> tuple[Tensor, int]:
    """Return the table on ``device`` and the number of chunks."""
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        # Neither may a table of the graph be found by a later step (its memory is the graph's, and filled by a replay
        # only), nor may the graph read a table that the cache can drop.
        host, table, num_chunks = _make_table(rows, betas, device)
        _tables_of_graphs.append((host, table))
        return table, num_chunks
    return _cached_table(rows, betas, device)[1:]


def _make_table(rows: tuple[Row, ...], betas: tuple[float, float], device: torch.device) -> tuple[Tensor, Tensor, int]:
    settings = (*betas, *(0.0,) * (NUM_SETTINGS - len(betas)))
    numbers = list(struct.unpack(f"{NUM_SETTINGS}q", struct.pack(f"{NUM_SETTINGS}d", *settings)))
    end = 0
    for row in rows:
        end += -(-row[SIZE] // CHUNK)
        numbers += (*row, end)
    host = torch.tensor(numbers, dtype=torch.int64, pin_memory=device.type == "cuda")
    # From pinned memory, so that the copy is queued like a kernel and the host does not wait for it.
    return host, host.to(device, non_blocking=True), end


_cached_table = functools.lru_cache(maxsize=_NUM_TABLES)(_make_table)


def _average(
    kind: str,
    stored: torch.dtype,
    dtype: torch.dtype,
    rows: tuple[Row, ...],
    grad_weight: Tensor,
    has_average: bool,
    batch_slope: bool,
) -> Tensor:
    options = {"momentum": has_average, "sign": kind == "sign", "batch_slope": batch_slope}
    return _launch(stored, dtype, rows, (0.0, 0.0), grad_weight, None, **options)


def _adam(
    stored: torch.dtype,
    dtype: torch.dtype,
    rows: tuple[Row, ...],
    betas: tuple[float, float],
    scaled_eps: Tensor,
    corrections: Tensor,
    batch_slope: bool,
) -> Tensor:
    weight = torch.full((), 1.0 - betas[0], dtype=dtype, device=scaled_eps.device)
    settings = (betas[1], 1.0 - betas[1])
    return _launch(stored, dtype, rows, settings, weight, (scaled_eps, corrections), batch_slope=batch_slope)


_kernel = TableKernel(lambda dtype: tuple(DTYPES), lambda dtype: dtype, _average, _adam)
measure_identity, measure_sign, measure_adam = _kernel.measure_identity, _kernel.measure_sign, _kernel.measure_adam
update_sign = eager.update_sign
