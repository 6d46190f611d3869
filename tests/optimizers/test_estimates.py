"""``slope``, ``gap``, ``caution`` and bounds that come with a batch, in whole steps."""

import copy
import re

import pytest
import torch
from optimizer_cases import (
    METHODS,
    VARIANTS,
    assert_bit_equal,
    assert_matches,
    backward,
    gradients,
    make_oracle,
    make_params,
    method_of,
    snapshot,
)
from torch import nn

from hf_momo import Momo, MomoAdam, get_optimizer_info
from hf_momo.estimates import Progress, SlopeAverage
from hf_momo.optimizers import scalars
from hf_momo.optimizers.registry import parse_optim_args

_MEASURING = {name: method.cls for name, method in METHODS.items() if "slope" in get_optimizer_info(name).defaults}
by_method = pytest.mark.parametrize("cls", _MEASURING.values(), ids=_MEASURING)
by_variant = pytest.mark.parametrize(("cls", "options"), VARIANTS.values(), ids=VARIANTS.keys())
OPTIONS = {
    "slope": {"slope": "batch"},
    "gap": {"gap": "progress"},
    "both": {"slope": "batch", "gap": "progress", "caution": 3.0},
}
by_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def train(optimizer, steps, seed=1, **arguments):
    params = [p for group in optimizer.param_groups for p in group["params"]]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.step(loss=backward(params, generator), **arguments)


@by_method
def test_off_by_default(cls):
    """Without the options no group holds a scalar of theirs, and three sums are measured."""
    optimizer = cls(make_params())
    train(optimizer, 2)
    group = optimizer.param_groups[0]
    assert (group["slope"], group["gap"], group["caution"]) == ("direction", "bound", 1.0)
    assert not group.keys() & {*SlopeAverage._fields, *Progress._fields, "last_gap", "last_slope"}
    assert (optimizer.last_step.gap, optimizer.last_step.slope) == (None, None)


@by_method
def test_step_size_is_the_gap_over_the_slope(cls):
    """What ``last_step`` reports explains the step below the cap."""
    optimizer = cls(make_params(), lr=0.2, **OPTIONS["both"])
    for seed in range(6):
        train(optimizer, 1, seed)
        last = optimizer.last_step
        assert last.step_size[0] == pytest.approx(0.2 * max(0.0, min(1.0, last.gap / (3.0 * last.slope))), rel=1e-12)


@by_method
def test_slope_of_the_batch_is_never_below_that_of_the_direction(cls):
    """Gradients that shrink: their average is larger than each, and so is its slope."""
    params = make_params()
    optimizer = cls(params, lr=0.01, slope="batch", lower_bound=-1e12)
    base = cls(copy.deepcopy(params), lr=0.01, slope="direction", gap="progress", lower_bound=-1e12)
    for step in range(6):
        for each in (optimizer, base):
            for p in each.param_groups[0]["params"]:
                p.grad = torch.full_like(p, 0.1**step)
            each.step(loss=1.0)
        assert optimizer.last_step.slope >= base.last_step.slope * (1 - 1e-12)


@by_method
def test_noise_raises_the_slope_of_the_batch(cls):
    """Gradients of alternating signs: their average shows a small part of what each of them is."""
    slopes = {}
    for slope in ("direction", "batch"):
        params = [nn.Parameter(torch.ones(4, dtype=torch.float64))]
        optimizer = cls(params, lr=0.01, slope=slope, gap="progress", lower_bound=-1e12)
        # In Lion the newest gradient weighs more than a tenth until the average with beta 0.99 has filled.
        for step in range(150):
            params[0].grad = torch.full_like(params[0], 1.0 if step % 2 else -0.9)
            optimizer.step(loss=1.0)
        slopes[slope] = optimizer.last_step.slope
    assert slopes["batch"] > 4 * slopes["direction"]


@by_method
def test_clipping_scales_both_sides(cls):
    """Clipped to a constant factor, with its sample weight, a step is the same share of the cap as unclipped.

    Sign methods, and Adam and Adafactor without eps, take the same step, so their whole trajectories agree.
    """
    ends = []
    for weight in (1.0, 0.25):
        torch.manual_seed(0)
        extra = {"eps": 0.0} if "eps" in method_of(cls).group_option else {}
        params = make_params()
        optimizer = cls(params, lr=0.05 * (1.0 if cls is not Momo else 1 / weight), **OPTIONS["both"], **extra)
        generator = torch.Generator().manual_seed(1)
        for _ in range(8):
            loss = backward(params, generator)
            for p in params:
                p.grad.mul_(weight)
            optimizer.step(loss=loss, sample_weight=weight)
        ends.append(optimizer.last_step)
    assert ends[1].gap == pytest.approx(ends[0].gap, rel=1e-9)
    assert ends[1].step_size[0] * (1.0 if cls is not Momo else 0.25) == pytest.approx(ends[0].step_size[0], rel=1e-9)


@by_options
def test_state_of_older_releases_is_loaded(options):
    """State saved before the options existed: the optimizer's own options stay, and their averages begin anew."""
    old = MomoAdam(make_params())
    train(old, 3)
    state = old.state_dict()
    for group in state["param_groups"]:
        for name in ("slope", "gap", "caution", "bound_excess_avg"):
            del group[name]
    new = MomoAdam(make_params(), **options)
    new.load_state_dict(state)
    group = new.param_groups[0]
    assert {name: group[name] for name in options} == options
    assert all(float(group[name]) == 0.0 for name in scalars.names_of(group)[len(scalars.SCALARS) :])
    assert float(group["loss_avg"]) == float(old.param_groups[0]["loss_avg"])
    train(new, 3)
    assert new.last_step.num_steps == 6


