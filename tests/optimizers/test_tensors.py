"""Parameters of every real dtype, shape and memory layout, against the oracle on the upcast values."""

import pytest
import torch
from optimizer_cases import (
    METHODS,
    SHAPES,
    VARIANTS,
    assert_bit_equal,
    assert_near,
    assert_scalars_match,
    backward,
    estimating,
    gradients,
    make_oracle,
    make_params,
    method_of,
    snapshot,
)
from torch import nn

from hf_momo import Momo
from hf_momo.optimizers import scalars as group_scalars

by_method = pytest.mark.parametrize("cls", [method.cls for method in METHODS.values()], ids=METHODS)
by_variant = pytest.mark.parametrize(("cls", "options"), VARIANTS.values(), ids=VARIANTS.keys())

# Sums are formed in float32 from the stored values, so scalars are exact to float32 for parameters of any dtype;
# stored values are rounded to the parameter's dtype after every operation (momentum, then step, then decay).
SCALARS = 2e-5
ROUNDINGS = 1.5


def resynchronize(optimizer, oracle):
    """Give the oracle the rounded tensors, so that the next comparison sees the rounding of one step only."""
    for group, oracle_group in zip(optimizer.param_groups, oracle.groups, strict=True):
        for param, p in zip(group["params"], oracle_group.params, strict=True):
            state = optimizer.state[param]
            p.x = param.detach().double().clone()
            p.m = state["exp_avg"].double().clone() if "exp_avg" in state else p.m
            p.v = state["exp_avg_sq"].double().clone() if "exp_avg_sq" in state else p.v
            if "exp_avg_sq_row" in state:
                row, col = (
                    state["exp_avg_sq_row"].double().unsqueeze(-1),
                    state["exp_avg_sq_col"].double().unsqueeze(-2),
                )
                p.v = row * col / col.mean(-1, keepdim=True)


def largest_error(optimizer, oracle, before):
    """Return the largest error of a parameter in units of its dtype's rounding (float32's at least) at its size."""
    worst = 0.0
    for group, oracle_group in zip(optimizer.param_groups, oracle.groups, strict=True):
        for param, p in zip(group["params"], oracle_group.params, strict=True):
            size = torch.maximum(torch.maximum(p.x.abs(), before[param].abs()), torch.tensor(1e-3).double())
            error = (param.detach().double() - p.x).abs() / (
                size * max(torch.finfo(param.dtype).eps, torch.finfo(torch.float32).eps)
            )
            worst = max(worst, float(error.max()) if error.numel() else 0.0)
    return worst


def run_low_precision(cls, options, dtype, *, spoil=None, steps=8, shapes=SHAPES):
    torch.manual_seed(0)
    params = make_params(dtype, shapes)
    optimizer = cls(params, **{"weight_decay": 0.3, **options})
    oracle = make_oracle(optimizer)
    if spoil is not None:
        spoil(oracle)
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for _ in range(steps):
        loss = backward(params, generator)
        before = {p: p.detach().double().clone() for p in params}
        optimizer.step(loss=loss)
        oracle.step(float(loss), gradients(optimizer))
        if spoil is None:
            assert_scalars_match(optimizer, oracle, SCALARS)
        worst = max(worst, largest_error(optimizer, oracle, before))
        resynchronize(optimizer, oracle)
    return worst


@by_variant
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision(cls, options, dtype):
    """Each step is exact to the rounding of the stored values, and the scalars to float32."""
    assert run_low_precision(cls, options, dtype) <= ROUNDINGS


@by_variant
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_of_whole_vectors(cls, options, dtype):
    """The kernels work on whole vector registers: torch's fused SGD for CPUs skips these (pytorch issue 191763).

    Momo did not move such parameters at all, and its averages came to hold what lay behind them in memory.
    """
    assert run_low_precision(cls, options, dtype, shapes=((64,), (7, 37), (5,))) <= ROUNDINGS


