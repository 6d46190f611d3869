"""The inner products of the eager kernel against the same sums in float64, term by term."""

import pytest
import torch

from hf_momo.kernels import KERNELS, eager, get_kernel, slices
from hf_momo.step_size import bias_correction

SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 4), (520, 521)]  # the last one is more than a piece
# Sums of n random terms of either sign: the error allowed is relative to the sum of their sizes.
TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-5}


@pytest.fixture(params=[torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def dtype(request):
    return request.param


def arithmetic(dtype):
    """What the optimizers ask for: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def tensors(dtype, count):
    columns = [[torch.randn(shape, dtype=torch.float64).to(dtype) for shape in SHAPES] for _ in range(count)]
    before = [[t.clone() for t in column] for column in columns]
    return columns, before


def assert_unchanged(columns, before):
    for column, column_before in zip(columns, before, strict=True):
        assert all(torch.equal(t, b) for t, b in zip(column, column_before, strict=True))


def assert_sums(actual, terms, dtype):
    """``terms``: for each sum, one float64 tensor a parameter of what it adds up."""
    assert actual.shape == (3,)
    assert actual.dtype == dtype
    for got, parts in zip(actual.double(), terms, strict=True):
        exact = sum(part.sum() for part in parts)
        size = sum(part.abs().sum() for part in parts)
        assert abs(float(got - exact)) <= TOLERANCE[dtype] * float(size)


@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_identity(dtype, weight):
    """<d,x>, <g,x>, <d,d> with d = (1 - w) m + w g, formed in float32 at least; nothing is written."""
    (params, grads, momenta), before = tensors(dtype, 3)
    wide = arithmetic(dtype)
    actual = eager.measure_identity(params, grads, momenta, grad_weight=torch.tensor(weight, dtype=wide), dtype=wide)
    x, g, m = ([t.double() for t in column] for column in (params, grads, momenta))
    d = [(1 - weight) * mi + weight * gi for mi, gi in zip(m, g, strict=True)]
    products = [
        [di * xi for di, xi in zip(d, x, strict=True)],
        [gi * xi for gi, xi in zip(g, x, strict=True)],
        [di * di for di in d],
    ]
    assert_sums(actual, products, wide)
    assert_unchanged((params, grads, momenta), before)


def test_identity_without_momentum(dtype):
    """Momentum None: the direction is the gradient."""
    (params, grads), before = tensors(dtype, 2)
    wide = arithmetic(dtype)
    actual = eager.measure_identity(params, grads, None, grad_weight=torch.ones((), dtype=wide), dtype=wide)
    x, g = ([t.double() for t in column] for column in (params, grads))
    product = [gi * xi for gi, xi in zip(g, x, strict=True)]
    assert_sums(actual, [product, product, [gi * gi for gi in g]], wide)
    assert_unchanged((params, grads), before)


@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_adam(dtype, eps):
    """The third sum is <d, d / (sqrt(v / c2) + eps)> / c1, with corrections c1, c2 that differ between parameters."""
    (params, grads, exp_avgs, exp_avg_sqs), _ = tensors(dtype, 4)
    exp_avg_sqs = [t.abs() for t in exp_avg_sqs]
    columns = (params, grads, exp_avgs, exp_avg_sqs)
    before = [[t.clone() for t in column] for column in columns]
    wide = arithmetic(dtype)
    beta1, beta2 = 0.9, 0.99
    steps = torch.arange(1, len(SHAPES) + 1, dtype=wide)
    corrections = bias_correction(beta1, steps), bias_correction(beta2, steps)
    actual = eager.measure_adam(*columns, betas=(beta1, beta2), eps=eps, bias_corrections=corrections, dtype=wide)
    dot_d, dot_g, norm = [], [], []
    for k, (x, g, m, v) in enumerate(zip(*([t.double() for t in column] for column in columns), strict=True), start=1):
        d = beta1 * m + (1 - beta1) * g
        metric = ((beta2 * v + (1 - beta2) * g * g) / (1 - beta2**k)).sqrt() + eps
        dot_d.append(d * x)
        dot_g.append(g * x)
        norm.append(d * d / metric / (1 - beta1**k))
    assert_sums(actual, [dot_d, dot_g, norm], wide)
    assert_unchanged(columns, before)


@pytest.mark.parametrize("size", [1, 3, 64, 1 << 20])
def test_size_of_the_pieces_is_of_no_consequence(monkeypatch, size):
    """Cut into single elements or not at all: the same sums to rounding."""
    columns = [[torch.randn(5, 13, dtype=torch.float64).t(), torch.randn(17, dtype=torch.float64)] for _ in range(3)]
    weight = torch.tensor(0.1, dtype=torch.float64)
    expected = eager.measure_identity(*columns, grad_weight=weight, dtype=torch.float64)
    monkeypatch.setattr(slices, "_CPU_ELEMENTS", size)
    actual = eager.measure_identity(*columns, grad_weight=weight, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-13)


def test_pieces_are_added_up_in_float64():
    """Many pieces whose sums cancel: 2^24 + 1 - 2^24 is lost in a float32 sum of the pieces."""
    values = [2.0**24, 1.0, -(2.0**24)]
    params = [torch.tensor([v]) for v in values]
    grads = [torch.ones(1) for _ in values]
    actual = eager.measure_identity(params, grads, None, grad_weight=torch.tensor(1.0), dtype=torch.float32)
    assert actual.tolist() == [1.0, 1.0, 3.0]


@pytest.mark.parametrize("measure", ["identity", "adam"])
def test_no_tensors(measure):
    """There is no device to put the sums on: the caller leaves such a group out."""
    with pytest.raises(ValueError, match="params: must not be empty"):
        if measure == "identity":
            eager.measure_identity([], [], None, grad_weight=torch.tensor(1.0), dtype=torch.float32)
        else:
            none = torch.ones(0)
            eager.measure_adam(
                [], [], [], [], betas=(0.9, 0.9), eps=1e-8, bias_corrections=(none, none), dtype=torch.float32
            )


def test_get_kernel():
    """Every legal name leads to a kernel, "auto" so far to the eager one; another name lists them."""
    assert all(get_kernel(name) is eager for name in KERNELS)
    with pytest.raises(ValueError, match=r"kernel: got 'cuda', must be one of 'auto', 'eager'"):
        get_kernel("cuda")
