"""Cutting tensors into pieces: every element once, the same in all tensors, none too large, views where promised."""

import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_momo.kernels.slices import batches_of, blocks_of, flat_pieces, piece_size, share_dense_layout

relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def shaped_tensors(draw):
    """Return two or three tensors of one shape and different memory layouts, holding 0, 1, 2, ... in order."""
    shape = draw(st.lists(st.integers(1, 7), min_size=0, max_size=4))
    values = torch.arange(math.prod(shape)).view(shape)
    tensors = []
    for _ in range(draw(st.integers(2, 3))):
        order = draw(st.permutations(range(len(shape))))
        inverse = [order.index(i) for i in range(len(shape))]
        tensor = values.permute(order).contiguous().permute(inverse)
        if shape and draw(st.booleans()):
            holder = torch.full((*shape[:-1], 2 * shape[-1]), -1)
            tensor = holder[..., 1::2].copy_(values)
        tensors.append(tensor)
    return tensors


@relaxed
@given(shaped_tensors(), st.integers(1, 50))
def test_flat_pieces(tensors, size):
    """Each element is in exactly one piece, at the same place in every tensor."""
    seen = []
    for pieces in flat_pieces(tensors, size):
        assert all(piece.shape == pieces[0].shape and piece.dim() == 1 for piece in pieces)
        assert 0 < pieces[0].numel() <= size
        assert all(torch.equal(piece, pieces[0]) for piece in pieces)
        seen += pieces[0].tolist()
    assert sorted(seen) == list(range(tensors[0].numel()))


@relaxed
@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 50))
def test_batches_are_views(sizes, size):
    """Each element is in one batch, in order, and no batch is larger than allowed or could take the next piece."""
    columns = [[torch.arange(n) for n in sizes] for _ in range(2)]
    seen, counts = [], []
    for left, right in batches_of(columns, size):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
        counts.append(sum(piece.numel() for piece in left))
        assert counts[-1] <= size
        seen += torch.cat(left).tolist()
        for piece in left:
            piece.fill_(-5)
    assert seen == [i for n in sizes for i in range(n)]
    assert all(one + other > size for one, other in itertools.pairwise(counts)) or max(sizes) > size
    assert all(bool((tensor == -5).all()) for tensor in columns[0])


@relaxed
@given(shaped_tensors(), st.integers(1, 50))
def test_blocks_are_views(tensors, size):
    """The same for blocks, and writing to a block writes to the tensor."""
    seen = []
    for blocks in blocks_of(tensors, size):
        assert all(block.shape == blocks[0].shape for block in blocks)
        assert 0 < blocks[0].numel() <= size
        assert all(torch.equal(block, blocks[0]) for block in blocks)
        seen += blocks[0].reshape(-1).tolist()
        for block in blocks:
            block.fill_(-5)
    assert sorted(seen) == list(range(tensors[0].numel()))
    assert all(bool((tensor == -5).all()) for tensor in tensors)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        pytest.param([torch.ones(2, 3), torch.ones(2, 3)], True, id="contiguous"),
        pytest.param([torch.ones(3, 2).t(), torch.ones(3, 2).t()], True, id="both transposed"),
        pytest.param([torch.ones(3, 2).t(), torch.ones(2, 3)], False, id="one transposed"),
        pytest.param([torch.ones(2, 6)[:, ::2], torch.ones(2, 6)[:, ::2]], False, id="gaps"),
        pytest.param([torch.ones(2, 3), torch.ones(()).expand(2, 3)], False, id="one expanded"),
        pytest.param([torch.ones(()).expand(2, 3), torch.ones(()).expand(2, 3)], False, id="both expanded"),
        pytest.param([torch.ones(5, 3)[1:3], torch.ones(2, 3)], True, id="contiguous rows of a larger one"),
        pytest.param([torch.ones(()), torch.ones(())], True, id="0-d"),
        pytest.param(
            [torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)] * 2, True, id="both channels last"
        ),
        pytest.param(
            [torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.ones(2, 3, 4, 5)],
            False,
            id="one channels last",
        ),
    ],
)
def test_share_dense_layout(tensors, expected):
    """Layouts that torch's fused kernels may read as flat memory."""
    assert share_dense_layout(tensors) is expected


def test_pieces_fill_an_accelerator_but_not_the_cache_of_a_cpu():
    assert piece_size(torch.device("cpu")) < piece_size(torch.device("cuda"))
