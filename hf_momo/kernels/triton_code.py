# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""The device code of ``triton.py``.

Capital arguments are known when it is compiled. A table is int64: ``NUM_SETTINGS`` float64 numbers by their bits, then
a row for each tensor, which is that of ``tables.py`` and the number of chunks up to its end.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

DTYPES = {
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}

NUM_SETTINGS = 4
SETTINGS = tl.constexpr(NUM_SETTINGS)
WIDTH = tl.constexpr(8)


@triton.jit(do_not_specialize=["num_rows", "num_chunks"])
def measure_kernel(
    table,
    num_rows,
    num_chunks,
    grad_weight,
    scaled_eps,
    corrections,
    partials,
    STORED: tl.constexpr,
    SUMMED: tl.constexpr,
    ADAM: tl.constexpr,
    MOMENTUM: tl.constexpr,
    SIGN: tl.constexpr,
    BATCH: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Three sums, with ``BATCH`` four, over this program's share of the chunks, into its row of ``partials``."""
    program = tl.program_id(0)
    share = (num_chunks + tl.num_programs(0) - 1) // tl.num_programs(0)
    chunk = program * share
    stop = tl.minimum(chunk + share, num_chunks)
    rows = table + SETTINGS
    which = _row_of(rows, num_rows, chunk)
    dot_d = tl.zeros([BLOCK], SUMMED)
    dot_g = tl.zeros([BLOCK], SUMMED)
    norm = tl.zeros([BLOCK], SUMMED)
    grad_norm = tl.zeros([BLOCK], SUMMED)
    while chunk < stop:
        row = rows + which * WIDTH
        size = tl.load(row + 4)
        end = tl.load(row + 7)
        start = (chunk - (end - (size + CHUNK - 1) // CHUNK)) * CHUNK
        whole = (start + CHUNK <= size) & (tl.load(row + 5) == 1)
        if whole & (_all_bits(row, ADAM, MOMENTUM) % 16 == 0):
            dot_d, dot_g, norm, grad_norm = _add_chunk(
                dot_d, dot_g, norm, grad_norm, table, row, start, grad_weight, scaled_eps, corrections,
                STORED, SUMMED, ADAM, MOMENTUM, SIGN, BATCH, CHUNK, BLOCK, True,
            )  # fmt: skip
        else:
            dot_d, dot_g, norm, grad_norm = _add_chunk(
                dot_d, dot_g, norm, grad_norm, table, row, start, grad_weight, scaled_eps, corrections,
                STORED, SUMMED, ADAM, MOMENTUM, SIGN, BATCH, CHUNK, BLOCK, False,
            )  # fmt: skip
        chunk += 1
        which = tl.where(chunk < end, which, which + 1)
    sums = partials + program * (4 if BATCH else 3)
    tl.store(sums, tl.sum(dot_d, axis=0))
    tl.store(sums + 1, tl.sum(dot_g, axis=0))
    tl.store(sums + 2, tl.sum(norm, axis=0))
    if BATCH:
        tl.store(sums + 3, tl.sum(grad_norm, axis=0))


@triton.jit
def _row_of(rows, num_rows, chunk):
    """The row that holds a chunk: the first one that ends after it."""
    low = num_rows * 0
    high = num_rows - 1
    while low < high:
        middle = (low + high) // 2
        ended = tl.load(rows + middle * WIDTH + 7) <= chunk
        low = tl.where(ended, middle + 1, low)
        high = tl.where(ended, high, middle)
    return low


@triton.jit
def _all_bits(row, ADAM: tl.constexpr, MOMENTUM: tl.constexpr):
    """The addresses of a row, joined by or: a multiple of 16 where all of them are."""
    bits = tl.load(row) | tl.load(row + 1)
    if MOMENTUM:
        bits = bits | tl.load(row + 2)
    if ADAM:
        bits = bits | tl.load(row + 3)
    return bits


@triton.jit
def _add_chunk(
    dot_d,
    dot_g,
    norm,
    grad_norm,
    table,
    row,
    start,
    grad_weight,
    scaled_eps,
    corrections,
    STORED: tl.constexpr,
    SUMMED: tl.constexpr,
    ADAM: tl.constexpr,
    MOMENTUM: tl.constexpr,
    SIGN: tl.constexpr,
    BATCH: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """Add a chunk of one tensor to the sums. ``WHOLE``: all elements are there, in aligned memory."""
    weight = tl.load(grad_weight).to(SUMMED)
    beta2 = weight
    weight2 = weight
    eps = weight
    correction = weight
    if ADAM:
        beta2 = _setting(table, SUMMED)
        weight2 = _setting(table + 1, SUMMED)
        eps = tl.load(scaled_eps + tl.load(row + 6)).to(SUMMED)
        correction = tl.load(corrections + tl.load(row + 6)).to(SUMMED)
    left = tl.load(row + 4) - start
    grad_step = tl.load(row + 5)
    reach = CHUNK
    if not WHOLE:
        reach = tl.minimum(left, CHUNK).to(tl.int32)
    for offset in range(0, reach, BLOCK):
        lanes = offset + tl.arange(0, BLOCK)
        x = _elements(row, start, lanes, left, STORED, WHOLE).to(SUMMED)
        if WHOLE:
            g = _elements(row + 1, start, lanes, left, STORED, WHOLE).to(SUMMED)
        else:
            g = _elements(row + 1, start * grad_step, lanes * grad_step, left, STORED, WHOLE).to(SUMMED)
        d = g
        if MOMENTUM:
            d = _elements(row + 2, start, lanes, left, STORED, WHOLE).to(SUMMED)
            d += weight * (g - d)
        terms = tl.abs(d) if SIGN else d * d
        batch_terms = tl.abs(g) if SIGN else g * g
        if ADAM:
            v = _elements(row + 3, start, lanes, left, STORED, WHOLE).to(SUMMED)
            second = beta2 * v + weight2 * (g * g)
            terms = _quotient(terms, second, eps) * correction
            batch_terms = _quotient(batch_terms, second, eps) * correction
        if not WHOLE:
            # A lane beyond the end may be 0 / 0, or hold the one number of an expanded gradient.
            g = tl.where(lanes < left, g, 0.0)
            d = tl.where(lanes < left, d, 0.0)
            terms = tl.where(lanes < left, terms, 0.0)
            batch_terms = tl.where(lanes < left, batch_terms, 0.0)
        dot_d += d * x
        dot_g += g * x
        norm += terms
        if BATCH:
            grad_norm += batch_terms
    return dot_d, dot_g, norm, grad_norm


@triton.jit
def _setting(table, SUMMED: tl.constexpr):
    return tl.load(table).to(tl.float64, bitcast=True).to(SUMMED)


@triton.jit
def _elements(address, start, lanes, left, STORED: tl.constexpr, WHOLE: tl.constexpr):
    pointer = tl.load(address).to(tl.pointer_type(STORED)) + start
    if WHOLE:
        # The hint makes it 16-byte loads.
        return tl.load(tl.multiple_of(pointer, 16) + lanes)
    return tl.load(pointer + lanes, mask=lanes < left, other=0.0)


@triton.jit
def _quotient(numerator, metric, eps):
    # The plain forms for float32 take very small numbers for zero.
    if numerator.dtype == tl.float32:
        return tl.div_rn(numerator, tl.sqrt_rn(metric) + eps)
    else:
        return numerator / (tl.sqrt(metric) + eps)