def test_option_set_during_training():
    """Its averages begin at that step, in all groups."""
    a, b, c, d = make_params()
    optimizer = MomoAdam([{"params": [a, b]}, {"params": [c, d]}], lr=0.1)
    train(optimizer, 2)
    for group in optimizer.param_groups:
        group["gap"] = "progress"
    train(optimizer, 2)
    assert {float(group["loss_count"]) for group in optimizer.param_groups} == {2.0}


REFUSED = [
    ({"slope": "mean"}, ValueError, "slope: got 'mean', must be one of 'direction', 'batch'"),
    ({"gap": "loss"}, ValueError, "gap: got 'loss', must be one of 'bound', 'progress'"),
    *(
        ({"caution": value}, ValueError, f"caution: got {value}, must be in (0, inf)")
        for value in (0.0, -1.0, float("nan"), float("inf"))
    ),
    ({"caution": "3"}, TypeError, "caution: got '3', must be a number in (0, inf)"),
    *(
        ({"adapt_lower_bound": True, name: value}, ValueError, f"{name}: got {value!r} with adapt_lower_bound=True")
        for name, value in (("slope", "batch"), ("gap", "progress"), ("caution", 2.0))
    ),
]


@pytest.mark.parametrize(("options", "error", "message"), REFUSED)
def test_refused(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        MomoAdam(make_params(), **options)


def test_groups_must_agree():
    a, b, *_ = make_params()
    with pytest.raises(ValueError, match="slope: got direction, batch in the parameter groups, must be the same"):
        MomoAdam([{"params": [a]}, {"params": [b], "slope": "batch"}])


def test_direction_without_a_metric_or_a_dual_norm():
    """A method that cannot measure the gradient of a batch refuses the option, with the reason."""

    class Unmeasured(type(Momo.direction)):
        batch_slope = None

    class MomoUnmeasured(Momo):
        direction = Unmeasured()

    MomoUnmeasured(make_params(), gap="progress")
    with pytest.raises(ValueError, match=r"slope: got 'batch', which measures .* this method measures neither"):
        MomoUnmeasured(make_params(), slope="batch")


@pytest.mark.parametrize("name", _MEASURING)
def test_optim_args(name):
    """The Trainer's text becomes typed options."""
    options = parse_optim_args(name, "slope=batch,gap=progress,caution=3")
    assert options == OPTIONS["both"]
    train(get_optimizer_info(name).create(make_params(), **options), 2)


@by_variant
def test_constant_bound_of_the_batches_is_the_bound_of_the_optimizer(cls, options):
    """To rounding, also with sample weights, where the average of the weights is not the bias correction."""
    ends = []
    for own, given in ((0.3, None), (0.0, 0.3), (-2.0, torch.tensor(0.3, dtype=torch.float64))):
        torch.manual_seed(0)
        optimizer = cls(make_params(), **options, lower_bound=own)
        for seed, weight in enumerate((1.0, 0.5, 0.1, 1.0, 0.7)):
            train(optimizer, 1, seed, sample_weight=weight, lower_bound=given)
        ends.append(optimizer)
    expected = torch.cat([p.detach().reshape(-1) for p in ends[0].param_groups[0]["params"]])
    for each in ends[1:]:
        found = torch.cat([p.detach().reshape(-1) for p in each.param_groups[0]["params"]])
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        assert each.last_step.lower_bound == pytest.approx(0.3, rel=1e-12)
        assert each.last_step.step_size == pytest.approx(ends[0].last_step.step_size, rel=1e-10)


@by_variant
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_bounds_of_some_batches(cls, options, dtype):
    """A step without a bound counts with that of the optimizer; a bound that is not finite skips the step."""
    optimizer = cls(make_params(dtype), **options, lower_bound=0.1, weight_decay=0.1)
    oracle = make_oracle(optimizer)
    params = optimizer.param_groups[0]["params"]
    generator = torch.Generator().manual_seed(1)
    for bound, weight in ((0.2, 1.0), (None, 0.5), (0.05, 1.0), (0.4, 0.25), (None, 1.0), (0.3, 1.0)):
        loss = backward(params, generator)
        for p in params:
            p.grad.mul_(weight)
        optimizer.step(loss=loss, sample_weight=weight, lower_bound=bound)
        oracle.step(float(loss), gradients(optimizer), weight, bound=bound)
        assert_matches(optimizer, oracle, 1e-12 if dtype == torch.float64 else 2e-5)
    before = snapshot(optimizer)
    optimizer.step(loss=1.0, lower_bound=float("nan"))
    assert_bit_equal(snapshot(optimizer), before, but=["skipped_steps"])


@pytest.mark.parametrize(
    ("options", "bound", "error", "message"),
    [
        ({"adapt_lower_bound": True}, 0.5, ValueError, "lower_bound: got 0.5 for one step, but adapt_lower_bound"),
        ({}, torch.ones(2), ValueError, "lower_bound: got a tensor of shape (2,), must be a scalar"),
        ({}, torch.tensor(1), TypeError, "lower_bound: got a tensor of dtype torch.int64"),
        ({}, "auto", TypeError, "lower_bound: got str 'auto', must be a 0-d tensor or a real number"),
    ],
)
def test_refused_bound_of_a_batch(options, bound, error, message):
    optimizer = Momo(make_params(), **options)
    before = snapshot(optimizer)
    for p in optimizer.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    with pytest.raises(error, match=re.escape(message)):
        optimizer.step(loss=1.0, lower_bound=bound)
    assert all(torch.equal(snapshot(optimizer)[name], value) for name, value in before.items() if "param" in name)
