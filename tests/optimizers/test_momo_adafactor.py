"""MomoAdafactor: while the cap limits the step it is its base method, for all shapes; and the size of its state."""

import math
import re
from pathlib import Path

import pytest
import torch
from optimizer_cases import METHODS, assert_matches, backward, gradients, make_oracle, make_params
from torch import nn
from transformers.optimization import Adafactor

from hf_momo import MomoAdafactor, MomoAdam
from hf_momo.kernels.slices import piece_size

CAPPED = -1e12
STEPS = 50
ODD_SHAPES = ((5,), (), (1, 7), (7, 1), (1, 1), (4, 6), (3, 2, 5), (2, 1, 3, 3), (0,), (0, 4), (4, 0))
PAGE = Path(__file__).parents[2] / "hf_momo" / "optimizers" / "README.md"


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_without_momentum_it_is_adafactor_of_transformers(weight_decay):
    """The second moment is Adafactor's, with the schedule of beta2 that is Adam's bias correction.

    Section 7 of arXiv 1804.04235: a constant beta2 with bias correction is ``beta2 * (1 - beta2**(t-1)) /
    (1 - beta2**t)`` without one. transformers takes ``1 - t**decay_rate``, so the rate is set anew at every step.
    """
    torch.manual_seed(0)
    shapes, lr, beta2 = [shape for shape in ODD_SHAPES if 0 not in shape], 0.01, 0.99
    ours, theirs = make_params(shapes=shapes), make_params(shapes=shapes)
    for p, q in zip(ours, theirs, strict=True):
        q.data.copy_(p.data)
    momo = MomoAdafactor(
        ours,
        lr,
        betas=(0.0, beta2),
        eps=0.0,
        weight_decay=weight_decay,
        weight_decay_form="adamw",
        lower_bound=CAPPED,
    )
    plain = {"relative_step": False, "scale_parameter": False, "warmup_init": False, "clip_threshold": 1e30}
    adafactor = Adafactor(theirs, lr, eps=(0.0, 0.0), beta1=None, weight_decay=weight_decay, **plain)
    generator = torch.Generator().manual_seed(1)
    for t in range(1, STEPS + 1):
        if t > 1:
            new_weight = 1 - beta2 * (1 - beta2 ** (t - 1)) / (1 - beta2**t)
            adafactor.param_groups[0]["decay_rate"] = math.log(new_weight) / math.log(t)
        loss = backward(ours, generator)
        for p, q in zip(ours, theirs, strict=True):
            q.grad = p.grad.clone()
        momo.step(loss=loss)
        adafactor.step()
    assert momo.last_step.capped_steps == STEPS
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


def base_step(x, grad, state, t, *, lr, eps, beta1=0.9, beta2=0.999):
    """Return ``x`` after a step of the base method in float64: Adam with the second moment of a matrix factored."""
    (m, v), g = state, grad.double()
    m.mul_(beta1).add_(g, alpha=1 - beta1)
    v.mul_(beta2).add_(g * g, alpha=1 - beta2)
    second = v / (1 - beta2**t)
    if g.ndim > 1:
        rows, cols = second.mean(-1, keepdim=True), second.mean(-2, keepdim=True)
        second = rows * cols / rows.mean(-2, keepdim=True)
    return x.double() - lr * (m / (1 - beta1**t)) / (second.sqrt() + eps)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=str
)
def test_capped_it_is_its_base(dtype, tolerance):
    """Groups with their own ``lr`` and ``eps``, all shapes, 50 steps, empty tensors among them."""
    torch.manual_seed(0)
    params = make_params(dtype, ODD_SHAPES)
    groups = [{"params": params[::2], "lr": 0.02}, {"params": params[1::2], "lr": 0.005, "eps": 1e-3}]
    momo = MomoAdafactor(groups, lower_bound=CAPPED)
    expected = [param.detach().clone() for param in params]
    states = [(torch.zeros_like(p, dtype=torch.float64), torch.zeros_like(p, dtype=torch.float64)) for p in params]
    generator = torch.Generator().manual_seed(1)
    for t in range(1, STEPS + 1):
        loss = backward(params, generator)
        for i, (param, state) in enumerate(zip(params, states, strict=True)):
            settings = {"lr": 0.005, "eps": 1e-3} if i % 2 else {"lr": 0.02, "eps": 1e-8}
            expected[i] = base_step(expected[i], param.grad, state, t, **settings).to(dtype)
        momo.step(loss=loss)
    assert momo.last_step.capped_steps == STEPS
    for param, other in zip(params, expected, strict=True):
        torch.testing.assert_close(param.detach(), other, rtol=tolerance, atol=tolerance)