@by_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_momentum_of_low_precision(cls, dtype):
    """The average of the gradients is exact to the rounding of its dtype."""
    (param,) = make_params(dtype, ((7, 37),))
    optimizer, expected = cls([param], lr=1e-3), torch.zeros_like(param).double()
    beta = method_of(cls).oracle(optimizer.param_groups[0])["beta"]
    for step in range(4):
        param.grad = torch.randn_like(param)
        weight = 1.0 if cls is Momo and step == 0 else 1.0 - beta
        expected = torch.lerp(expected, param.grad.double(), weight)
        optimizer.step(loss=1.0)
        torch.testing.assert_close(
            optimizer.state[param]["exp_avg"].double(), expected, rtol=0.0, atol=3 * torch.finfo(dtype).eps
        )


def no_decay(oracle):
    oracle.groups[0].weight_decay = 0.0


def other_beta(oracle):
    oracle.beta = 0.85


def other_start(oracle):
    oracle.from_zero = not oracle.from_zero


def other_cap(oracle):
    oracle.groups[0].lr *= 0.5


@pytest.mark.parametrize("spoil", [no_decay, other_beta, other_start, other_cap])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_tolerance_sees_a_wrong_formula(spoil, dtype):
    """An oracle that is wrong in one place is far outside of the tolerance used above."""
    assert run_low_precision(Momo, {"lr": 0.3}, dtype, spoil=spoil) > 2 * ROUNDINGS


@by_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_dtypes_of_the_state(cls, dtype):
    """Averages have the parameter's dtype, counters float32, scalars float32 or, with float64, float64.

    Averages of rows and columns are as precise as the scalars.
    """
    params = make_params(dtype)
    optimizer = cls(params, **estimating(cls), weight_decay=0.1)
    for _ in range(2):
        optimizer.step(loss=backward(params, torch.Generator().manual_seed(1)))
    for p in params:
        state = optimizer.state[p]
        assert state["step"].dtype == torch.float32
        shapes = {"exp_avg_sq_row": p.shape[:-1], "exp_avg_sq_col": p.shape[:-2] + p.shape[-1:]}
        for name, tensor in state.items():
            if name != "step":
                wanted = dtype if name not in shapes else torch.promote_types(dtype, torch.float32)
                assert (tensor.dtype, tensor.shape) == (wanted, shapes.get(name, p.shape))
    scalars = [v for v in optimizer.param_groups[0].values() if isinstance(v, torch.Tensor)]
    assert len(scalars) == len(group_scalars.SCALARS)
    assert {(s.dtype, s.dim()) for s in scalars} == {(torch.promote_types(dtype, torch.float32), 0)}


@by_variant
def test_mixed_dtypes(cls, options):
    """Four dtypes in one optimizer: one model of the loss, each tensor stepped in its own dtype."""
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    params = [nn.Parameter(torch.randn(4, 3).to(dtype)) for dtype in dtypes]
    optimizer = cls([{"params": params[:2]}, {"params": params[2:]}], **{"weight_decay": 0.1, **options})
    oracle = make_oracle(optimizer)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        loss = backward(params, generator)
        before = {p: p.detach().double().clone() for p in params}
        optimizer.step(loss=loss)
        oracle.step(float(loss), gradients(optimizer))
        assert optimizer.param_groups[0]["loss_avg"].dtype == torch.float64
        # The float32 kernels of torch work with a float32 bias correction even where all scalars are float64.
        assert_scalars_match(optimizer, oracle, 1e-9)
        assert largest_error(optimizer, oracle, before) <= ROUNDINGS
        resynchronize(optimizer, oracle)


def transposed(t):
    return t.t().contiguous().t()


def channels_last(t):
    return t.to(memory_format=torch.channels_last)


def strided(t):
    """Return the values as every second element of a larger tensor in the last dimension."""
    holder = torch.zeros(*t.shape[:-1], 2 * t.shape[-1], dtype=t.dtype)
    return holder[..., ::2].copy_(t)


def offset(t):
    """Return the values in contiguous memory with a storage offset."""
    return torch.cat([torch.ones(3, dtype=t.dtype), t.reshape(-1)])[3:].view(t.shape)


def slice_of_reversed(t):
    """Return a slice of a tensor with reversed dimensions: neither dense nor contiguous."""
    holder = torch.zeros(*reversed([t.shape[0] + 2, *t.shape[1:]]), dtype=t.dtype)
    return holder.permute(*reversed(range(t.dim())))[1:-1].copy_(t)


def contiguous(t):
    return t


