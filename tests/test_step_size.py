"""The rule by itself: it minimises the model, is invariant where it must be, and takes nothing that is not finite."""

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_momo import step_size
from hf_momo.estimates import SlopeAverage
from hf_momo.step_size import GroupSettings, GroupSums, LossModel, bias_correction

# The automatic seed fixture is function-scoped; each example seeds itself.
relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

finite = st.floats(-1e3, 1e3, allow_subnormal=False)
positive = st.floats(1e-3, 1e3)


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def take_step(model, loss, sums, groups, *, beta, start_at_first_sample, model_beta=None, **options):
    weights = step_size.averaging(
        model.num_steps, beta, model_beta=model_beta, start_at_first_sample=start_at_first_sample
    )
    return step_size.take_step(model, loss, sums, groups, weights, **options)


@st.composite
def rule_inputs(draw):
    """Arguments of ``take_step`` for one to four groups; norms may be zero, lr and weight decay too."""
    count = draw(st.integers(1, 4))
    column = st.lists(finite, min_size=count, max_size=count)
    norms = st.lists(st.one_of(st.just(0.0), positive), min_size=count, max_size=count)
    lr = st.one_of(st.just(0.0), st.floats(1e-4, 1e2))
    groups = [GroupSettings(draw(lr), draw(st.sampled_from([0.0, 0.01, 1.0]))) for _ in range(count)]
    from_zero = draw(st.booleans())
    beta = draw(st.sampled_from([0.0, 0.5, 0.9, 0.99]))
    steps = draw(st.integers(0, 5))
    started = steps > 0
    initial = draw(st.sampled_from([-10.0, 0.0, 0.5]))
    model = LossModel(
        tensor(float(steps)),
        tensor(draw(finite) if started else 0.0),
        tensor(draw(finite) if started else 0.0),
        tensor((1 - beta**steps if from_zero else 1.0) if started else 0.0),
        tensor(max(draw(finite), initial) if started else initial),
        tensor(0.0),
    )
    sums = GroupSums(tensor(draw(column)), tensor(draw(column)), tensor(draw(norms)))
    options = {
        "beta": beta,
        "sample_weight": 1.0,
        "start_at_first_sample": not from_zero,
        "initial_lower_bound": initial,
        "adapt_lower_bound": draw(st.booleans()),
    }
    return model, tensor(draw(finite)), sums, groups, options


def run(inputs):
    model, loss, sums, groups, options = inputs
    return take_step(model, loss, sums, groups, **options)


@relaxed
@given(rule_inputs())
def test_scale_is_a_share_of_the_cap_and_bound_keeps_its_floor(inputs):
    step = run(inputs)
    assert bool(step.finite)
    assert 0.0 <= float(step.scale) <= 1.0
    assert float(step.model.lower_bound) >= inputs[4]["initial_lower_bound"]
    assert float(step.model.num_steps) == float(inputs[0].num_steps) + 1


@relaxed
@given(rule_inputs(), st.randoms(use_true_random=False), st.floats(0.0, 1.0))
def test_split_and_order_of_groups(inputs, random, share):
    """Cutting a group in two and shuffling the groups gives the same scale, averages and bound."""
    model, loss, sums, groups, options = inputs
    rows = [(*row, group) for *row, group in zip(*(s.tolist() for s in sums[:3]), groups, strict=True)]
    *numbers, group = rows.pop()
    rows += [([n * part for n in numbers] + [group]) for part in (share, 1.0 - share)]
    random.shuffle(rows)
    columns = list(zip(*rows, strict=True))
    moved = run((model, loss, GroupSums(*(tensor(c) for c in columns[:3])), columns[3], options))
    step = run(inputs)
    # Sums of terms up to 1e3 may cancel: their rounding is what is allowed.
    denominator = sum(g.lr * g.shrinkage * n for g, n in zip(groups, sums.slope.tolist(), strict=True))
    assert float(moved.scale) == pytest.approx(float(step.scale), abs=1e-14 + 1e-10 / max(denominator, 1e-9))
    for new, old in zip(moved.model, step.model, strict=True):
        assert float(new) == pytest.approx(float(old), rel=1e-9, abs=1e-6)


