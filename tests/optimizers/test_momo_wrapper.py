"""MomoWrapper: equal to the methods that know their base, to its base while capped, and safe around any optimizer."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from optimizer_cases import assert_bit_equal, backward, make_params
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from hf_momo import Momo, MomoAdam, MomoWrapper

NO_BOUND = -1e12
STEPS = 25


def groups_of(params: list[nn.Parameter], weight_decay: float = 0.1) -> list[dict[str, Any]]:
    return [
        {"params": params[:2], "lr": 0.3, "weight_decay": weight_decay},
        {"params": params[2:3], "lr": 0.05, "weight_decay": 0.0},
        {"params": params[3:], "lr": 0.1, "weight_decay": weight_decay / 2},
    ]


def run(
    make: Callable[[list[nn.Parameter]], Optimizer],
    *,
    steps: int = STEPS,
    factor: float = 1.0,
    dtype: torch.dtype = torch.float64,
    schedule: bool = False,
    active: Callable[[int], list[int]] | None = None,
) -> tuple[list[nn.Parameter], Any, list[Any]]:
    """Train the same problem for every optimizer; return parameters, optimizer and the record of each step."""
    torch.manual_seed(0)
    params, generator = make_params(dtype), torch.Generator().manual_seed(1)
    optimizer, records = make(params), []
    rates = [group["lr"] for group in optimizer.param_groups]
    for k in range(steps):
        if schedule:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (k % 4) / 2
        loss = backward(params, generator, active(k) if active else None)
        for param in params:
            if param.grad is not None:
                param.grad.mul_(factor)
        if isinstance(optimizer, Momo | MomoAdam | MomoWrapper):
            optimizer.step(loss=loss, sample_weight=factor)
            records.append(optimizer.last_step)
        else:
            optimizer.step()
    return params, optimizer, records


def assert_same_run(ours: Any, other: Any) -> None:
    for param, expected in zip(ours[0], other[0], strict=True):
        torch.testing.assert_close(param, expected, rtol=1e-12, atol=1e-12)
    for record, expected in zip(ours[2], other[2], strict=True):
        assert record.step_size == pytest.approx(expected.step_size, rel=1e-10, abs=1e-12)
        assert record.loss_avg == pytest.approx(expected.loss_avg, rel=1e-12)
        assert (record.num_steps, record.zero_steps) == (expected.num_steps, expected.zero_steps)


SETTINGS = [
    pytest.param({"lower_bound": bound}, factor, schedule, id=f"bound {bound}, factor {factor}, {schedule}")
    for (bound, factor), schedule in itertools.product([(0.0, 1.0), (0.3, 1.0), (0.3, 0.2), (9.0, 1.0)], [False, True])
]


@pytest.mark.parametrize(("options", "factor", "schedule"), SETTINGS)
def test_adamw_in_the_wrapper_is_momo_adam(options: dict[str, Any], factor: float, schedule: bool) -> None:
    """Groups with their own rates and decay, steps below the cap, clipped samples, rates that pass through 0."""
    ours = run(lambda ps: MomoWrapper(AdamW(groups_of(ps)), **options), factor=factor, schedule=schedule)
    momo = run(
        lambda ps: MomoAdam(groups_of(ps), weight_decay_form="adamw", **options), factor=factor, schedule=schedule
    )
    assert_same_run(ours, momo)
    if options["lower_bound"] == 0.3:
        assert any(record.step_size[0] > 0 and not record.capped for record in ours[2]), "no step was cut short"


@pytest.mark.parametrize(("options", "factor", "schedule"), SETTINGS)
@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_sgd_in_the_wrapper_is_momo(options: dict[str, Any], factor: float, schedule: bool, beta: float) -> None:
    """SGD's buffer starts at the first gradient, and so do the wrapper's averages around it."""

    def groups(params: list[nn.Parameter]) -> list[dict[str, Any]]:
        return [{**group, "lr": 2 * group["lr"]} for group in groups_of(params, weight_decay=0.0)]

    ours = run(
        lambda ps: MomoWrapper(SGD(groups(ps), momentum=beta, dampening=beta), **options),
        factor=factor,
        schedule=schedule,
    )
    momo = run(lambda ps: Momo(groups(ps), beta=beta, **options), factor=factor, schedule=schedule)
    assert_same_run(ours, momo)


def test_a_parameter_that_joins_later() -> None:
    def active(step: int) -> list[int]:
        return [0, 1, 2, 3] if step >= 3 else [0, 2]

    ours = run(lambda ps: MomoWrapper(AdamW(groups_of(ps)), lower_bound=0.3), active=active)
    momo = run(lambda ps: MomoAdam(groups_of(ps), weight_decay_form="adamw", lower_bound=0.3), active=active)
    assert_same_run(ours, momo)


BASES: dict[str, Callable[[Any], Optimizer]] = {
    "SGD": lambda groups: SGD(groups, momentum=0.9, nesterov=True),
    "SGD-fused": lambda groups: SGD(groups, momentum=0.9, fused=True),
    "Adam": lambda groups: Adam(groups),
    "Adam-amsgrad": lambda groups: Adam(groups, amsgrad=True),
    "AdamW-fused": lambda groups: AdamW(groups, fused=True),
    "AdamW-tensor-lr": lambda groups: AdamW([{**g, "lr": torch.tensor(g["lr"])} for g in groups], fused=True),
    "NAdam": lambda groups: torch.optim.NAdam(groups, decoupled_weight_decay=True),
    "RAdam": lambda groups: torch.optim.RAdam(groups),
    "Adamax": lambda groups: torch.optim.Adamax(groups),
    "Adadelta": lambda groups: torch.optim.Adadelta(groups),
    "Adagrad": lambda groups: torch.optim.Adagrad(groups),
    "Adafactor": lambda groups: torch.optim.Adafactor(groups),
    "ASGD": lambda groups: torch.optim.ASGD(groups),
    "RMSprop": lambda groups: torch.optim.RMSprop(groups, momentum=0.9),
}
by_base = pytest.mark.parametrize("make", BASES.values(), ids=BASES.keys())


@by_base
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_capped_is_the_base_to_the_bit(make: Callable[[Any], Optimizer], dtype: torch.dtype) -> None:
    """Fifty steps in three groups; the state of the base is its own as well."""

    def wrapper(params: list[nn.Parameter]) -> MomoWrapper:
        return MomoWrapper(make(groups_of(params)), lower_bound=NO_BOUND)

    _, _, records = run(wrapper, steps=50, dtype=dtype)
    # A base with a longer memory than the averages may climb now and then, and then no step is taken.
    steps = next((k for k, record in enumerate(records) if record.uphill_steps), 50)
    assert steps >= 5
    plain, base, _ = run(lambda ps: make(groups_of(ps)), steps=steps, dtype=dtype)
    wrapped, ours, records = run(wrapper, steps=steps, dtype=dtype)
    assert records[-1].capped_steps == steps
    for param, expected in zip(wrapped, plain, strict=True):
        assert torch.equal(param, expected)
    assert_bit_equal(flat(ours.base.state_dict()), flat(base.state_dict()))


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of nested containers by their path, tensors copied."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, each in items for k, v in flat(each, f"{name}.{key}").items()}
    return {name: value.detach().clone() if isinstance(value, Tensor) else value}


@by_base
def test_resumes_to_the_bit(make: Callable[[Any], Optimizer]) -> None:
    """Saved, loaded with ``weights_only`` and continued; also as a deep copy and through pickle."""

    def made(params: list[nn.Parameter]) -> MomoWrapper:
        return MomoWrapper(make(groups_of(params)), lower_bound=0.3)

    # In float64 torch itself casts 0-d state of some optimizers when it loads them.
    params, unbroken, _ = run(made, steps=8, dtype=torch.float32)
    fresh, resumed, _ = run(made, steps=0, dtype=torch.float32)
    with torch.no_grad():
        for param, trained in zip(fresh, params, strict=True):
            param.copy_(trained)
    buffer = io.BytesIO()
    torch.save(unbroken.state_dict(), buffer)
    buffer.seek(0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    copies = [(fresh, resumed), *(clone((params, unbroken)) for clone in (copy.deepcopy, through_pickle))]
    go_on(params, unbroken)
    for others, optimizer in copies:
        go_on(others, optimizer)
        for param, expected in zip(others, params, strict=True):
            assert torch.equal(param, expected)
        assert_bit_equal(flat(optimizer.state_dict()), flat(unbroken.state_dict()))


def through_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def go_on(params: list[nn.Parameter], optimizer: MomoWrapper) -> None:
    generator = torch.Generator().manual_seed(9)
    for _ in range(4):
        optimizer.step(loss=backward(params, generator))


def test_state_dict_nests_the_base_s_and_leaves_its_alone() -> None:
    """Keys of our own in ``base.state`` crash 8-bit optimizers; the base's state dict must load into a plain base."""
    params, optimizer, _ = run(lambda ps: MomoWrapper(AdamW(groups_of(ps))), steps=3)
    assert set(optimizer.base.state[params[0]]) == {"step", "exp_avg", "exp_avg_sq"}
    assert not {"loss_avg", "beta", "momo"} & optimizer.base.param_groups[0].keys()
    nested, base = optimizer.state_dict(), optimizer.base.state_dict()
    assert_bit_equal(flat({i: entry["base"] for i, entry in nested["state"].items()}), flat(base["state"]))
    plain = AdamW(groups_of(params))
    plain.load_state_dict(base)
    before = flat(nested)
    optimizer.step(loss=backward(params, torch.Generator().manual_seed(3)))
    assert all(torch.equal(nested["param_groups"][0]["momo"][k], v) for k, v in model_of(before).items())


