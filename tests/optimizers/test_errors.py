"""Refused arguments: the type of the error, and that the message names the argument, its value and the way out."""

import itertools
import re

import pytest
import torch
from optimizer_cases import METHODS, assert_bit_equal, backward, make_params, snapshot
from torch import nn

from hf_momo import Momo, MomoAdam

NAN, INF = float("nan"), float("inf")
ALL = [method.cls for method in METHODS.values()]
by_method = pytest.mark.parametrize("cls", ALL, ids=METHODS)


def one():
    return [nn.Parameter(torch.ones(2))]


BAD_ARGUMENTS = [
    *(
        (cls, {name: value}, error, message)
        for cls, name in [*itertools.product(ALL, ("lr", "weight_decay")), (MomoAdam, "eps")]
        for value, error, message in (
            (-0.1, ValueError, f"{name}: got -0.1, must be in [0, inf)"),
            (NAN, ValueError, f"{name}: got nan, must be in [0, inf)"),
            (INF, ValueError, f"{name}: got inf, must be in [0, inf)"),
            ("0.1", TypeError, f"{name}: got '0.1', must be a number in [0, inf)"),
            (True, TypeError, f"{name}: got True, must be a number"),
            (None, TypeError, f"{name}: got None, must be a number"),
        )
    ),
    *((Momo, {"beta": value}, ValueError, f"beta: got {value}, must be in [0, 1)") for value in (-0.1, 1.0, 1.5, NAN)),
    *(
        (MomoAdam, {"betas": betas}, ValueError, f"betas[{i}]: got {betas[i]}, must be in [0, 1)")
        for betas, i in (((1.0, 0.9), 0), ((-0.5, 0.9), 0), ((0.9, 1.0), 1), ((0.9, NAN), 1))
    ),
    (MomoAdam, {"betas": 0.9}, ValueError, "betas: got 0.9, must be two numbers in [0, 1)"),
    (MomoAdam, {"betas": (0.9,)}, ValueError, "betas: got (0.9,), must be two numbers"),
    (
        MomoAdam,
        {"weight_decay_form": "l2"},
        ValueError,
        "weight_decay_form: got 'l2', must be one of 'proximal', 'adamw'",
    ),
    *(
        (cls, {"lower_bound": value}, error, message)
        for cls in ALL
        for value, error, message in (
            (NAN, ValueError, "lower_bound: got nan, must be a finite number"),
            (-INF, ValueError, "lower_bound: got -inf, must be a finite number"),
            ("auto", TypeError, "lower_bound: got 'auto', must be a number"),
        )
    ),
    *(
        (cls, {"adapt_lower_bound": "no"}, TypeError, "adapt_lower_bound: got 'no', must be True or False")
        for cls in (Momo, MomoAdam)
    ),
    (Momo, {"bias_correction": 1}, TypeError, "bias_correction: got 1, must be True or False"),
    *(
        (cls, {"kernel": "fast"}, ValueError, "kernel: got 'fast', must be one of 'auto', 'eager', 'compiled',")
        for cls in (Momo, MomoAdam)
    ),
]