@relaxed
@given(rule_inputs(), st.data())
def test_split_and_order_of_groups_with_the_slope_of_the_batch(inputs, data):
    """Hölder's bound is taken over all groups together: groups of equal settings may be cut in two.

    The root of a sum is not the sum of the roots, so bounds of single groups would not add up.
    """
    model, loss, sums, groups, options = inputs
    kinds = data.draw(st.lists(st.booleans(), min_size=len(groups), max_size=len(groups)))
    groups = [group._replace(dual_norm=kind) for group, kind in zip(groups, kinds, strict=True)]
    batch = data.draw(st.lists(positive, min_size=len(groups), max_size=len(groups)))
    average = SlopeAverage(tensor(data.draw(positive)), tensor(0.5))
    options = {**options, "adapt_lower_bound": False, "slope_average": average}
    whole = run((model, loss, sums._replace(batch_slope=tensor(batch)), groups, options))
    rows = [[*row, group] for *row, group in zip(*(s.tolist() for s in sums[:3]), batch, groups, strict=True)]
    *numbers, group = rows.pop()
    share = data.draw(st.floats(0.0, 1.0))
    rows += [[n * part for n in numbers] + [group] for part in (share, 1.0 - share)]
    data.draw(st.randoms(use_true_random=False)).shuffle(rows)
    columns = list(zip(*rows, strict=True))
    split = run((model, loss, GroupSums(*(tensor(c) for c in columns[:4])), columns[4], options))
    for name in (*SlopeAverage._fields, "last_slope"):
        assert float(split.estimates[name]) == pytest.approx(float(whole.estimates[name]), rel=1e-9, abs=1e-9)


@relaxed
@given(rule_inputs(), st.sampled_from([1e-6, 0.1, 7.0, 1e6]))
def test_unit_of_the_loss_identity_metric(inputs, unit):
    """Loss, gradient and bound in another unit, lr and weight decay in its inverse: the same share of the cap."""
    model, loss, sums, groups, options = inputs
    other = run(
        (
            LossModel(
                model.num_steps,
                model.loss_avg * unit,
                model.grad_dot_param_avg * unit,
                model.weight_avg,
                model.lower_bound * unit,
                model.bound_excess_avg * unit,
            ),
            loss * unit,
            GroupSums(sums[0] * unit, sums[1] * unit, sums[2] * unit**2),
            [GroupSettings(g.lr / unit, g.weight_decay * unit) for g in groups],
            {**options, "initial_lower_bound": options["initial_lower_bound"] * unit},
        )
    )
    assert_same_up_to_unit(run(inputs), other, unit, sums, groups)


@relaxed
@given(rule_inputs(), st.sampled_from([1e-6, 0.1, 7.0, 1e6]))
def test_unit_of_the_loss_adam_metric(inputs, unit):
    """In Adam's metric the norm grows like the gradient, not its square, and lr and weight decay have no unit."""
    model, loss, sums, groups, options = inputs
    other = run(
        (
            LossModel(
                model.num_steps,
                model.loss_avg * unit,
                model.grad_dot_param_avg * unit,
                model.weight_avg,
                model.lower_bound * unit,
                model.bound_excess_avg * unit,
            ),
            loss * unit,
            GroupSums(*(s * unit for s in sums[:3])),
            groups,
            {**options, "initial_lower_bound": options["initial_lower_bound"] * unit},
        )
    )
    assert_same_up_to_unit(run(inputs), other, unit, sums, groups)


def assert_same_up_to_unit(step, other, unit, sums, groups):
    denominator = sum(g.lr * g.shrinkage * n for g, n in zip(groups, sums.slope.tolist(), strict=True))
    assert float(other.scale) == pytest.approx(float(step.scale), abs=1e-14 + 1e-10 / max(denominator, 1e-9))
    assert float(other.model.loss_avg) == pytest.approx(float(step.model.loss_avg) * unit, rel=1e-9)
    assert float(other.model.lower_bound) == pytest.approx(
        float(step.model.lower_bound) * unit, rel=1e-9, abs=1e-6 * unit
    )


