"""The inner products of every kernel against the same sums in float64, term by term."""

import pytest
import torch

from hf_momo.kernels import eager, slices
from hf_momo.step_size import bias_correction

SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 4), (57, 81)]
# The terms have random signs, so the error allowed is relative to the sum of their absolute values.
TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-5}
BETA1, BETA2 = 0.9, 0.99

# Triton's interpreter computes with numpy, which warns.
numbers_go_bad = pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")


@pytest.fixture(params=[torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def dtype(request):
    return request.param


def arithmetic(dtype):
    """Return the dtype of the sums, as the optimizers choose it: float32 or wider."""
    return torch.promote_types(dtype, torch.float32)


def random_columns(count, dtype, device, shapes=SHAPES):
    """Return parameters, gradients and averages; the fourth column is a second moment, so it is not negative."""
    columns = [[torch.randn(s, dtype=torch.float64).to(device, dtype) for s in shapes] for _ in range(count)]
    if count == 4:
        columns[3] = [t.abs() for t in columns[3]]
    return columns


def identity(kernel, columns, weight, dtype, **options):
    grad_weight = torch.tensor(weight, dtype=dtype, device=columns[0][0].device)
    return kernel.measure_identity(*columns[:3], grad_weight=grad_weight, dtype=dtype, **options)


def adam(kernel, columns, eps, dtype, **options):
    """Return bias corrections that differ: parameter ``i`` is at its step ``i + 1``."""
    steps = torch.arange(1, len(columns[0]) + 1, dtype=dtype, device=columns[0][0].device)
    corrections = bias_correction(BETA1, steps), bias_correction(BETA2, steps)
    settings = {"betas": (BETA1, BETA2), "eps": eps, "bias_corrections": corrections}
    return kernel.measure_adam(*columns, **settings, dtype=dtype, **options)


def sign(kernel, columns, weight, dtype, **options):
    grad_weight = torch.tensor(weight, dtype=dtype, device=columns[0][0].device)
    return kernel.measure_sign(*columns[:3], grad_weight=grad_weight, dtype=dtype, **options)


def sign_terms(columns, weight):
    *dots, squares, batch_squares = identity_terms(columns, weight)
    return *dots, [square.sqrt() for square in squares], [square.sqrt() for square in batch_squares]


def identity_terms(columns, weight):
    """Return the terms of each of the four sums: one float64 tensor per parameter."""
    x, g, *rest = ([t.as_subclass(torch.Tensor).double().cpu() for t in column] for column in columns)
    d = g if not rest else [(1 - weight) * mi + weight * gi for mi, gi in zip(rest[0], g, strict=True)]
    return products(d, x), products(g, x), products(d, d), products(g, g)


def adam_terms(columns, eps):
    terms = [], [], [], []
    rows = zip(*([t.as_subclass(torch.Tensor).double().cpu() for t in column] for column in columns), strict=True)
    for k, (x, g, m, v) in enumerate(rows, start=1):
        d = BETA1 * m + (1 - BETA1) * g
        metric = ((BETA2 * v + (1 - BETA2) * g * g) / (1 - BETA2**k)).sqrt() + eps
        metric = metric * (1 - BETA1**k)
        for column, term in zip(terms, (d * x, g * x, d * d / metric, g * g / metric), strict=True):
            column.append(term)
    return terms


def products(left, right):
    return [a * b for a, b in zip(left, right, strict=True)]


def assert_unchanged(columns, before):
    for column, column_before in zip(columns, before, strict=True):
        assert all(torch.equal(t, b) for t, b in zip(column, column_before, strict=True))


def assert_sums(actual, terms, dtype, count=3):
    assert actual.shape == (count,)
    assert actual.dtype == dtype
    for got, parts in zip(actual.double().cpu(), terms[:count], strict=True):
        exact = sum(part.sum() for part in parts)
        size = sum(part.abs().sum() for part in parts)
        assert abs(float(got - exact)) <= TOLERANCE[dtype] * float(size)


@pytest.mark.parametrize(("count", "weight"), [(3, 0.1), (3, 1.0), (2, 1.0)])
def test_identity_and_sign(kernel, device, dtype, count, weight):
    """The sums with momentum, at a first step and without momentum; the kernel writes to no input."""
    columns = random_columns(count, dtype, device)
    before = [[t.clone() for t in column] for column in columns]
    wide = arithmetic(dtype)
    assert_sums(identity(kernel, columns, weight, wide), identity_terms(columns, weight), wide)
    assert_sums(sign(kernel, columns, weight, wide), sign_terms(columns, weight), wide)
    assert_unchanged(columns, before)


@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_adam(kernel, device, dtype, eps):
    """The third sum is <d, d / (sqrt(v / c2) + eps)> / c1, with corrections c1, c2 that differ between parameters."""
    columns = random_columns(4, dtype, device)
    before = [[t.clone() for t in column] for column in columns]
    wide = arithmetic(dtype)
    assert_sums(adam(kernel, columns, eps, wide), adam_terms(columns, eps), wide)
    assert_unchanged(columns, before)


@pytest.mark.parametrize(
    ("measure", "terms_of", "count", "argument"),
    [
        pytest.param(adam, adam_terms, 4, 1e-3, id="adam"),
        pytest.param(identity, identity_terms, 3, 0.1, id="identity"),
        pytest.param(identity, identity_terms, 2, 1.0, id="identity-no-average"),
        pytest.param(sign, sign_terms, 3, 0.1, id="sign"),
        pytest.param(sign, sign_terms, 2, 1.0, id="sign-no-average"),
    ],
)
def test_slope_of_the_batch(kernel, device, dtype, measure, terms_of, count, argument):
    """The fourth number is the third sum with the gradient in the place of its average; the others keep their bits."""
    columns = random_columns(count, dtype, device)
    strided = [every_second(t.reshape(-1)) if t.dim() > 1 else t for t in columns[1]]
    columns = [[t.reshape(s.shape) for t, s in zip(column, strided, strict=True)] for column in columns]
    columns[1] = strided
    wide = arithmetic(dtype)
    sums = measure(kernel, columns, argument, wide, batch_slope=True)
    assert_sums(sums, terms_of(columns, argument), wide, count=4)
    assert torch.equal(sums[:3], measure(kernel, columns, argument, wide))


def test_more_than_a_piece():
    """Tensors larger than a piece of the eager kernel."""
    columns = random_columns(4, torch.float32, "cpu", [(520, 521), (3,)])
    sums = adam(eager, columns, 1e-8, torch.float32, batch_slope=True)
    assert_sums(sums, adam_terms(columns, 1e-8), torch.float32, count=4)


def expanded(t):
    return t.reshape(-1)[0].expand_as(t)


def transposed(t):
    return t.t().contiguous().t()


def every_second(t):
    return torch.stack([t, t + 1], dim=-1)[..., 0]


class Elsewhere(torch.Tensor):
    """A subclass whose ``data_ptr`` does not say where its elements are."""

    def data_ptr(self):
        pytest.fail("the address of a subclass was asked for")


def subclassed(t):
    return t.as_subclass(Elsewhere)


def offset_by_one(t):
    """Return a contiguous tensor that is not aligned to 16 bytes."""
    return torch.cat([t.new_ones(1), t.reshape(-1)])[1:].view(t.shape)


@pytest.mark.parametrize(
    "forms",
    [
        pytest.param((transposed, transposed), id="transposed alike"),
        pytest.param((None, transposed), id="gradient transposed"),
        pytest.param((None, expanded), id="gradient expanded"),
        pytest.param((None, torch._neg_view), id="gradient negated by its view"),
        pytest.param((None, subclassed), id="gradient of a subclass"),
        pytest.param((None, every_second), id="gradient with gaps"),
        pytest.param((every_second, None), id="parameter with gaps"),
        pytest.param((None, offset_by_one), id="gradient not aligned"),
        pytest.param((offset_by_one, offset_by_one), id="neither aligned"),
    ],
)
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16], ids=str)
def test_memory_layouts(kernel, device, stored, forms):
    """Parameter and gradient in any layout, next to contiguous tensors; averages have the layout of the parameter."""
    columns = random_columns(4, stored, device, [(5,), (64, 65), (31, 2)])
    of_param, of_grad = (form or torch.clone for form in forms)
    for column, form in zip(columns, (of_param, of_grad, of_param, of_param), strict=True):
        column[1] = form(column[1])
    assert_sums(adam(kernel, columns, 1e-8, torch.float32), adam_terms(columns, 1e-8), torch.float32)
    assert_sums(identity(kernel, columns[:3], 0.1, torch.float32), identity_terms(columns[:3], 0.1), torch.float32)
    assert_sums(sign(kernel, columns[:3], 0.1, torch.float32), sign_terms(columns[:3], 0.1), torch.float32)