@pytest.mark.parametrize(("cls", "options", "error", "message"), BAD_ARGUMENTS)
def test_constructor(cls, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        cls(one(), **options)


@by_method
@pytest.mark.parametrize("lr", [torch.tensor(-1.0), torch.tensor(NAN)])
def test_lr_tensor_is_checked_too(cls, lr):
    with pytest.raises(ValueError, match=r"lr: got .*, must be in \[0, inf\)"):
        cls(one(), lr=lr)


@by_method
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_parameter_that_is_not_real_floating(cls, dtype):
    with pytest.raises(ValueError, match=rf"params: got a parameter of shape \(2,\) and dtype {dtype}, must be"):
        cls([nn.Parameter(torch.ones(2, dtype=dtype), requires_grad=False)])


@by_method
def test_no_parameters(cls):
    """The check is torch's."""
    with pytest.raises(ValueError, match="empty parameter list"):
        cls([])


BAD_LOSSES = {
    "none": (None, ValueError, "loss: got none, but MoMo's step size is worked out from the value of the loss"),
    "vector": (torch.ones(3), ValueError, "loss: got a tensor of shape (3,), must be a scalar"),
    "matrix": (torch.ones(2, 1), ValueError, "loss: got a tensor of shape (2, 1), must be a scalar"),
    "empty": (torch.ones(0), ValueError, "loss: got a tensor of shape (0,), must be a scalar"),
    "complex tensor": (torch.tensor(1j), TypeError, "loss: got a tensor of dtype torch.complex64, must be of a real"),
    "integer tensor": (torch.tensor(1), TypeError, "loss: got a tensor of dtype torch.int64, must be of a real"),
    "bool tensor": (torch.tensor(True), TypeError, "loss: got a tensor of dtype torch.bool, must be of a real"),
    "complex": (1j, TypeError, "loss: got complex 1j, must be a 0-d tensor or a real number"),
    "bool": (True, TypeError, "loss: got bool True, must be a 0-d tensor or a real number"),
    "str": ("1.0", TypeError, "loss: got str '1.0', must be a 0-d tensor or a real number"),
    "list": ([1.0], TypeError, "loss: got list [1.0], must be a 0-d tensor or a real number"),
}


@by_method
@pytest.mark.parametrize("with_closure", [False, True], ids=["loss", "closure"])
@pytest.mark.parametrize(("loss", "error", "message"), BAD_LOSSES.values(), ids=BAD_LOSSES.keys())
def test_loss(cls, with_closure, loss, error, message):
    """A bad loss, given or returned by a closure, is refused and changes nothing."""
    params = make_params()
    optimizer = cls(params)
    optimizer.step(loss=backward(params, torch.Generator().manual_seed(1)))
    before = snapshot(optimizer)
    with pytest.raises(error, match=re.escape(message)):
        optimizer.step(lambda: loss) if with_closure else optimizer.step(loss=loss)
    assert_bit_equal(snapshot(optimizer), before)


@pytest.mark.parametrize("hint", ["optimizer.step(loss=loss)", "hf_momo.MomoTrainer", "closure must return it"])
def test_no_loss_says_what_to_do(hint):
    with pytest.raises(ValueError, match=re.escape(hint)):
        Momo(one()).step()


@by_method
def test_loss_and_closure(cls):
    with pytest.raises(ValueError, match="loss: got a loss and a closure that returns one; give one of them"):
        cls(one()).step(lambda: 1.0, loss=1.0)


@by_method
def test_an_empty_closure_beside_a_loss_is_run_first(cls):
    """PyTorch Lightning always passes a closure. It clips the gradients in it, and ``step(loss=...)`` was refused."""
    (param,) = params = one()
    param.grad = torch.full_like(param, 4.0)
    optimizer = cls(params)

    def clip():
        param.grad.mul_(0.25)

    assert optimizer.step(clip, loss=torch.tensor(3.0)) == 3.0
    assert float(optimizer.last_step.loss_avg) > 0.0
    assert torch.equal(param.grad, torch.ones_like(param))


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        (0.0, ValueError, "sample_weight: got 0.0, must be in (0, 1]"),
        (-1.0, ValueError, "sample_weight: got -1.0, must be in (0, 1]"),
        (1.5, ValueError, "sample_weight: got 1.5, must be in (0, 1]"),
        (NAN, ValueError, "sample_weight: got nan, must be in (0, 1]"),
        ("1", TypeError, "sample_weight: got '1', must be a 0-d tensor or a number in (0, 1]"),
        (None, TypeError, "sample_weight: got None, must be a 0-d tensor or a number in (0, 1]"),
    ],
)
def test_sample_weight(weight, error, message):
    """A plain NaN was written into every average and parameter."""
    params = make_params()
    optimizer = Momo(params)
    optimizer.step(loss=backward(params, torch.Generator().manual_seed(1)))
    before = snapshot(optimizer)
    with pytest.raises(error, match=re.escape(message)):
        optimizer.step(loss=1.0, sample_weight=weight)
    assert_bit_equal(snapshot(optimizer), before)