class Problem(NamedTuple):
    """A step in three parameters of two groups: ``direction`` and ``metric`` in full, not as inner products."""

    x: torch.Tensor
    direction: torch.Tensor
    metric: torch.Tensor
    lr: torch.Tensor
    decay: torch.Tensor
    grad: torch.Tensor
    model: LossModel
    loss: float
    weight: float
    beta: float
    from_zero: bool

    @property
    def rho(self):
        return float(bias_correction(self.beta, self.model.num_steps + 1)) if self.from_zero else 1.0

    def take(self):
        groups = [GroupSettings(0.0, 0.0), GroupSettings(0.0, 0.0)]
        sums = torch.zeros(3, 2, dtype=torch.float64)
        for i, which in enumerate((slice(0, 2), slice(2, 3))):
            d, x = self.direction[which], self.x[which]
            sums[0, i], sums[1, i] = d @ x, self.grad[which] @ x
            sums[2, i] = d @ (d / self.metric[which]) / self.rho
            groups[i] = GroupSettings(float(self.lr[which][0]), float(self.decay[which][0]))
        return take_step(
            self.model,
            tensor(self.loss),
            GroupSums(*sums.unbind()),
            groups,
            beta=self.beta,
            sample_weight=self.weight,
            start_at_first_sample=not self.from_zero,
            initial_lower_bound=float(self.model.lower_bound),
            adapt_lower_bound=False,
        )

    def point(self, scale, rho):
        return (self.x - scale * self.lr / rho * self.direction / self.metric) / (1 + self.lr * self.decay)

    def objective(self, y, step):
        """Return the function that the step minimises, at one point or many (one a row)."""
        model = step.model
        h = model.loss_avg + y @ self.direction - model.grad_dot_param_avg
        cut = torch.maximum(h, model.weight_avg * model.lower_bound) / self.rho
        proximal = ((y - self.x) ** 2 * self.metric / (2 * self.lr)).sum(-1)
        return cut + proximal + (self.decay / 2 * y**2 * self.metric).sum(-1)