def model_of(flattened: dict[str, Any]) -> dict[str, Tensor]:
    prefix = ".param_groups.0.momo."
    return {k.removeprefix(prefix): v for k, v in flattened.items() if k.startswith(prefix) and torch.is_tensor(v)}


def test_hooks_of_the_state_dict_see_the_nested_form() -> None:
    optimizer = run(lambda ps: MomoWrapper(AdamW(groups_of(ps))), steps=2)[1]
    seen: list[bool] = []
    optimizer.register_state_dict_post_hook(lambda _, state: seen.append("momo" in state["param_groups"][0]))
    optimizer.register_load_state_dict_pre_hook(lambda _, state: seen.append("momo" in state["param_groups"][0]))
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == [True, True]


def test_hooks_of_the_step() -> None:
    """A pre-hook hands over the loss, as the tap does; the hooks of the base run too."""
    params = make_params()
    optimizer, ran = MomoWrapper(AdamW(params)), []
    optimizer.register_step_pre_hook(lambda o, args, kwargs: (args, {**kwargs, "loss": 1.5}))
    optimizer.base.register_step_post_hook(lambda *args: ran.append("base"))
    optimizer.register_step_post_hook(lambda *args: ran.append("wrapper"))
    backward(params, torch.Generator().manual_seed(0))
    optimizer.step()
    assert ran == ["base", "wrapper"]
    assert optimizer.last_step.num_steps == 1