@by_method
def test_sparse_gradient(cls):
    """The error names parameter, group and remedy, and nothing has changed."""
    layer = nn.Embedding(5, 3, sparse=True)
    weight = nn.Parameter(torch.ones(2))
    optimizer = cls([{"params": [weight]}, {"params": [layer.weight], "name": "embeddings"}])
    (layer(torch.tensor([1, 2])).sum() + weight.sum()).backward()
    before = snapshot(optimizer)
    message = (
        r"params: a parameter of shape \(5, 3\) in embeddings of 1 parameters has a sparse gradient.*sparse=False"
    )
    with pytest.raises(RuntimeError, match=message):
        optimizer.step(loss=1.0)
    assert torch.equal(weight, torch.ones(2))
    assert_bit_equal({n: v for n, v in snapshot(optimizer).items() if n in before}, before)


@by_method
def test_complex_gradient(cls):
    """Replacing ``param.data`` is the one way to a complex gradient, since complex parameters are refused."""
    param = nn.Parameter(torch.ones(2))
    optimizer = cls([param])
    param.data = torch.ones(2, dtype=torch.complex64)
    param.grad = torch.ones(2, dtype=torch.complex64)
    with pytest.raises(RuntimeError, match=r"params: a parameter of shape \(2,\) .* complex gradient.*use real param"):
        optimizer.step(loss=1.0)


SHARED = [
    (Momo, {"beta": 0.5}, "beta: got 0.9, 0.5 in the parameter groups, must be the same in all of them"),
    (Momo, {"bias_correction": True}, "bias_correction: got False, True in the parameter groups, must be the same"),
    (MomoAdam, {"betas": (0.9, 0.5)}, "betas: got (0.9, 0.999), (0.9, 0.5) in the parameter groups, must be the same"),
    (MomoAdam, {"weight_decay_form": "adamw"}, "weight_decay_form: got proximal, adamw in the parameter groups"),
    *((cls, {"lower_bound": 1.0}, "lower_bound: got 0.0, 1.0 in the parameter groups") for cls in ALL),
    *(
        (cls, {"adapt_lower_bound": True}, "adapt_lower_bound: got False, True in the parameter groups")
        for cls in (Momo, MomoAdam)
    ),
]


@pytest.mark.parametrize(("cls", "options", "message"), SHARED)
def test_groups_must_share_what_the_model_of_the_loss_needs(cls, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        cls([{"params": one()}, {"params": one(), **options}])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"beta": 0.5}, ValueError),
        ({"lr": -1.0}, ValueError),
        ({"lr": "high"}, TypeError),
        ({"lower_bound": 2.0}, ValueError),
        ({"params": [nn.Parameter(torch.ones(2, device="meta"))]}, ValueError),
        ({"params": [nn.Parameter(torch.ones(2, dtype=torch.complex64))]}, ValueError),
    ],
)
def test_refused_group_leaves_the_optimizer_as_it_was(options, error):
    """A refused group in the middle of a run changes nothing."""
    params = make_params()
    optimizer = Momo(params, adapt_lower_bound=True)
    optimizer.step(loss=backward(params, torch.Generator().manual_seed(1)))
    before = snapshot(optimizer)
    with pytest.raises(error):
        optimizer.add_param_group({"params": one(), **options})
    assert len(optimizer.param_groups) == 1
    assert_bit_equal(snapshot(optimizer), before)
    optimizer.step(loss=backward(params, torch.Generator().manual_seed(2)))
    assert optimizer.last_step.num_steps == 2


@by_method
@pytest.mark.parametrize("same_group", [True, False])
def test_several_devices(cls, same_group):
    """The error names the devices and the remedy."""
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, device="meta"))
    with pytest.raises(ValueError, match=r"params: on several devices \(cpu, meta\).*Put the model on one device"):
        cls([a, b] if same_group else [{"params": [a]}, {"params": [b]}])


@by_method
def test_several_devices_found_at_the_step(cls):
    """Accelerate may swap the parameters of a group after construction."""
    optimizer = cls([*one(), *one()])
    optimizer.param_groups[0]["params"][1] = nn.Parameter(torch.ones(2, device="meta"))
    with pytest.raises(ValueError, match=r"params: on several devices \(cpu, meta\)"):
        optimizer.step(loss=1.0)
