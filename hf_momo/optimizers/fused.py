"""Calling torch's fused optimizer kernels on tensors of any layout and mixture of dtypes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hf_momo.kernels.slices import are_uniform, blocks_of, piece_size, share_dense_layout


def apply_fused(
    kernel: Callable[..., None],
    columns: Sequence[Sequence[Tensor]],
    *,
    read_only: Sequence[int],
    counters: Sequence[Tensor] | None = None,
    widen_on_cpu: bool = False,
) -> None:
    """Call ``kernel(*lists)`` so that each call gets tensors of one dtype that share a dense layout.

    The fused kernels walk through flat memory without a look at strides. Tensors for which that is wrong are copied
    block by block, and what the kernel wrote is copied back.

    Args:
        kernel: Takes as many lists as there are columns, and one more of the counters where they are given; writes in
            place.
        columns: One list a column, row ``i`` belonging to parameter ``i`` and being of its shape.
        read_only: Columns that the kernel only reads.
        counters: A 0-d tensor a parameter, passed as it is and only read.
        widen_on_cpu: Whether 16-bit tensors on a CPU go through float32 copies, block by block.
    """
    if not columns[0]:
        return
    widen_below = 4 if widen_on_cpu and columns[0][0].device.type == "cpu" else 0
    last = [] if counters is None else [counters]
    if are_uniform(columns) and columns[0][0].element_size() >= widen_below:
        kernel(*map(list, (*columns, *last)))
        return
    by_dtype: dict[torch.dtype, list[tuple[Tensor, ...]]] = {}
    for row in zip(*columns, *last, strict=True):
        shaped, counter = row[: len(columns)], row[len(columns) :]
        param = shaped[0]
        widen = param.element_size() < widen_below
        if param.numel() == 0:
            continue
        if share_dense_layout(shaped) and not widen:
            by_dtype.setdefault(param.dtype, []).append(row)
        else:
            _apply_by_blocks(kernel, shaped, counter, read_only, torch.float32 if widen else param.dtype)
    for rows in by_dtype.values():
        kernel(*(list(column) for column in zip(*rows, strict=True)))


def _apply_by_blocks(
    kernel: Callable[..., None],
    row: Sequence[Tensor],
    counter: Sequence[Tensor],
    read_only: Sequence[int],
    dtype: torch.dtype,
) -> None:
    for blocks in blocks_of(row, piece_size(row[0].device)):
        copies = [block.to(dtype, copy=True, memory_format=torch.contiguous_format) for block in blocks]
        kernel(*([copy] for copy in (*copies, *counter)))
        for index, block in enumerate(blocks):
            if index not in read_only:
                block.copy_(copies[index])