@pytest.mark.parametrize("state", ["AdamW", "MomoAdam", "shape"])
def test_a_state_that_does_not_fit_changes_nothing(state: str) -> None:
    optimizer = run(lambda ps: MomoWrapper(AdamW(groups_of(ps))), steps=2)[1]
    if state == "shape":
        other, message = optimizer.state_dict(), r"state_dict: exp_avg has shape \(7,\), but the parameter has"
        other["state"][1] = {**other["state"][1], "exp_avg": torch.zeros(7, dtype=torch.float64)}
    else:
        makes: dict[str, Any] = {"AdamW": AdamW, "MomoAdam": MomoAdam}
        other = run(lambda ps: makes[state](groups_of(ps)), steps=2)[1].state_dict()
        message = "state_dict: is not that of a MomoWrapper"
    before = flat(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(other)
    assert_bit_equal(flat(optimizer.state_dict()), before)


def test_groups_are_shared_with_the_base() -> None:
    """Schedulers, a late ``lr`` and groups added on either side reach both; copied groups broke wrappers elsewhere."""
    params = make_params()
    optimizer = MomoWrapper(AdamW(params[:2], lr=0.1), lower_bound=NO_BOUND)
    base, generator = optimizer.base, torch.Generator().manual_seed(0)
    assert optimizer.param_groups is base.param_groups
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step(loss=backward(params, generator, [0, 1]))
    scheduler.step()
    assert base.param_groups[0]["lr"] == 0.05
    optimizer.add_param_group({"params": params[2:3], "lr": 0.2})
    base.add_param_group({"params": params[3:]})
    optimizer.step(loss=backward(params, generator))
    assert optimizer.last_step.step_size == pytest.approx((0.05, 0.2, 0.1))
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups is base.param_groups
    base.load_state_dict(base.state_dict())
    assert optimizer.param_groups is base.param_groups
    with pytest.raises(ValueError, match=r"params: got a parameter of shape .*complex64"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2, dtype=torch.complex64))]})
    assert len(base.param_groups) == 3
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)


@pytest.mark.parametrize("spoiled", ["loss", "gradient"])
def test_a_step_that_is_not_finite_never_begins(spoiled: str) -> None:
    """The base cannot be told to skip, so it is not called."""
    params, optimizer, _ = run(lambda ps: MomoWrapper(AdamW(groups_of(ps))), steps=3)
    before = [flat(optimizer.state_dict()), [param.detach().clone() for param in params]]
    loss = backward(params, torch.Generator().manual_seed(5))
    if spoiled == "gradient":
        params[1].grad[2] = torch.inf
    optimizer.step(loss=loss if spoiled == "gradient" else loss * torch.nan)
    assert_bit_equal(flat(optimizer.state_dict()), before[0], but=("skipped_steps",))
    assert all(torch.equal(param, old) for param, old in zip(params, before[1], strict=True))
    assert optimizer.last_step.skipped_steps == 1