# (17, 30841) is larger than a piece of the kernels, and no dimension is a multiple of one.
LAYOUT_CASES = [
    *((p, g, (6, 5)) for p in (contiguous, transposed, strided, offset) for g in (contiguous, transposed, strided)),
    *((p, g, (2, 3, 4, 5)) for p in (contiguous, channels_last) for g in (contiguous, channels_last, strided)),
    (slice_of_reversed, slice_of_reversed, (2, 3, 4, 5)),
    (contiguous, transposed, (17, 30841)),
    (transposed, transposed, (17, 30841)),
    (strided, contiguous, (17, 30841)),
    (slice_of_reversed, offset, (17, 30841)),
]


@by_method
@pytest.mark.parametrize(("param_layout", "grad_layout", "shape"), LAYOUT_CASES)
def test_memory_layouts_of_parameter_and_gradient(cls, param_layout, grad_layout, shape):
    """Any layout of parameter or gradient gives the result of contiguous tensors."""
    values, *grads = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
    ends = []
    for param_form, grad_form in ((contiguous, contiguous), (param_layout, grad_layout)):
        param = nn.Parameter(param_form(values.clone()))
        optimizer = cls([param], lr=0.5, weight_decay=0.1)
        for k, grad in enumerate(grads):
            param.grad = grad_form(grad.clone())
            assert param.grad.is_contiguous() == (grad_form in (contiguous, offset))
            optimizer.step(loss=0.5 + k)
        assert param.is_contiguous() == (param_form in (contiguous, offset))
        ends.append((param.detach(), optimizer.last_step, optimizer.state[param]))
    (expected, last, state), (actual, other_last, other_state) = ends
    assert_near(actual, expected, 1e-12, "parameter")
    assert other_last.step_size[0] == pytest.approx(last.step_size[0], rel=1e-9)
    for name, tensor in state.items():
        assert_near(other_state[name], tensor.double(), 1e-12, name)


@by_method
@pytest.mark.parametrize("shape", [(6, 5), (700, 601)], ids=str)
def test_expanded_gradient(cls, shape):
    """The gradient of a sum is one expanded number: its memory overlaps, so no kernel may write to it."""
    ends = []
    for expanded in (False, True):
        torch.manual_seed(0)
        param = nn.Parameter(torch.randn(shape, dtype=torch.float64))
        optimizer = cls([param], lr=0.5, weight_decay=0.1)
        for _ in range(2):
            grad = torch.tensor(0.3, dtype=torch.float64).expand(shape)
            param.grad = grad if expanded else grad.clone()
            optimizer.step(loss=0.5)
            assert bool((param.grad == 0.3).all())
        ends.append((param.detach(), optimizer.last_step))
    assert_near(ends[1][0], ends[0][0], 1e-12, "parameter")
    assert ends[1][1].step_size[0] == pytest.approx(ends[0][1].step_size[0], rel=1e-9)


@by_method
def test_memory_between_strided_elements_is_not_touched(cls):
    """A step on a view of every second element leaves the elements between them unchanged."""
    holder = torch.full((5, 8), 7.0)
    param = nn.Parameter(holder[:, ::2])
    assert param.data_ptr() == holder.data_ptr()
    optimizer = cls([param], lr=0.1, weight_decay=0.1)
    param.grad = torch.ones(5, 4)
    optimizer.step(loss=1.0)
    assert torch.equal(holder[:, 1::2], torch.full((5, 4), 7.0))
    assert not torch.equal(holder[:, ::2], torch.full((5, 4), 7.0))


@by_variant
def test_empty_tensors_change_nothing(cls, options):
    """Parameters without elements, next to others or as a whole group, change no result."""
    ends = []
    for with_empty in (False, True):
        torch.manual_seed(0)
        params = make_params()
        groups = [{"params": params}]
        if with_empty:
            empty = [nn.Parameter(torch.zeros(0, 3, dtype=torch.float64)) for _ in range(2)]
            groups = [{"params": [empty[0], *params]}, {"params": [empty[1]]}]
        optimizer = cls(groups, **{"weight_decay": 0.1, **options})
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            loss = backward(params, generator)
            for p in groups[0]["params"][:-4] + (groups[1]["params"] if with_empty else []):
                p.grad = torch.zeros_like(p)
            optimizer.step(loss=loss)
        ends.append((torch.cat([p.detach().reshape(-1) for p in params]), optimizer.last_step.step_size[0]))
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


