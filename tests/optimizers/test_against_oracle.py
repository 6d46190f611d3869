"""Every method against the float64 oracle, step by step: parameters, averages, bound and step sizes."""

import pytest
import torch
from optimizer_cases import (
    CASES,
    ESTIMATING,
    VARIANTS,
    assert_bit_equal,
    assert_matches,
    assert_near,
    backward,
    estimating,
    gradients,
    make_oracle,
    make_params,
    method_of,
    oracle_group,
    snapshot,
)

from hf_momo import Momo

STEPS = 10
# Largest deviation, relative and absolute, after STEPS steps whose gradients both sides share.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}

by_case = pytest.mark.parametrize(("cls", "options"), [case[:2] for case in CASES], ids=[case[2] for case in CASES])
by_variant = pytest.mark.parametrize(("cls", "options"), VARIANTS.values(), ids=VARIANTS.keys())


def run(optimizer, oracle, *, tolerance, actives=None, weights=None, losses=None, seed=1, steps=STEPS):
    """Step both with the gradients of the optimizer's own parameters, comparing after each step."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    generator = torch.Generator().manual_seed(seed)
    for k in range(steps):
        loss = backward(params, generator, actives(k) if actives else None)
        weight = weights[k % len(weights)] if weights else 1.0
        for p in params:
            if p.grad is not None:
                p.grad.mul_(weight)
        value = losses(k, loss) if losses else loss
        optimizer.step(loss=value, sample_weight=torch.tensor(weight, dtype=torch.float64))
        oracle.step(float(value), gradients(optimizer), weight)
        assert_matches(optimizer, oracle, tolerance)


@by_case
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_one_group(cls, options, dtype, seed):
    torch.manual_seed(seed)
    optimizer = cls(make_params(dtype), **options)
    run(optimizer, make_oracle(optimizer), tolerance=TOLERANCE[dtype], seed=seed)


@by_case
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_groups_with_their_own_settings_are_solved_jointly(cls, options, dtype):
    """Groups differ in lr, weight decay and eps, one has lr 0; one scale for all of them."""
    a, b, c, d = make_params(dtype)
    groups = [
        {"params": [a, c], "weight_decay": 0.5},
        {"params": [b], "lr": options["lr"] * 3},
        {"params": [d], "lr": 0.0, "weight_decay": 0.1},
    ]
    groups[1].update(method_of(cls).group_option)
    optimizer = cls(groups, **options)
    run(optimizer, make_oracle(optimizer), tolerance=TOLERANCE[dtype])


@by_case
def test_lr_schedule(cls, options):
    """The cap may change at every step, also to 0 and back."""
    optimizer = cls(make_params(), **options)
    oracle = make_oracle(optimizer)
    for k, factor in enumerate([0.0, 0.1, 3.0, 0.0, 1.0]):
        optimizer.param_groups[0]["lr"] = oracle.groups[0].lr = options["lr"] * factor
        run(optimizer, oracle, tolerance=1e-12, steps=1, seed=k)


@by_case
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_sample_weights(cls, options, dtype):
    """Gradients are scaled by a factor that changes at every step; the loss is not."""
    optimizer = cls(make_params(dtype), **options)
    run(optimizer, make_oracle(optimizer), tolerance=TOLERANCE[dtype], weights=[1.0, 0.25, 0.01, 0.8])


@by_case
def test_parameters_without_a_gradient(cls, options):
    """One parameter joins at the fourth step, one has a gradient in every third, one never has any."""
    optimizer = cls(make_params(), **options)

    def actives(k):
        return [0, *([1] if k % 3 == 0 else []), *([2] if k >= 3 else [])]

    run(optimizer, make_oracle(optimizer), tolerance=1e-12, actives=actives)


@by_case
def test_non_finite_losses_between(cls, options):
    """The oracle only counts such a step."""
    optimizer = cls(make_params(), **options)
    run(
        optimizer,
        make_oracle(optimizer),
        tolerance=1e-12,
        losses=lambda k, loss: loss * float("nan") if k in (1, 4) else loss,
    )
    assert optimizer.last_step.skipped_steps == 2


@pytest.mark.parametrize(("cls", "options"), ESTIMATING.values(), ids=ESTIMATING.keys())
def test_losses_that_jump_reset_the_estimated_bound(cls, options):
    """Losses that fall to a fraction make the estimate too high, so that the rule resets it, at least once here."""
    optimizer = cls(make_params(), **options, adapt_lower_bound=True, lower_bound=-5.0)
    oracle = make_oracle(optimizer)
    bounds = []

    def loss_of(k, loss):
        bounds.append(oracle.lower_bound)
        return loss * 20 if k < 6 else loss - 3

    run(optimizer, oracle, tolerance=1e-12, losses=loss_of)
    assert max(bounds) > -5.0
    assert bounds[-1] < max(bounds)


@by_variant
def test_group_added_during_training(cls, options):
    """A group added later joins the model of the loss as it stands; its momentum starts then."""
    params = make_params()
    optimizer = cls(params[:2], **options, weight_decay=0.1, **estimating(cls, options))
    oracle = make_oracle(optimizer)
    run(optimizer, oracle, tolerance=1e-12, steps=5)
    optimizer.add_param_group({"params": params[2:], "lr": 0.7})
    oracle.add_group(oracle_group(optimizer.param_groups[-1]))
    for group in optimizer.param_groups:
        assert_near(group["loss_avg"], oracle.loss_avg, 1e-12, "loss_avg")
    run(optimizer, oracle, tolerance=1e-12, steps=5, seed=2)


@by_variant
def test_parameter_unfrozen_later(cls, options):
    """A frozen parameter has no state and does not move, although its group decays weights."""
    params = make_params()
    params[1].requires_grad_(False)
    before = params[1].clone()
    optimizer = cls(params, **options, weight_decay=0.1)
    oracle = make_oracle(optimizer)
    run(optimizer, oracle, tolerance=1e-12, steps=4, actives=lambda k: [0, 2, 3])
    assert torch.equal(params[1], before)
    assert params[1] not in optimizer.state
    params[1].requires_grad_(True)
    run(optimizer, oracle, tolerance=1e-12, steps=4, seed=2)
    assert not torch.equal(params[1], before)


@by_variant
@pytest.mark.parametrize("split", [((3,), (1, 0), (2,)), ((2,), (3,), (0,), (1,)), ((1, 3), (2, 0))])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_split_and_order_of_groups_change_nothing(cls, options, split, dtype):
    """Groups with equal settings are one group."""
    options = {**options, "weight_decay": 0.1, **estimating(cls, options)}
    results = []
    for groups in (((0, 1, 2, 3),), split):
        torch.manual_seed(0)
        params = make_params(dtype)
        optimizer = cls([{"params": [params[i] for i in group]} for group in groups], **options)
        generator = torch.Generator().manual_seed(1)
        for _ in range(STEPS):
            optimizer.step(loss=backward(params, generator))
        results.append((params, optimizer.last_step))
    (params, last), (split_params, split_last) = results
    for p, q in zip(params, split_params, strict=True):
        assert_near(q, p.double(), TOLERANCE[dtype], "parameter")
    assert split_last.lower_bound == pytest.approx(last.lower_bound, rel=TOLERANCE[dtype])
    assert all(size == pytest.approx(last.step_size[0], rel=TOLERANCE[dtype]) for size in split_last.step_size)


@by_variant
def test_closure_equals_loss(cls, options):
    """A closure that computes loss and gradients gives the same bits as ``loss=``."""
    ends = []
    for with_closure in (False, True):
        torch.manual_seed(0)
        params = make_params()
        optimizer = cls(params, **options)
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            if with_closure:
                returned = optimizer.step(lambda p=params, g=generator: backward(p, g))
            else:
                loss = backward(params, generator)
                returned = optimizer.step(loss=loss)
                assert returned is loss
            assert float(returned) > 0
        ends.append(snapshot(optimizer))
    assert_bit_equal(*ends)


@pytest.mark.parametrize("form", ["float", "0-d tensor", "tensor of shape (1,)", "requires grad", "bfloat16"])
def test_forms_of_the_loss(form):
    """The form of the loss (number or tensor) does not matter."""
    (param,) = make_params(torch.float32, [(3,)])
    param.grad = torch.ones(3)
    loss = torch.tensor(1.5)
    loss = {
        "float": 1.5,
        "0-d tensor": loss,
        "tensor of shape (1,)": loss.reshape(1),
        "requires grad": loss.requires_grad_(),
        "bfloat16": loss.bfloat16(),
    }[form]
    optimizer = Momo([param])
    optimizer.step(loss=loss)
    assert optimizer.last_step.loss_avg == 1.5
    assert not optimizer.param_groups[0]["loss_avg"].requires_grad
