"""Addresses and sizes of many tensors, so that a kernel walks through all of them in one call.

A kernel of this kind reads flat memory. Tensors for which that is wrong (strided, laid out in different orders, of
different dtypes within a row, of a subclass) are left to the eager kernel, which takes any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hf_momo.kernels.slices import share_dense_layout

Columns = Sequence[Sequence[Tensor]]
"""Parameters, gradients, and the averages there are: lists of one length, row ``i`` belonging to parameter ``i``."""

Row = tuple[int, ...]
"""Of one parameter: addresses of parameter, gradient and two averages (0 where there is none), number of elements,
step of the gradient (0 where it is one number expanded, else 1), index in the columns."""

SIZE, GRAD_STEP = 4, 5
"""Where these stand in a row."""

_NUM_ADDRESSES = 4


def measure_by_tables(
    columns: Columns,
    dtypes: Sequence[torch.dtype],
    measure_table: Callable[[torch.dtype, tuple[Row, ...]], Tensor],
    measure_other: Callable[[list[int]], Tensor],
) -> Tensor:
    """Sums over all rows: those that can be walked as flat memory by table, the others by another kernel.

    Args:
        columns: Parameters, gradients and averages.
        dtypes: What ``measure_table`` reads.
        measure_table: Takes the dtype of the tensors and their rows, called once a dtype; returns shape ``(3,)``.
        measure_other: Takes the indices of rows that no table holds, returns shape ``(3,)``.

    Raises:
        ValueError: If there are no rows.
    """
    tables, other = split(columns, dtypes)
    sums = [measure_table(dtype, tuple(rows)) for dtype, rows in tables.items()]
    if other:
        sums.append(measure_other(other))
    if not sums:
        raise ValueError("params: must not be empty")
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(dim=0)


def split(columns: Columns, dtypes: Sequence[torch.dtype]) -> tuple[dict[torch.dtype, list[Row]], list[int]]:
    """Table rows by dtype, and the indices of what flat memory does not describe."""
    tables: dict[torch.dtype, list[Row]] = {}
    other: list[int] = []
    no_average = (0,) * (_NUM_ADDRESSES - len(columns))
    for index, row in enumerate(zip(*columns, strict=True)):
        param, grad, *averages = row
        expanded = not any(grad.stride())
        walked = [param, *averages] if expanded else row
        dtype = param.dtype
        if dtype in dtypes and all(_is_plain(tensor, dtype) for tensor in row) and share_dense_layout(walked):
            addresses = (*(tensor.data_ptr() for tensor in row), *no_average)
            tables.setdefault(dtype, []).append((*addresses, param.numel(), 0 if expanded else 1, index))
        else:
            other.append(index)
    return tables, other


def _is_plain(tensor: Tensor, dtype: torch.dtype) -> bool:
    # What a subclass holds may stand elsewhere or not be there yet (the result of a running collective), and the
    # elements of a view may be the negatives of what stands in memory.
    return type(tensor) is Tensor and tensor.dtype == dtype and not tensor.is_neg()


def pick(column: Sequence[Tensor], indices: Sequence[int]) -> list[Tensor]:
    """The tensors at ``indices``."""
    return [column[index] for index in indices]


def pick_numbers(vectors: tuple[Tensor, Tensor], indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The entries at ``indices`` of two vectors, without a copy from the host, which would wait for the device."""
    first, second = (torch.stack(pick(vector.unbind(), indices)) for vector in vectors)
    return first, second