def test_vectors_are_adams():
    """To the bit: what has no rows and columns goes through the code of MomoAdam."""
    torch.manual_seed(0)
    params = make_params(torch.float32, ((5,), (), (64,)))
    others = [nn.Parameter(param.detach().clone()) for param in params]
    ours, theirs = MomoAdafactor(params, 0.3, weight_decay=0.1), MomoAdam(others, 0.3, weight_decay=0.1)
    for k in range(5):
        for tensors, optimizer in ((params, ours), (others, theirs)):
            optimizer.step(loss=backward(tensors, torch.Generator().manual_seed(k)))
    assert ours.last_step == theirs.last_step
    assert all(torch.equal(p, q) for p, q in zip(params, others, strict=True))


PIECE = piece_size(torch.device("cpu"))


@pytest.mark.parametrize("shape", [(2, PIECE + 3), (700, 601), (3, 401, 403), (PIECE + 3, 2)], ids=str)
def test_matrices_of_several_pieces(shape):
    """Sums over rows and columns go on from piece to piece, also within a row."""
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, dtype=torch.float64)), nn.Parameter(torch.randn(3).double())]
    optimizer = MomoAdafactor(params, 0.05, weight_decay=0.1, adapt_lower_bound=True)
    oracle = make_oracle(optimizer)
    for _ in range(3):
        for param in params:
            param.grad = 0.01 * param.detach() + 0.003 * torch.randn_like(param)
        optimizer.step(loss=1.0)
        oracle.step(1.0, gradients(optimizer))
    assert_matches(optimizer, oracle, 1e-12)


def test_a_matrix_of_zero_gradients_is_left_alone():
    """LoRA's A has a gradient of zero at the first step, since B is zero: its averages have a mean of zero."""
    a, b = nn.Parameter(torch.randn(2, 5)), nn.Parameter(torch.zeros(3, 2))
    optimizer, before = MomoAdafactor([a, b], 0.1), a.detach().clone()
    loss = (b @ a - 1.0).square().mean()
    loss.backward()
    optimizer.step(loss=loss)
    assert torch.equal(a, before)
    assert optimizer.last_step.skipped_steps == 0
    assert bool((b != 0).all())


def test_checkpoint_of_other_columns():
    """The average of the columns has neither the shape of the parameter nor one that tells of it."""
    params = [nn.Parameter(torch.randn(3, 4))]
    optimizer = MomoAdafactor(params, 0.1)
    params[0].grad = torch.randn(3, 4)
    optimizer.step(loss=1.0)
    saved = optimizer.state_dict()
    saved["state"][0]["exp_avg_sq_col"] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"exp_avg_sq_col has shape \(5,\), .* \(3, 4\) \(so .* have \(4,\)"):
        optimizer.load_state_dict(saved)


def test_sharded_parameters_are_refused():
    """FSDP1 and ZeRO flatten parameters; the error comes before training and names what works."""
    message = r"sharded: MomoAdafactor needs whole tensors, .*use FSDP2 .*or DistributedDataParallel"
    with pytest.raises(NotImplementedError, match=message):
        MomoAdafactor([nn.Parameter(torch.ones(2, 2))], sharded=True)


def bytes_per_parameter(optimizer, params):
    """Return the size of the tensors of a state, without counters, over the number of elements."""
    held = sum(
        value.numel() * value.element_size()
        for param in params
        for name, value in optimizer.state[param].items()
        if name != "step" and isinstance(value, torch.Tensor) and value.dim() > 0
    )
    return held / sum(param.numel() for param in params)


T5_BLOCK = [(512, 512)] * 4 + [(2048, 512), (512, 2048), (512,), (512,)]
OTHERS = {
    "torch.optim.AdamW": lambda params: torch.optim.AdamW(params),
    "transformers' Adafactor": lambda params: Adafactor(params, lr=1e-3, relative_step=False),
    "transformers' Adafactor, beta1=0.9": lambda params: Adafactor(params, lr=1e-3, relative_step=False, beta1=0.9),
}


@pytest.mark.parametrize("name", [*METHODS, *OTHERS])
def test_state_bytes_on_the_page(name):
    """The page's table of bytes per parameter is measured here, on the parameters of a T5 block."""
    params = [nn.Parameter(torch.zeros(shape)) for shape in T5_BLOCK]
    make = OTHERS.get(name) or METHODS[name].cls
    optimizer = make(params)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step(**({} if name in OTHERS else {"loss": 1.0}))
    shown = name if name in OTHERS else f"`{METHODS[name].cls.__name__}`"
    (row,) = re.findall(rf"^\| {re.escape(shown)} \| ([0-9.]+) \|", PAGE.read_text(), flags=re.MULTILINE)
    assert f"{bytes_per_parameter(optimizer, params):.2f}" == row