@by_variant
def test_nothing_but_empty_tensors(cls, options):
    """Without any element a step updates only the average of the loss."""
    param = nn.Parameter(torch.zeros(0))
    optimizer = cls([param], **options)
    param.grad = torch.zeros(0)
    optimizer.step(loss=1.0)
    assert optimizer.last_step.num_steps == 1
    assert optimizer.last_step.step_size == (0.0,)


@by_variant
def test_no_gradient_anywhere(cls, options):
    """A step before any backward pass moves nothing and makes no state, but the loss is averaged."""
    params = make_params()
    before = [p.detach().clone() for p in params]
    optimizer = cls(params, **{"weight_decay": 0.1, **options})
    optimizer.step(loss=1.0)
    assert not optimizer.state
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
    assert optimizer.last_step.num_steps == 1


@by_variant
def test_zero_gradient_and_zero_loss(cls, options):
    """A model at its minimum gives 0 / 0 in the step size, which is a step of 0 and not NaN."""
    params = make_params()
    before = [p.detach().clone() for p in params]
    optimizer = cls(params, **options)
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step(loss=0.0)
    assert set(optimizer.last_step.step_size) == {0.0}
    assert optimizer.last_step.skipped_steps == 0
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))


@by_variant
def test_frozen_parameter_never_moves(cls, options):
    """A parameter that never has a gradient gets no state and no decay."""
    params = make_params()
    before = params[1].detach().clone()
    optimizer = cls(params, **{"weight_decay": 0.5, **options})
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        optimizer.step(loss=backward(params, generator, [0, 2, 3]))
    assert torch.equal(params[1], before)
    assert params[1] not in optimizer.state
    assert not torch.equal(params[0], make_params()[0])


@by_method
def test_model_moved_to_another_dtype(cls):
    """``model.double()`` after construction, before the first step: scalars follow the parameters."""
    model = nn.Linear(3, 2)
    optimizer = cls(model.parameters())
    model.double()
    model(torch.ones(4, 3, dtype=torch.float64)).square().mean().backward()
    optimizer.step(loss=1.0)
    assert optimizer.param_groups[0]["loss_avg"].dtype == torch.float64


@by_variant
def test_gradients_are_left_as_they_are(cls, options):
    """A step only reads gradients, so the caller may go on accumulating into them."""
    params = make_params()
    optimizer = cls(params, **{"weight_decay": 0.1, **options})
    loss = backward(params, torch.Generator().manual_seed(1))
    before = [p.grad.clone() for p in params]
    optimizer.step(loss=loss)
    assert all(torch.equal(p.grad, b) for p, b in zip(params, before, strict=True))


@by_variant
def test_same_numbers_in_every_run(cls, options):
    """Deterministic to the bit."""
    ends = []
    for _ in range(2):
        torch.manual_seed(0)
        params = make_params(torch.float32)
        optimizer = cls(params, **options)
        generator = torch.Generator().manual_seed(1)
        for _ in range(5):
            optimizer.step(loss=backward(params, generator))
        ends.append(snapshot(optimizer))
    assert_bit_equal(*ends)


@pytest.mark.skipif(
    not hasattr(torch.Tensor, "grad_dtype"), reason="this torch keeps gradients to the dtype of their parameter"
)
@pytest.mark.parametrize(
    ("cls", "kernel"),
    [
        (method.cls, kernel)
        for method in METHODS.values()
        for kernel in ("eager", "compiled")
        if kernel in method.cls.direction.kernels
    ],
)
def test_gradient_of_another_dtype(cls, kernel):
    """A gradient may be wider than its parameter (``grad_dtype``): it is rounded to the parameter's dtype."""
    ends = []
    for wide in (False, True):
        torch.manual_seed(0)
        param = nn.Parameter(torch.randn(7, 5).bfloat16())
        if wide:
            param.grad_dtype = torch.float32
        optimizer = cls([param], lr=0.1, kernel=kernel)
        for _ in range(3):
            grad = torch.randn(7, 5)
            param.grad = grad if wide else grad.bfloat16()
            optimizer.step(loss=1.0)
        assert param.grad.dtype == (torch.float32 if wide else torch.bfloat16)
        ends.append(snapshot(optimizer))
    assert_bit_equal(*ends)
