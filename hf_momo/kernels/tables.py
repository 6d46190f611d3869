"""Addresses and sizes of many tensors, so that a kernel walks through all of them in one call.

A kernel of this kind reads flat memory. Tensors for which that is wrong (strided, laid out in different orders, of
different dtypes within a row, of a subclass) are left to the eager kernel, which takes any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from hf_momo.kernels import eager
from hf_momo.kernels.slices import are_uniform, check_shapes, share_dense_layout

Columns = Sequence[Sequence[Tensor]]
"""Parameters, gradients, and the averages there are: lists of one length, row ``i`` belonging to parameter ``i``."""

Row = tuple[int, ...]
"""Entries for one parameter: addresses of parameter, gradient and two averages (0 where there is none), number of
elements, step of the gradient (0 where it is one number expanded, else 1), index in the columns."""

SIZE, GRAD_STEP, INDEX = 4, 5, 6
"""Positions in a row."""

_NUM_ADDRESSES = 4
_PLAIN = {Tensor, Parameter}


class TableKernel(NamedTuple):
    """A kernel that walks through tables, with the eager one for what no table describes.

    Its methods are those of ``eager.py``, which has shapes and meaning.
    """

    dtypes: Callable[[torch.dtype], Sequence[torch.dtype]]
    """Takes the dtype of the sums; returns the dtypes of tensors that can be read."""
    scalar_dtype: Callable[[torch.dtype], torch.dtype]
    """Takes the dtype of the sums; returns the dtype of the scalars that the functions below get."""
    average: Callable[[str, torch.dtype, torch.dtype, tuple[Row, ...], Tensor, bool, bool], Tensor]
    """Takes ``"identity"`` or ``"sign"``, the dtypes of tensors and sums, rows, the weight of the gradient, whether
    there is an average, and whether the slope of the batch is asked for."""
    adam: Callable[[torch.dtype, torch.dtype, tuple[Row, ...], tuple[float, float], Tensor, Tensor, bool], Tensor]
    """Takes the dtypes of tensors and sums, rows, betas, scaled ``eps`` and corrections of each parameter, and whether
    the slope of the batch is asked for."""

    def measure_identity(
        self, *columns: Sequence[Tensor], grad_weight: Tensor, dtype: torch.dtype, batch_slope: bool = False
    ) -> Tensor:
        """Measure in the identity metric; see ``eager.measure_identity``."""
        return self._measure_average("identity", columns, grad_weight, dtype, batch_slope)

    def measure_sign(
        self, *columns: Sequence[Tensor], grad_weight: Tensor, dtype: torch.dtype, batch_slope: bool = False
    ) -> Tensor:
        """Measure for a sign method; see ``eager.measure_sign``."""
        return self._measure_average("sign", columns, grad_weight, dtype, batch_slope)

    def _measure_average(
        self, kind: str, columns: Columns, grad_weight: Tensor, dtype: torch.dtype, batch_slope: bool
    ) -> Tensor:
        weight = grad_weight.to(self.scalar_dtype(dtype))
        by_torch = {"identity": eager.measure_identity, "sign": eager.measure_sign}[kind]

        def by_table(stored: torch.dtype, rows: tuple[Row, ...]) -> Tensor:
            return self.average(kind, stored, dtype, rows, weight, len(columns) > 2, batch_slope)

        def by_eager(indices: list[int]) -> Tensor:
            chosen = (pick(column, indices) for column in columns)
            return by_torch(*chosen, grad_weight=grad_weight, dtype=dtype, batch_slope=batch_slope)

        return measure_by_tables(columns, self.dtypes(dtype), by_table, by_eager)

    def measure_adam(
        self,
        *columns: Sequence[Tensor],
        betas: tuple[float, float],
        eps: float,
        bias_corrections: tuple[Tensor, Tensor],
        dtype: torch.dtype,
        batch_slope: bool = False,
    ) -> Tensor:
        """Measure in Adam's metric; see ``eager.measure_adam``."""
        first, second = (correction.to(self.scalar_dtype(dtype)) for correction in bias_corrections)
        roots = second.sqrt()
        scaled_eps, corrections = (eps * roots).contiguous(), (roots / first).contiguous()

        def by_table(stored: torch.dtype, rows: tuple[Row, ...]) -> Tensor:
            return self.adam(stored, dtype, rows, betas, scaled_eps, corrections, batch_slope)

        def by_eager(indices: list[int]) -> Tensor:
            chosen = (pick(column, indices) for column in columns)
            picked = pick_numbers(bias_corrections, indices)
            return eager.measure_adam(
                *chosen, betas=betas, eps=eps, bias_corrections=picked, dtype=dtype, batch_slope=batch_slope
            )

        return measure_by_tables(columns, self.dtypes(dtype), by_table, by_eager)


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
        measure_table: Takes the dtype of the tensors and their rows, called once a dtype; returns the sums.
        measure_other: Takes the indices of rows that no table holds, returns the same sums.

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
    if columns[0] and columns[0][0].dtype in dtypes and _are_plain(columns) and are_uniform(columns):
        number = len(columns[0])
        addresses = (*(map(Tensor.data_ptr, column) for column in columns), *([zero] * number for zero in no_average))
        rows = zip(*addresses, map(Tensor.numel, columns[0]), [1] * number, range(number), strict=True)
        return {columns[0][0].dtype: list(rows)}, other
    for index, row in enumerate(zip(*columns, strict=True)):
        check_shapes(row)
        param = row[0]
        dtype = param.dtype
        grad_step = _grad_step(row) if dtype in dtypes else None
        if grad_step is None:
            other.append(index)
        else:
            tables.setdefault(dtype, []).append(
                (*map(Tensor.data_ptr, row), *no_average, param.numel(), grad_step, index)
            )
    return tables, other


def _are_plain(columns: Columns) -> bool:
    # What a subclass holds may stand elsewhere or not be there yet (the result of a running collective), and the
    # elements of a view may be the negatives of what stands in memory.
    return all(_PLAIN.issuperset(map(type, column)) and not any(map(Tensor.is_neg, column)) for column in columns)


def _grad_step(row: Sequence[Tensor]) -> int | None:
    """1 where all tensors can be walked together as flat memory, 0 where but the expanded gradient, else ``None``."""
    param, grad, *averages = row
    if not _are_plain([row]) or any(tensor.dtype != param.dtype for tensor in row):
        return None
    if share_dense_layout(row):
        return 1
    return 0 if not any(grad.stride()) and share_dense_layout([param, *averages]) else None


def pick(column: Sequence[Tensor], indices: Sequence[int]) -> list[Tensor]:
    """Return the tensors at ``indices``."""
    return [column[index] for index in indices]


def pick_numbers(vectors: tuple[Tensor, Tensor], indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the entries at ``indices`` of two vectors; a copy from the host would wait for the device."""
    first, second = (torch.stack(pick(vector.unbind(), indices)) for vector in vectors)
    return first, second