def test_mixed_dtypes(kernel, device):
    """Tensors of every dtype in one call, summed in the widest."""
    dtypes = (torch.float32, torch.bfloat16, torch.float64, torch.float16, torch.float32)
    columns = random_columns(4, torch.float64, device, [(9, 7)] * 5)
    columns = [[t.to(d) for t, d in zip(column, dtypes, strict=True)] for column in columns]
    assert_sums(adam(kernel, columns, 1e-8, torch.float64), adam_terms(columns, 1e-8), torch.float64)
    identity_columns = columns[:3]
    actual = identity(kernel, identity_columns, 0.1, torch.float64)
    assert_sums(actual, identity_terms(identity_columns, 0.1), torch.float64)


def test_same_bits_again(kernel, device):
    columns = random_columns(4, torch.float32, device, [(57, 81), (3,), (4096,)])
    first = adam(kernel, columns, 1e-8, torch.float32)
    assert torch.equal(adam(kernel, columns, 1e-8, torch.float32), first)


def test_tensors_at_other_addresses(kernel, device):
    """Gradients are new tensors at each step; one at the address of a freed one may have another size."""
    for rows in (40, 80, 20, 40):
        columns = random_columns(3, torch.float32, device, [(rows, 51), (rows,)])
        assert_sums(identity(kernel, columns, 0.1, torch.float32), identity_terms(columns, 0.1), torch.float32)


