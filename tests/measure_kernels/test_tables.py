"""Tables of addresses: the check of whole columns gives the same rows as the check of single rows."""

import pytest
import torch
from torch import nn

from hf_momo.kernels.tables import split

DTYPES = (torch.float32, torch.float64)
SHAPES = [(), (1,), (5,), (3, 4)]


def columns_of(number, dtype=torch.float32):
    params = [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in SHAPES]
    return [params, *([torch.randn(shape, dtype=dtype) for shape in SHAPES] for _ in range(number - 1))]


@pytest.mark.parametrize("number", [2, 3, 4], ids="{} columns".format)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("odd", [torch.ones(4, 3).t(), torch.ones(2, dtype=torch.bfloat16), torch.ones(0)])
def test_a_row_apart_changes_no_other(number, dtype, odd):
    """Uniform columns are accepted at once; one tensor of another layout, dtype or size makes each row be checked."""
    columns = columns_of(number, dtype)
    at_once, none = split(columns, DTYPES)
    assert none == []
    tables, other = split([[*column, odd.clone()] for column in columns], DTYPES)
    row_by_row = [row for row in tables[dtype] if row[-1] < len(SHAPES)]
    assert at_once == {dtype: row_by_row}
    assert row_by_row[2] == (*(c[2].data_ptr() for c in columns), *(0,) * (4 - number), 5, 1, 2)
    assert other == ([len(SHAPES)] if odd.dtype == torch.bfloat16 else [])


@pytest.mark.parametrize(
    ("grad", "in_table"),
    [
        pytest.param(torch.ones(()).expand(5), True, id="one number expanded"),
        pytest.param(torch._neg_view(torch.ones(5)), False, id="negated by its view"),
        pytest.param(torch.ones(10)[::2], False, id="with gaps"),
        pytest.param(torch.ones(5, dtype=torch.float64), False, id="of another dtype"),
        pytest.param(torch.ones(5).as_subclass(type("Other", (torch.Tensor,), {})), False, id="of a subclass"),
    ],
)
def test_gradients_that_are_not_flat_memory(grad, in_table):
    """All other gradients are plain; an expanded number is read with step 0."""
    columns = columns_of(3)
    columns[1][2] = grad
    tables, other = split(columns, DTYPES)
    assert [row[-2:] for row in tables[torch.float32]] == [(1, 0), (1, 1), *([(0, 2)] if in_table else []), (1, 3)]
    assert other == ([] if in_table else [2])


@pytest.mark.parametrize("column", range(3))
def test_columns_of_other_lengths_are_refused(column):
    """With columns of different lengths the kernel would combine tensors of different parameters."""
    columns = columns_of(3)
    columns[column].pop()
    with pytest.raises(ValueError, match="argument"):
        split(columns, DTYPES)