def test_a_base_that_makes_no_number_is_taken_back() -> None:
    class Breaking(SGD):
        def step(self, closure: Any = None) -> None:
            with torch.no_grad():
                self.param_groups[0]["params"][0][0] = torch.nan

    params = make_params()
    optimizer = MomoWrapper(Breaking(params, lr=0.1))
    before = [param.detach().clone() for param in params]
    optimizer.step(loss=backward(params, torch.Generator().manual_seed(0)))
    assert all(torch.equal(param, old) for param, old in zip(params, before, strict=True))
    assert (optimizer.last_step.num_steps, optimizer.last_step.skipped_steps) == (0, 1)


def test_no_step_uphill() -> None:
    """A base that climbs has a slope below zero; its steps count as zero steps, and the weights stay."""
    params, _, records = run(lambda ps: MomoWrapper(SGD(ps, lr=0.1, maximize=True), lower_bound=NO_BOUND), steps=3)
    torch.manual_seed(0)
    assert all(torch.equal(param, start) for param, start in zip(params, make_params(), strict=True))
    assert (records[-1].num_steps, records[-1].zero_steps, records[-1].uphill_steps) == (3, 3, 3)


@pytest.mark.parametrize(
    ("make", "form", "kept"),
    [
        (AdamW, "auto", 1 - 0.1 * 0.5),
        (Adam, "auto", 1.0),
        (SGD, "auto", 1.0),
        (SGD, "decoupled", 1 - 0.1 * 0.5),
        (AdamW, "coupled", 1.0),
        (torch.optim.Adafactor, "auto", 1 - 0.1 * 0.5),
    ],
)
def test_decay_below_the_bound(make: Any, form: str, kept: float) -> None:
    """In a step of size 0 a decoupled decay still acts, and a coupled one does not."""
    params = make_params()
    before = [param.detach().clone() for param in params]
    optimizer = MomoWrapper(make(params, lr=0.1, weight_decay=0.5), lower_bound=1e6, weight_decay_form=form)
    optimizer.step(loss=backward(params, torch.Generator().manual_seed(0)))
    assert optimizer.last_step.zero_steps == 1
    for param, old in zip(params, before, strict=True):
        torch.testing.assert_close(param, old * kept, rtol=1e-15, atol=0.0)


def test_frozen_in_mid_training_is_never_moved() -> None:
    params, optimizer, _ = run(lambda ps: MomoWrapper(AdamW(groups_of(ps)), lower_bound=0.3), steps=3)
    params[1].requires_grad_(False)
    before, generator = params[1].detach().clone(), torch.Generator().manual_seed(2)
    for _ in range(3):
        optimizer.step(loss=backward(params, generator, [0, 2, 3]))
    assert torch.equal(params[1], before)
    assert optimizer.last_step.num_steps == 6


@pytest.mark.parametrize("fused", [False, True])
def test_gradient_scaler(fused: bool) -> None:
    """A fused base knows ``found_inf``; the scaler unscales for the wrapper all the same, and skips on overflow."""
    ends = []
    for scale in (1.0, 1024.0):
        params, generator = make_params(torch.float32), torch.Generator().manual_seed(1)
        torch.manual_seed(0)
        with torch.no_grad():
            for param in params:
                param.copy_(torch.randn(param.shape))
        optimizer = MomoWrapper(AdamW(params, lr=0.1, fused=fused), lower_bound=0.3)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=100)
        for step in range(5):
            loss = backward(params, generator)
            for param in params:
                param.grad.mul_(scaler.get_scale())
            if step == 2:
                params[0].grad[0, 0] = torch.inf
            optimizer.register_step_pre_hook(lambda o, a, k, loss=loss: (a, {"loss": loss}))
            scaler.scale(torch.ones(()))
            scaler.step(optimizer)
            scaler.update()
        assert optimizer.last_step.num_steps == 4
        ends.append([param.detach().clone() for param in params])
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other)


