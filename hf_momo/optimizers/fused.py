"""Calling torch's fused optimizer kernels on tensors of any layout and mixture of dtypes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hf_momo.kernels.slices import blocks_of, piece_size, share_dense_layout


def apply_fused(
    kernel: Callable[..., None],
    columns: Sequence[Sequence[Tensor]],
    *,
    read_only: Sequence[int],
    widen_on_cpu: bool = False,
) -> None:
    """Call ``kernel(*lists)`` so that each call gets tensors of one dtype that share a dense layout.

    The fused kernels walk through flat memory without a look at strides. Tensors for which that is wrong are copied
    block by block, and what the kernel wrote is copied back.

    Args:
        kernel: Takes as many lists as there are columns, writes in place.
        columns: One list a column, row ``i`` belonging to parameter ``i``. Columns of 0-d tensors (step counters) are
            passed as they are.
        read_only: Columns that the kernel only reads.
        widen_on_cpu: Whether 16-bit tensors on a CPU go through float32 copies, block by block.
    """
    by_dtype: dict[torch.dtype, list[tuple[Tensor, ...]]] = {}
    for row in zip(*columns, strict=True):
        shaped = [tensor for tensor in row if tensor.shape == row[0].shape]
        if row[0].numel() == 0:
            continue
        widen = widen_on_cpu and row[0].device.type == "cpu" and row[0].element_size() < 4
        if share_dense_layout(shaped) and not widen:
            by_dtype.setdefault(row[0].dtype, []).append(row)
        else:
            _apply_by_blocks(kernel, row, read_only, torch.float32 if widen else row[0].dtype)
    for rows in by_dtype.values():
        kernel(*(list(column) for column in zip(*rows, strict=True)))


def _apply_by_blocks(
    kernel: Callable[..., None], row: Sequence[Tensor], read_only: Sequence[int], dtype: torch.dtype
) -> None:
    shaped = [index for index, tensor in enumerate(row) if tensor.shape == row[0].shape]
    for blocks in blocks_of([row[index] for index in shaped], piece_size(row[0].device)):
        copies = list(row)
        for index, block in zip(shaped, blocks, strict=True):
            copies[index] = block.to(dtype, copy=True, memory_format=torch.contiguous_format)
        kernel(*([copy] for copy in copies))
        for index, block in zip(shaped, blocks, strict=True):
            if index not in read_only:
                block.copy_(copies[index])