@st.composite
def problems(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    numbers = torch.randn(12, generator=generator, dtype=torch.float64)
    lr = [draw(st.sampled_from([1e-2, 0.3, 1.0, 30.0])) for _ in range(2)]
    decay = [draw(st.sampled_from([0.0, 0.1, 1.0])) for _ in range(2)]
    steps = draw(st.integers(0, 4))
    beta, from_zero = draw(st.sampled_from([0.0, 0.9])), draw(st.booleans())
    scale = float(steps > 0)
    model = LossModel(
        tensor(float(steps)),
        scale * numbers[9].abs(),
        scale * numbers[10],
        tensor((1 - beta**steps if from_zero else 1.0) * scale * draw(st.sampled_from([1.0, 0.6]))),
        tensor(draw(st.sampled_from([-3.0, 0.0, 0.5]))),
        tensor(0.0),
    )
    return Problem(
        x=numbers[:3],
        direction=numbers[3:6],
        metric=torch.rand(3, generator=generator, dtype=torch.float64) + 0.1 if draw(st.booleans()) else torch.ones(3),
        lr=tensor([lr[0], lr[0], lr[1]]),
        decay=tensor([decay[0], decay[0], decay[1]]),
        grad=numbers[6:9],
        model=model,
        loss=draw(st.floats(0.0, 5.0)),
        weight=draw(st.sampled_from([1.0, 0.2])),
        beta=beta,
        from_zero=from_zero,
    )


@relaxed
@given(problems())
def test_step_minimises_the_model(problem):
    """No point of a dense line search over the scale, and no small move in any direction, is lower.

    The proximal terms make the objective strongly convex, so at its minimiser every move costs at least its own
    proximal share, which anywhere else some direction would not.
    """
    step = problem.take()
    rho = problem.rho
    y = problem.point(float(step.scale), rho)
    reached = float(problem.objective(y, step))

    line = torch.stack([problem.point(t, rho) for t in torch.linspace(0, 1, 201, dtype=torch.float64)])
    assert reached <= float(problem.objective(line, step).min()) + 1e-12 * (1 + abs(reached))

    moves = torch.randn(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moves = torch.cat([moves * size for size in (1.0, 1e-2, 1e-4)])
    cost = (moves**2 * problem.metric * (1 / (2 * problem.lr) + problem.decay / 2)).sum(-1)
    gain = problem.objective(y + moves, step) - reached
    assert bool((gain >= cost * (1 - 1e-6) - 1e-13 * (1 + abs(reached))).all())


@relaxed
@given(problems(), st.sampled_from([None, 0.0, 0.5, 0.95]))
def test_step_of_constant_length_minimises_the_model_over_the_box(problem, model_beta):
    """No point of the box of radius ``lr`` around the decayed parameters is lower, and a shorter step is higher.

    The model looks ahead where ``model_beta`` is not ``beta``, as Lion's does.
    """
    groups, sums = [], torch.zeros(3, 2, dtype=torch.float64)
    for i, which in enumerate((slice(0, 2), slice(2, 3))):
        d, x = problem.direction[which], problem.x[which]
        sums[:, i] = torch.stack([d @ x, problem.grad[which] @ x, d.abs().sum()])
        groups.append(GroupSettings(float(problem.lr[which][0]), float(problem.decay[which][0]), decoupled=True))
    options = {"sample_weight": problem.weight, "initial_lower_bound": float(problem.model.lower_bound)}
    starts = {"beta": problem.beta, "model_beta": model_beta, "start_at_first_sample": not problem.from_zero}
    loss = tensor(problem.loss)
    step = take_step(
        problem.model, loss, GroupSums(*sums.unbind()), groups, **starts, **options, adapt_lower_bound=False
    )
    center = problem.x * (1 - problem.lr * problem.decay)
    past = problem.beta if model_beta is None else model_beta
    past = 0.0 if not problem.from_zero and float(problem.model.num_steps) == 0.0 else past
    samples = problem.weight * problem.loss, float(problem.grad @ problem.x), problem.weight
    loss_avg, grad_dot_param_avg, weight_avg = (
        past * old + (1 - past) * new for old, new in zip(problem.model[1:4], samples, strict=True)
    )

    def cut(y):
        h = loss_avg + y @ problem.direction - grad_dot_param_avg
        return torch.maximum(h, weight_avg * step.model.lower_bound)

    reached = float(cut(center - step.scale * problem.lr * problem.direction.sign()))
    corners = torch.cartesian_prod(*[tensor([-1.0, 0.0, 1.0])] * 3)
    assert reached <= float(cut(center + corners * problem.lr).min()) + 1e-9 * (1 + abs(reached))
    shorter = float(cut(center - 0.99 * step.scale * problem.lr * problem.direction.sign()))
    assert shorter > reached or float(step.scale) < 1e-9


def test_minimiser_test_sees_a_scale_that_is_slightly_off():
    """The check above rejects a step 1 % from the right one."""
    problem = Problem(
        x=tensor([1.0, -2.0, 0.5]),
        direction=tensor([0.5, -1.0, 1.5]),
        metric=tensor([1.0, 0.5, 2.0]),
        lr=tensor([1.0, 1.0, 3.0]),
        decay=tensor([0.1, 0.1, 0.0]),
        grad=tensor([0.4, -0.9, 1.0]),
        model=LossModel(*(tensor(v) for v in (0.0,) * 6)),
        loss=2.0,
        weight=1.0,
        beta=0.0,
        from_zero=False,
    )
    step = problem.take()
    scale = float(step.scale)
    assert 0.0 < scale < 1.0
    best = float(problem.objective(problem.point(scale, 1.0), step))
    for wrong in (0.99 * scale, 1.01 * scale):
        assert float(problem.objective(problem.point(wrong, 1.0), step)) > best + 1e-6


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["loss", "direction_dot_param", "grad_dot_param", "slope", "sample_weight"])
@pytest.mark.parametrize("group", [0, 1])
def test_not_finite_keeps_the_model(value, place, group):
    """Any number that is not finite, in any group: not committed, and the model of the loss stays to the bit."""
    model = LossModel(*(tensor(v) for v in (3.0, 1.5, -0.5, 0.7, 0.1, 0.2)))
    sums = {name: [1.0, 2.0] for name in GroupSums._fields[:3]}
    loss, weight = 1.0, 1.0
    if place == "loss":
        loss = value
    elif place == "sample_weight":
        weight = value
    else:
        sums[place][group] = value
    step = take_step(
        model,
        tensor(loss),
        GroupSums(*(tensor(v) for v in sums.values())),
        [GroupSettings(1.0, 0.0)] * 2,
        beta=0.9,
        sample_weight=tensor(weight),
        start_at_first_sample=False,
        initial_lower_bound=0.0,
        adapt_lower_bound=True,
    )
    assert not bool(step.finite)
    assert all(torch.equal(new, old) for new, old in zip(step.model, model, strict=True))


@pytest.mark.parametrize("field", GroupSums._fields[:2])
def test_overflow_of_a_total_of_finite_sums(field):
    """Each group's sum fits float32, their total does not: as little a step as one with an infinite sum."""
    sums = {name: torch.tensor([1.0, 1.0]) for name in GroupSums._fields[:3]}
    sums[field] = torch.tensor([3e38, 3e38])
    sums["slope"] = torch.tensor([3e38, 3e38])
    model = LossModel(*torch.zeros(6))
    step = take_step(
        model,
        torch.tensor(1.0),
        GroupSums(**sums),
        [GroupSettings(1.0, 0.0)] * 2,
        beta=0.0,
        sample_weight=1.0,
        start_at_first_sample=True,
        initial_lower_bound=0.0,
        adapt_lower_bound=False,
    )
    assert not bool(step.finite)
    assert all(torch.equal(new, old) for new, old in zip(step.model, model, strict=True))


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 0.99999])
@pytest.mark.parametrize("steps", [1, 2, 10, 1000, 10**6])
def test_bias_correction_in_float32(beta, steps):
    """Right to float32's own precision also near beta = 1, where the plain difference loses half its digits."""
    got = bias_correction(beta, torch.tensor(float(steps)))
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(-math.expm1(steps * math.log(beta)) if beta else 1.0, rel=3e-7)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("model_beta", [0.0, 0.3, 0.9])
def test_bias_correction_of_a_direction_that_looks_ahead(beta, model_beta):
    """It is the sum of the weights of all samples. At the first step, a ``beta`` of 0 had given 1."""
    kept = 0.0
    for steps in range(5):
        got = step_size.averaging(tensor(float(steps)), beta, model_beta=model_beta).bias_correction
        assert float(got) == pytest.approx(model_beta * kept + (1 - model_beta), rel=1e-13)
        kept = beta * kept + (1 - beta)


@relaxed
@given(st.integers(1, 30), st.sampled_from([0.0, 0.5, 0.9]), st.booleans())
def test_weight_average_is_the_bias_correction_without_clipping(steps, beta, from_zero):
    """With every sample weight 1 the bound's factor is rho: the paper's rule."""
    model = LossModel(*torch.zeros(6, dtype=torch.float64))
    for _ in range(steps):
        step = take_step(
            model,
            tensor(1.0),
            GroupSums(*torch.ones(3, 1, dtype=torch.float64)),
            [GroupSettings(0.1, 0.0)],
            beta=beta,
            sample_weight=1.0,
            start_at_first_sample=not from_zero,
            initial_lower_bound=0.0,
            adapt_lower_bound=False,
        )
        model = step.model
    rho = 1.0 - beta**steps if from_zero else 1.0
    assert float(model.weight_avg) == pytest.approx(rho, rel=1e-13)