def test_a_bare_step_at_rate_zero_makes_the_state() -> None:
    """Torch's distributed checkpoint calls one before it loads, and round trips through names."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    def made() -> tuple[nn.Module, MomoWrapper]:
        torch.manual_seed(0)
        model = nn.Linear(3, 2).double()
        decayed = [{"params": [model.weight]}, {"params": [model.bias], "weight_decay": 0.0}]
        return model, MomoWrapper(AdamW(decayed, lr=0.1), lower_bound=0.1)

    def train(model: nn.Module, optimizer: MomoWrapper) -> None:
        for step in range(3):
            optimizer.zero_grad()
            inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            loss = model(inputs).square().mean()
            loss.backward()
            optimizer.step(loss=loss)
        optimizer.zero_grad()

    model, optimizer = made()
    train(model, optimizer)
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    assert set(saved["state"]) == {"weight", "bias"}
    other, resumed = made()
    other.load_state_dict(model.state_dict())
    set_optimizer_state_dict(other, resumed, saved)
    assert_bit_equal(flat(resumed.state_dict()), flat(optimizer.state_dict()))
    train(model, optimizer)
    train(other, resumed)
    assert torch.equal(model.weight, other.weight)
    with pytest.raises(ValueError, match="loss: got none"):
        resumed.step()


class NeedsClosure(SGD):
    def step(self, closure: Any) -> Any:  # type: ignore[override]
        return super().step(closure)


class ScheduleFree(SGD):
    def train(self) -> None: ...
    def eval(self) -> None: ...


class SharpnessAware(SGD):
    def first_step(self) -> None: ...
    def second_step(self) -> None: ...


class InBackward(SGD):
    def fused_backward(self, loss: Tensor, lr: float) -> None: ...


REFUSED: dict[str, tuple[Callable[[list[nn.Parameter]], Any], str]] = {
    "momo": (lambda ps: MomoAdam(ps), "base: got MomoAdam, which has MoMo's step size already"),
    "wrapper": (lambda ps: MomoWrapper(SGD(ps)), "base: got Wrapper|base: got MomoWrapper, which has MoMo's"),
    "class": (lambda ps: AdamW, "base: got <class .*AdamW.*>, must be a torch.optim.Optimizer"),
    "LBFGS": (lambda ps: torch.optim.LBFGS(ps), "base: got LBFGS, which evaluates the loss several times"),
    "closure": (lambda ps: NeedsClosure(ps), "base: got NeedsClosure, which evaluates the loss several times"),
    "schedule-free": (lambda ps: ScheduleFree(ps), "base: got ScheduleFree, which takes its gradient at another"),
    "sharpness": (lambda ps: SharpnessAware(ps), "base: got SharpnessAware, which takes its gradient at a second"),
    "in backward": (lambda ps: InBackward(ps), "base: got InBackward, which updates the weights during backward"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_bases_that_are_refused(make: Callable[[list[nn.Parameter]], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        MomoWrapper(make(make_params()))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beta": 1.0}, ValueError, r"beta: got 1.0, must be in \[0, 1\)"),
        ({"lower_bound": float("nan")}, ValueError, "lower_bound: got nan"),
        ({"bias_correction": 1}, TypeError, "bias_correction: got 1, must be True or False"),
        ({"weight_decay_form": "proximal"}, ValueError, "weight_decay_form: got 'proximal', must be one of 'auto'"),
        ({"kernel": "fast"}, ValueError, "kernel: got 'fast'"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MomoWrapper(AdamW(make_params()), **options)


def test_sharded_pieces_are_refused() -> None:
    optimizer = MomoWrapper(AdamW(make_params()))
    optimizer.sharded = False
    with pytest.raises(NotImplementedError, match=r"FSDP version 1 and DeepSpeed ZeRO .* use FSDP2"):
        optimizer.sharded = True


def test_sparse_gradients_are_refused_before_the_base_steps() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    optimizer = MomoWrapper(torch.optim.SparseAdam(table.parameters()))
    loss = table(torch.tensor([1])).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="has a sparse gradient"):
        optimizer.step(loss=loss)


@pytest.mark.parametrize(
    ("make", "beta", "from_zero"),
    [
        (lambda ps: AdamW(ps, betas=(0.8, 0.99)), 0.8, True),
        (lambda ps: SGD(ps, lr=0.1, momentum=0.7), 0.7, False),
        (lambda ps: SGD(ps, lr=0.1), 0.0, False),
        (lambda ps: torch.optim.Adagrad(ps), 0.9, True),
    ],
)
def test_averages_are_those_of_the_base(make: Callable[[Any], Optimizer], beta: float, from_zero: bool) -> None:
    entries = MomoWrapper(make(make_params())).entries[0]
    assert (entries["beta"], entries["bias_correction"]) == (beta, from_zero)
