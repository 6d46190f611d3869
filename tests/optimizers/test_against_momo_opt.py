"""Comparison with the authors' package momo-opt 0.1.0, an independent reference.

With one group alone: it solves several groups one by one, ours jointly.
"""

import itertools

import momo
import pytest
import torch
from optimizer_cases import assert_near
from torch import nn

from hf_momo import Momo, MomoAdam

# Largest deviation in float64 over STEPS steps with shared gradients; 1e-14 was measured.
TOLERANCE = 1e-11
STEPS = 10


@pytest.fixture(autouse=True)
def float64():
    """The package keeps its averages in the default dtype, for parameters of any dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def mlp_regression(seed):
    """A small network on a smooth target: not convex, mini-batches, a loss near 0 can be reached."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(64, 3, generator=generator)
    targets = (inputs[:, :1] * 2).sin() + inputs[:, 1:2] * inputs[:, 2:]
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def loss(k):
        rows = torch.arange(8) + 8 * (k % 8)
        return (model(inputs[rows]) - targets[rows]).square().mean()

    return model, loss


def logistic_regression(seed):
    """Separable classes with label noise: convex, badly scaled, loss above 0."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(60, 5, generator=generator) * torch.tensor([1.0, 3.0, 0.1, 1.0, 10.0])
    labels = ((inputs[:, 0] + inputs[:, 1] + 0.5 * torch.randn(60, generator=generator)) > 0).double()
    torch.manual_seed(seed)
    model = nn.Linear(5, 1)

    def loss(k):
        rows = torch.arange(6) + 6 * (k % 10)
        return nn.functional.binary_cross_entropy_with_logits(model(inputs[rows]).squeeze(1), labels[rows])

    return model, loss


PROBLEMS = [mlp_regression, logistic_regression]
LRS = [0.003, 0.03, 0.3, 3.0]
WEIGHT_DECAYS = [0.0, 0.01, 0.5]
LOWER_BOUNDS = [0.0, 0.3]
# Class, the package's class, our options and theirs, as (start or decay form).
FORMS = {
    "momo-first-sample": (Momo, momo.Momo, {"bias_correction": False}, {"bias_correction": False}),
    "momo-bias-correction": (Momo, momo.Momo, {"bias_correction": True}, {"bias_correction": True}),
    "adam-proximal": (MomoAdam, momo.MomoAdam, {"weight_decay_form": "proximal"}, {"divide": True}),
    "adam-adamw": (MomoAdam, momo.MomoAdam, {"weight_decay_form": "adamw"}, {"divide": False}),
}


def assert_same(problem, seed, form, ours_options, theirs_options):
    """Step both with the loss and gradient of our parameters; compare parameters and bound after each step."""
    ours_cls, theirs_cls, ours_form, theirs_form = FORMS[form]
    model, loss_of = problem(seed)
    params = list(model.parameters())
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    ours, theirs = ours_cls(params, **ours_options, **ours_form), theirs_cls(copies, **theirs_options, **theirs_form)
    for k in range(STEPS):
        ours.zero_grad()
        loss = loss_of(k)
        loss.backward()
        for p, copy in zip(params, copies, strict=True):
            copy.grad = p.grad.clone()
        ours.step(loss=loss)
        theirs.step(loss=loss.detach())
        for p, copy in zip(params, copies, strict=True):
            assert_near(p, copy.detach(), TOLERANCE, "parameter")
        assert_near(ours.param_groups[0]["lower_bound"], float(theirs.lb), TOLERANCE, "bound")
    assert all(bool(torch.isfinite(p).all()) for p in params)


@pytest.mark.parametrize("lr", LRS)
@pytest.mark.parametrize("weight_decay", WEIGHT_DECAYS)
@pytest.mark.parametrize("lower_bound", LOWER_BOUNDS)
@pytest.mark.parametrize("estimated", [False, True], ids=["given", "estimated"])
@pytest.mark.parametrize("form", FORMS)
def test_all_settings(lr, weight_decay, lower_bound, estimated, form):
    """192 settings on two problems, each with its own seed."""
    for i, problem in enumerate(PROBLEMS):
        seed = 10 * LRS.index(lr) + 2 * WEIGHT_DECAYS.index(weight_decay) + i
        assert_same(
            problem,
            seed,
            form,
            {"lr": lr, "weight_decay": weight_decay, "lower_bound": lower_bound, "adapt_lower_bound": estimated},
            {"lr": lr, "weight_decay": weight_decay, "lb": lower_bound, "use_fstar": estimated},
        )


@pytest.mark.parametrize(("beta", "beta2"), list(itertools.product([0.0, 0.5, 0.99], [0.0, 0.9])))
@pytest.mark.parametrize("form", FORMS)
def test_other_betas(beta, beta2, form):
    """Betas and eps that are not the defaults."""
    betas = {"betas": (beta, beta2), "eps": 1e-3} if FORMS[form][0] is MomoAdam else {"beta": beta}
    for problem in PROBLEMS:
        options = {"lr": 0.3, "weight_decay": 0.1, **betas}
        assert_same(problem, 5, form, options, options)


def test_settings_reach_every_branch():
    """The settings cover capped and uncapped steps and estimated bounds that move."""
    capped, free, moved = 0, 0, 0
    for lr, form in itertools.product(LRS, FORMS):
        model, loss_of = mlp_regression(1)
        optimizer = FORMS[form][0](model.parameters(), lr=lr, adapt_lower_bound=True, **FORMS[form][2])
        for k in range(STEPS):
            optimizer.zero_grad()
            loss = loss_of(k)
            loss.backward()
            optimizer.step(loss=loss)
            last = optimizer.last_step
            capped, free = capped + last.capped, free + (not last.capped)
            moved += last.lower_bound > 0.0
    assert min(capped, free, moved) > 10