@numbers_go_bad
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_not_finite(kernel, device, bad, which):
    """One element that is not finite makes the sums not finite, so that the step is skipped."""
    columns = random_columns(4, torch.float32, device, [(4100,), (5,)])
    columns[which][0][4098] = bad
    assert not bool(adam(kernel, columns, 1e-8, torch.float32).isfinite().all())
    assert not bool(identity(kernel, columns[:3], 0.1, torch.float32).isfinite().all())
    assert not bool(sign(kernel, columns[:3], 0.1, torch.float32).isfinite().all())


@numbers_go_bad
def test_no_eps_and_tiny_second_moments(kernel, device):
    """Second moments below the normal numbers of float32 are not taken for zero."""
    columns = random_columns(4, torch.float32, device, [(7,), (4100,)])
    for param, grad, *averages in zip(*columns, strict=True):
        grad.copy_(1e-20 * param.sign())
        for average in averages:
            average.zero_()
    actual = adam(kernel, columns, 0.0, torch.float32)
    _, _, exact, _ = adam_terms(columns, 0.0)
    # (1 - beta2) g^2 = 1e-42 is some 700 units of the smallest float32.
    assert float(actual[2]) == pytest.approx(float(sum(part.sum() for part in exact)), rel=1e-2, abs=0.0)


def test_no_tensors(kernel, device):
    """Without tensors there is no device for the sums, so the caller must leave such a group out."""
    none = torch.ones(0, device=device)
    with pytest.raises(ValueError, match="params: must not be empty"):
        kernel.measure_identity([], [], grad_weight=torch.ones((), device=device), dtype=torch.float32)
    with pytest.raises(ValueError, match="params: must not be empty"):
        kernel.measure_adam(
            [], [], [], [], betas=(0.9, 0.9), eps=1e-8, bias_corrections=(none, none), dtype=torch.float32
        )


@pytest.mark.parametrize("size", [1, 3, 64, 1 << 20])
def test_size_of_the_pieces_is_of_no_consequence(monkeypatch, size):
    """The sums are the same to rounding for pieces of one element up to whole tensors."""
    columns = [[torch.randn(5, 13, dtype=torch.float64).t(), torch.randn(17, dtype=torch.float64)] for _ in range(3)]
    expected = identity(eager, columns, 0.1, torch.float64)
    monkeypatch.setattr(slices, "_CPU_ELEMENTS", size)
    torch.testing.assert_close(identity(eager, columns, 0.1, torch.float64), expected, rtol=1e-13, atol=1e-13)


def test_parts_are_added_up_in_float64(kernel, device):
    """A float32 sum over tensors would lose the 1 in 2^24 + 1 - 2^24."""
    values = [2.0**24, 1.0, -(2.0**24)]
    shape = (1,) if kernel.__name__.endswith("triton") else ()
    params = [torch.full(shape, v, device=device) for v in values]
    grads = [torch.ones_like(p) for p in params]
    assert identity(kernel, [params, grads], 1.0, torch.float32).tolist() == [1.0, 1.0, 3.0]
