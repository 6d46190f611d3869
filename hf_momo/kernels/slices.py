"""Cutting tensors of any layout into flat pieces of bounded size.

Kernels and commits work on these pieces, so that the temporary memory of a step is a constant and not a multiple of
the model, and so that strided, expanded and differently laid out tensors need no code of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# On a CPU larger pieces mean fewer calls, smaller ones more hits in the cache: the best of 2^13 to 2^20, found with
# recipes/benchmarks/step_time.py on two cores. On an accelerator a piece should fill the device.
_CPU_ELEMENTS = 1 << 18
_ACCELERATOR_ELEMENTS = 1 << 24


def piece_size(device: torch.device) -> int:
    """Largest number of elements of one piece on ``device``."""
    return _CPU_ELEMENTS if device.type == "cpu" else _ACCELERATOR_ELEMENTS


def share_dense_layout(tensors: Sequence[Tensor]) -> bool:
    """Return whether all tensors fill their memory without gaps, in the same order.

    Such tensors can be walked through as flat memory, which is also what torch's fused kernels assume without
    checking.
    """
    for tensor in tensors:  # a plain loop, as this runs for every parameter at every step
        if not tensor.is_contiguous():
            break
    else:
        return True
    first = tensors[0]
    return _is_dense(first) and all(tensor.stride() == first.stride() for tensor in tensors[1:])


def are_uniform(columns: Sequence[Sequence[Tensor]]) -> bool:
    """Return whether all tensors are contiguous, of one dtype, not empty and as large as the others of their row.

    Asked column by column this takes about half the time that asking every row does.
    """
    dtypes = {tensor.dtype for column in columns for tensor in column}
    if len(dtypes) != 1 or not all(all(map(Tensor.is_contiguous, column)) for column in columns):
        return False
    first, *others = (list(map(Tensor.numel, column)) for column in columns)
    return all(first) and all(sizes == first for sizes in others)


def check_shapes(row: Sequence[Tensor]) -> None:
    """Refuse tensors of one parameter that differ in shape, before a kernel reads one beyond its end.

    Args:
        row: The parameter, its gradient, and its running averages.

    Raises:
        ValueError: If a shape differs from the parameter's.
    """
    shape = row[0].shape
    for index, tensor in enumerate(row):
        if tensor.shape != shape:
            other = "gradient" if index == 1 else "optimizer state"
            raise ValueError(
                f"params: a parameter has shape {tuple(shape)}, but its {other} has shape {tuple(tensor.shape)}: the"
                " parameter was resized after its optimizer was made. Make the optimizer after resizing"
                " (model.resize_token_embeddings and the like)"
            )


def flat_pieces(tensors: Sequence[Tensor], max_elements: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield corresponding flat pieces of tensors of one shape, none of more than ``max_elements`` elements.

    Pieces are views where the memory layout allows it and copies otherwise: read from them, do not write to them.

    Args:
        tensors: Tensors of one shape.
        max_elements: Upper bound of a piece, at least 1.

    Yields:
        One 1-d tensor per input tensor, all of the same length.
    """
    if share_dense_layout(tensors):
        size = tensors[0].numel()
        flat = [torch.as_strided(tensor, (size,), (1,), tensor.storage_offset()) for tensor in tensors]
        for start in range(0, size, max_elements):
            yield tuple(tensor[start : start + max_elements] for tensor in flat)
        return
    for blocks in blocks_of(tensors, max_elements):
        yield tuple(block.reshape(-1) for block in blocks)


def batches_of(columns: Sequence[Sequence[Tensor]], max_elements: int) -> Iterator[tuple[list[Tensor], ...]]:
    """Yield lists of views, so that temporary tensors of a call over many tensors are of bounded size.

    Args:
        columns: Lists of one length, row ``i`` belonging to parameter ``i`` and sharing a dense layout.
        max_elements: Upper bound of the elements of one list, at least 1.

    Yields:
        One list per column. Tensors that are larger than the bound are cut, the others are joined.
    """
    batch: list[tuple[Tensor, ...]] = []
    left = max_elements
    for row in zip(*columns, strict=True):
        for pieces in [row] if row[0].numel() <= max_elements else flat_pieces(row, max_elements):
            if batch and pieces[0].numel() > left:
                yield tuple(map(list, zip(*batch, strict=True)))
                batch, left = [], max_elements
            batch.append(pieces)
            left -= pieces[0].numel()
    if batch:
        yield tuple(map(list, zip(*batch, strict=True)))


def blocks_of(tensors: Sequence[Tensor], max_elements: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield corresponding views of at most ``max_elements`` elements, whatever the strides are.

    Args:
        tensors: Tensors of one shape.
        max_elements: Upper bound of a block, at least 1.

    Yields:
        One view per input tensor, all of the same shape.
    """
    shape = tensors[0].shape
    if tensors[0].numel() <= max_elements:
        yield tuple(tensors)
        return
    longest = max(range(len(shape)), key=shape.__getitem__)
    rows = max(1, max_elements * shape[longest] // tensors[0].numel())
    for blocks in zip(*(tensor.split(rows, dim=longest) for tensor in tensors), strict=True):
        if rows == 1 and blocks[0].numel() > max_elements:
            yield from blocks_of([block.squeeze(longest) for block in blocks], max_elements)
        else:
            yield tuple(blocks)


def _is_dense(tensor: Tensor) -> bool:
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True
