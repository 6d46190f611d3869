"""Conversion of the states of torch's optimizers into ours and back."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from optimizer_cases import (
    assert_bit_equal,
    assert_matches,
    backward,
    gradients,
    make_oracle,
    make_params,
    snapshot,
)
from oracle import Oracle
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from hf_momo import (
    Momo,
    MomoAdafactor,
    MomoAdam,
    MomoLion,
    MomoMuon,
    adamw_state_dict,
    base_state_dict,
    load_adamw_state_dict,
    load_base_state_dict,
)

NO_BOUND = -1e12
BETAS = (0.8, 0.95)
LATE, FROZEN = 2, 3
"""Indices of a parameter whose first gradient comes at the third step, and of one that never has any."""

Groups = Callable[[list[nn.Parameter]], Any]


def one_group(params: list[nn.Parameter]) -> Any:
    return params


def two_groups(params: list[nn.Parameter]) -> Any:
    return [{"params": params[:2]}, {"params": params[2:], "lr": 0.02, "eps": 1e-6}]


def active(step: int) -> Sequence[int]:
    return [0, 1] if step < 2 else [0, 1, LATE]


def run(optimizer: Any, params: list[nn.Parameter], first: int, steps: int) -> float:
    """Take steps ``first`` to ``first + steps`` of one endless run; return the last loss."""
    loss = torch.zeros(())
    for step in range(first, first + steps):
        loss = backward(params, torch.Generator().manual_seed(step), active(step))
        if isinstance(optimizer, MomoAdam):
            optimizer.step(loss=loss)
        else:
            optimizer.step()
    return float(loss)


def make(cls: Any, dtype: torch.dtype = torch.float64, groups: Groups = one_group, **options: Any) -> Any:
    """Return the same parameters in every call, and an optimizer on them."""
    torch.manual_seed(0)
    params = make_params(dtype)
    return params, cls(groups(params), **({"lr": 0.05, "betas": BETAS} | options))


def adamw_run(dtype: torch.dtype = torch.float64, groups: Groups = one_group, steps: int = 5, **options: Any) -> Any:
    params, optimizer = make(AdamW, dtype, groups, **({"weight_decay": 0.0, "fused": True} | options))
    loss = run(optimizer, params, 0, steps)
    return params, optimizer, loss


def copied_to(params: list[nn.Parameter], others: list[nn.Parameter]) -> None:
    with torch.no_grad():
        for param, other in zip(params, others, strict=True):
            other.copy_(param)


def tensors_of(optimizer: Any) -> dict[str, Tensor]:
    """Return all tensors of the per-parameter state."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, entry in state.items() for name, tensor in entry.items()}


DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
GROUPS = pytest.mark.parametrize("groups", [one_group, two_groups])


@DTYPES
@GROUPS
def test_there_and_back_is_bit_equal(dtype: torch.dtype, groups: Groups) -> None:
    _, adamw, loss = adamw_run(dtype, groups, weight_decay=0.1)
    expected = copy.deepcopy(tensors_of(adamw))
    _, ours = make(MomoAdam, dtype, groups)
    load_adamw_state_dict(ours, adamw.state_dict(), loss=loss)
    assert_bit_equal(tensors_of(ours), expected)
    _, back = make(AdamW, dtype, groups, lr=1.0, weight_decay=0.7, foreach=False)
    back.load_state_dict(adamw_state_dict(ours))
    assert_bit_equal(tensors_of(back), expected)
    for group, own in zip(back.param_groups, ours.param_groups, strict=True):
        assert group.keys() == adamw.param_groups[0].keys()
        assert group["fused"] is True
        assert all(group[name] == own[name] for name in ("lr", "betas", "eps", "weight_decay"))
    _, again = make(MomoAdam, dtype, groups)
    load_adamw_state_dict(again, back.state_dict(), loss=loss)
    assert_bit_equal(snapshot(again), snapshot(ours))


def test_the_state_is_a_copy() -> None:
    _, adamw, loss = adamw_run()
    params, ours = make(MomoAdam)
    load_adamw_state_dict(ours, adamw.state_dict(), loss=loss)
    before = copy.deepcopy(tensors_of(adamw))
    run(ours, params, 5, 2)
    assert_bit_equal(tensors_of(adamw), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
# torch's fused AdamW shrinks inside of its kernel, which rounds once less than a product before it.
@pytest.mark.parametrize(("weight_decay", "tolerance"), [(0.0, 0.0), (0.3, 2e-6)], ids=["no-decay", "decay"])
def test_always_capped_goes_on_as_adamw(dtype: torch.dtype, weight_decay: float, tolerance: float) -> None:
    """AdamW continued by MomoAdam, and the other way round, equals the unbroken AdamW run."""
    options = {"weight_decay": weight_decay}
    momo = {"lower_bound": NO_BOUND, "weight_decay_form": "adamw", **options}
    unbroken, _, _ = adamw_run(dtype, steps=12, **options)

    params, adamw, loss = adamw_run(dtype, **options)
    ours = MomoAdam(params, lr=0.05, betas=BETAS, **momo)
    load_adamw_state_dict(ours, adamw.state_dict(), loss=loss)
    run(ours, params, 5, 7)
    assert ours.last_step.capped_steps == 7
    for actual, expected in zip(params, unbroken, strict=True):
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)

    params, ours = make(MomoAdam, dtype, **momo)
    run(ours, params, 0, 5)
    adamw = AdamW(params, lr=1.0)
    adamw.load_state_dict(adamw_state_dict(ours))
    run(adamw, params, 5, 7)
    for actual, expected in zip(params, unbroken, strict=True):
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def started_oracle(ours: MomoAdam, adamw: AdamW, loss: float) -> Oracle:
    """Return the oracle with AdamW's averages and a model of the loss that equals ``loss`` at the present weights."""
    oracle = make_oracle(ours)
    seen = [p for group in oracle.groups for p in group.params]
    params = [p for group in adamw.param_groups for p in group["params"]]
    for p, param in zip(seen, params, strict=True):
        if state := adamw.state.get(param):
            p.seen, p.steps = True, int(state["step"])
            p.m, p.v = state["exp_avg"].double().clone(), state["exp_avg_sq"].double().clone()
    oracle.k = max(p.steps for p in seen)
    oracle.weight_avg = 1 - BETAS[0] ** oracle.k
    oracle.loss_avg = oracle.weight_avg * loss
    oracle.bound_avg = oracle.weight_avg * oracle.initial
    oracle.gamma = sum(float((p.m * p.x).sum()) for p in seen)
    return oracle


@GROUPS
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"lr": 2.0}, id="plain"),
        pytest.param({"lr": 2.0, "lower_bound": 0.05, "weight_decay": 0.2}, id="bound-decay"),
        pytest.param({"lr": 2.0, "adapt_lower_bound": True, "lower_bound": 0.01}, id="estimated"),
        pytest.param({"lr": 2.0, "weight_decay": 0.2, "weight_decay_form": "adamw"}, id="adamw-decay"),
    ],
)
def test_steps_after_conversion_are_the_oracles(groups: Groups, options: dict[str, Any]) -> None:
    start, adamw, loss = adamw_run(groups=groups)
    params, ours = make(MomoAdam, groups=groups, **options)
    copied_to(start, params)
    load_adamw_state_dict(ours, adamw.state_dict(), loss=loss)
    oracle = started_oracle(ours, adamw, loss)
    scales = []
    for step in range(5, 11):
        value = backward(params, torch.Generator().manual_seed(step), active(step))
        ours.step(loss=value)
        oracle.step(float(value), gradients(ours))
        assert_matches(ours, oracle, 1e-12)
        scales.append(oracle.t)
    assert any(0 < scale < 1 for scale in scales), "a step is meant to follow from the loss and not from the cap"


def test_the_model_is_worth_the_loss_at_the_present_weights() -> None:
    start, adamw, _ = adamw_run(steps=4)
    params, ours = make(MomoAdam, lower_bound=0.25, adapt_lower_bound=True)
    copied_to(start, params)
    run(ours, params, 0, 3)  # a state of its own, which is replaced
    copied_to(start, params)
    load_adamw_state_dict(ours, adamw.state_dict(), loss=torch.tensor(1.75))
    group = ours.param_groups[0]
    linear = sum(float((ours.state[p]["exp_avg"] * p.detach()).sum()) for p in params if p in ours.state)
    weight = 1 - BETAS[0] ** 4
    model = float(group["loss_avg"] - group["grad_dot_param_avg"]) + linear
    assert model / weight == pytest.approx(1.75, rel=1e-12)
    assert float(group["weight_avg"]) == pytest.approx(weight, rel=1e-15)
    last = ours.last_step
    assert (last.num_steps, last.capped_steps, last.skipped_steps) == (4, 0, 0)
    assert (last.lower_bound, last.step_size, last.capped) == (0.25, (0.0,), False)
    assert not ours.state.get(params[FROZEN]), "a parameter without a gradient has no state"
    assert int(ours.state[params[LATE]]["step"]) == 2


def test_betas_of_zero() -> None:
    start, adamw, loss = adamw_run(betas=(0.0, 0.9))
    params, ours = make(MomoAdam, betas=(0.0, 0.9))
    copied_to(start, params)
    load_adamw_state_dict(ours, adamw.state_dict(), loss=loss)
    assert float(ours.param_groups[0]["weight_avg"]) == 1.0


def test_settings_stay_those_of_the_optimizer() -> None:
    _, adamw, loss = adamw_run(lr=0.7, eps=1e-3, weight_decay=0.4)
    _, ours = make(MomoAdam, lr=0.05, eps=1e-7, weight_decay=0.2, lower_bound=0.1)
    torch.optim.lr_scheduler.LambdaLR(ours, lambda step: 1.0)
    load_adamw_state_dict(ours, adamw.state_dict(), loss=loss)
    group = ours.param_groups[0]
    assert (group["lr"], group["eps"], group["weight_decay"], group["initial_lower_bound"]) == (0.05, 1e-7, 0.2, 0.1)
    assert group["initial_lr"] == 0.05


def test_adam_without_decay_is_accepted() -> None:
    params, adam = make(Adam, fused=True)
    loss = run(adam, params, 0, 3)
    _, ours = make(MomoAdam)
    load_adamw_state_dict(ours, adam.state_dict(), loss=loss)
    assert_bit_equal(tensors_of(ours), tensors_of(adam))


def interleaved(params: list[nn.Parameter]) -> Any:
    """The Trainer's groups hold the parameters in another order than the model."""
    return [{"params": [params[0], params[2]], "weight_decay": 0.1}, {"params": [params[1], params[3]]}]


def by_param(optimizer: Any, params: list[nn.Parameter]) -> list[dict[str, Tensor]]:
    return [optimizer.state.get(param, {}) for param in params]


def test_groups_split_otherwise_need_the_order_of_the_parameters() -> None:
    theirs, adamw, loss = adamw_run()
    params, ours = make(MomoAdam, groups=interleaved)
    with pytest.raises(ValueError, match=r"state_dict: has parameter groups of \[4\] .* of \[2, 2\].*pass params="):
        load_adamw_state_dict(ours, adamw.state_dict(), loss=loss)
    load_adamw_state_dict(ours, adamw.state_dict(), loss=loss, params=params)
    for own, other in zip(by_param(ours, params), by_param(adamw, theirs), strict=True):
        assert_bit_equal(own, other)


def test_groups_split_otherwise_are_matched_by_name() -> None:
    def named(params: list[nn.Parameter]) -> Any:
        return list(zip("abcd", params, strict=True))

    def named_groups(params: list[nn.Parameter]) -> Any:
        pairs = named(params)
        return [{"params": [pairs[0], pairs[2]]}, {"params": [pairs[1], pairs[3]]}]

    theirs, adamw, loss = adamw_run(groups=named)
    params, ours = make(MomoAdam, groups=named_groups)
    load_adamw_state_dict(ours, adamw.state_dict(), loss=loss)
    for own, other in zip(by_param(ours, params), by_param(adamw, theirs), strict=True):
        assert_bit_equal(own, other)
    assert adamw_state_dict(ours)["param_groups"][0]["param_names"] == ["a", "c"]
    _, other_names = make(MomoAdam, groups=lambda params: list(zip("abce", params, strict=True)))
    with pytest.raises(ValueError, match=r"state_dict: has no parameter called 'e'"):
        load_adamw_state_dict(other_names, adamw.state_dict(), loss=loss)


def with_entry(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(state_dict: dict[str, Any]) -> None:
        state_dict["param_groups"][0][name] = value

    return change


def with_state(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Any]], None]:
    def changed(state_dict: dict[str, Any]) -> None:
        entry = state_dict["state"][1]
        entry[name] = change(entry[name])

    return changed


def without_state(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda state_dict: state_dict["state"][1].pop(name)


def coupled_decay(state_dict: dict[str, Any]) -> None:
    state_dict["param_groups"][0] |= {"weight_decay": 0.1, "decoupled_weight_decay": False}


BAD_STATES = {
    "beta1": (with_entry("betas", (0.9, BETAS[1])), r"betas=\(0.9, 0.95\), those of the optimizer are \(0.8, 0.95\)"),
    "beta2": (with_entry("betas", (BETAS[0], 0.9)), r"betas=\(0.8, 0.9\), those of the optimizer"),
    "amsgrad": (with_entry("amsgrad", True), "amsgrad=True"),
    "maximize": (with_entry("maximize", True), "maximize=True"),
    "coupled-decay": (coupled_decay, "made by Adam with weight_decay=0.1"),
    "momo": (with_entry("loss_avg", torch.ones(())), r"load it with optimizer.load_state_dict"),
    "shape": (with_state("exp_avg_sq", lambda value: value[:2]), r"exp_avg_sq has shape \(2,\) where .* has \(5,\)"),
    "nan": (with_state("exp_avg", lambda value: value * math.nan), r"exp_avg .* shape \(5,\) is not finite"),
    "sgd": (without_state("exp_avg"), r"has step, exp_avg_sq, but no exp_avg; it must be of"),
    "count": (lambda state_dict: state_dict["param_groups"][0]["params"].pop(), "is of 3 parameters, .* has 4"),
    "empty": (lambda state_dict: state_dict["state"].clear(), "holds no running averages"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_STATES.values(), ids=BAD_STATES.keys())
def test_a_state_that_does_not_fit_changes_nothing(spoil: Callable[[Any], None], message: str) -> None:
    _, adamw, loss = adamw_run()
    params, ours = make(MomoAdam)
    run(ours, params, 0, 2)
    before = snapshot(ours)
    state_dict = copy.deepcopy(adamw.state_dict())
    spoil(state_dict)
    with pytest.raises(ValueError, match=f"state_dict: .*{message}"):
        load_adamw_state_dict(ours, state_dict, loss=loss)
    assert_bit_equal(snapshot(ours), before)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (math.nan, ValueError, "loss: got nan, must be a finite number"),
        (-0.5, ValueError, "loss: got -0.5, .* not below the optimizer's lower_bound, 0.0"),
        ("2.3", TypeError, "loss: got str"),
        (torch.ones(2), ValueError, r"loss: got a tensor of shape \(2,\)"),
        (None, ValueError, "loss: got none"),
    ],
)
def test_a_loss_that_is_none_changes_nothing(loss: Any, error: type[Exception], message: str) -> None:
    _, adamw, _ = adamw_run()
    params, ours = make(MomoAdam)
    run(ours, params, 0, 2)
    before = snapshot(ours)
    with pytest.raises(error, match=message):
        load_adamw_state_dict(ours, adamw.state_dict(), loss=loss)
    assert_bit_equal(snapshot(ours), before)


def test_weights_that_are_not_finite() -> None:
    _, adamw, loss = adamw_run()
    params, ours = make(MomoAdam)
    with torch.no_grad():
        params[0].fill_(math.inf)
    with pytest.raises(ValueError, match="load the weights of the checkpoint first"):
        load_adamw_state_dict(ours, adamw.state_dict(), loss=loss)


def test_params_that_are_not_the_optimizers() -> None:
    theirs, adamw, loss = adamw_run()
    params, ours = make(MomoAdam)
    for wrong in (theirs, params[:3], [params[0], params[0], *params[2:]]):
        with pytest.raises(ValueError, match=rf"params: got {len(wrong)} tensors, must be the 4 parameters"):
            load_adamw_state_dict(ours, adamw.state_dict(), loss=loss, params=wrong)


def test_only_momo_adam_has_these_averages() -> None:
    params, adamw, loss = adamw_run()
    with pytest.raises(TypeError, match=r"optimizer: got Momo, must be MomoAdam"):
        load_adamw_state_dict(Momo(params), adamw.state_dict(), loss=loss)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"optimizer: got AdamW, must be MomoAdam"):
        adamw_state_dict(adamw)


def sgd_run(steps: int = 6, **options: Any) -> Any:
    torch.manual_seed(0)
    params = make_params()
    optimizer = SGD(params, **({"lr": 0.02, "momentum": 0.9, "dampening": 0.9} | options))
    return params, optimizer, run(optimizer, params, 0, steps)


def test_momo_goes_on_from_sgd_and_back() -> None:
    """Capped, all of them are one unbroken run of SGD."""
    unbroken, _, _ = sgd_run(12)
    params, sgd, loss = sgd_run(4)
    ours = Momo(params, lr=0.02, lower_bound=NO_BOUND)
    load_base_state_dict(ours, sgd.state_dict(), loss=loss)
    assert_bit_equal(
        {str(i): ours.state[p]["exp_avg"] for i, p in enumerate(params) if p in ours.state},
        {str(i): sgd.state[p]["momentum_buffer"] for i, p in enumerate(params) if p in sgd.state},
    )
    for step in range(4, 8):
        ours.step(loss=backward(params, torch.Generator().manual_seed(step), active(step)))
    assert ours.last_step.capped_steps == 4
    back = SGD(params, lr=1.0)
    back.load_state_dict(base_state_dict(ours))
    group = back.param_groups[0]
    assert (group["momentum"], group["dampening"], group["lr"]) == (0.9, 0.9, 0.02)
    run(back, params, 8, 4)
    for actual, expected in zip(params, unbroken, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-14, atol=1e-14)


def test_sums_of_gradients_become_averages() -> None:
    """Torch's SGD without dampening keeps ``1 / (1 - momentum)`` times the average."""
    params, sgd, loss = sgd_run(dampening=0.0)
    ours = Momo(params)
    load_base_state_dict(ours, sgd.state_dict(), loss=loss)
    for param in (param for param in params if param in ours.state):
        expected = 0.1 * sgd.state[param]["momentum_buffer"]
        torch.testing.assert_close(ours.state[param]["exp_avg"], expected, rtol=1e-14, atol=0.0)
    from_zero = Momo(params, bias_correction=True)
    with pytest.raises(ValueError, match=r"num_steps: needed, because torch.optim.SGD does not count"):
        load_base_state_dict(from_zero, sgd.state_dict(), loss=loss)
    load_base_state_dict(from_zero, sgd.state_dict(), loss=loss, num_steps=6)
    assert from_zero.last_step.num_steps == 6
    assert float(from_zero.param_groups[0]["weight_avg"]) == pytest.approx(1 - 0.9**6)


def test_sgd_that_does_not_fit() -> None:
    params, sgd, loss = sgd_run()
    with pytest.raises(ValueError, match=r"momentum=0.9, those of the optimizer are 0.5; make .* momentum=0.9"):
        load_base_state_dict(Momo(params, beta=0.5), sgd.state_dict(), loss=loss)
    with pytest.raises(ValueError, match=r"made by SGD with weight_decay=0.1"):
        load_base_state_dict(Momo(params), sgd_run(weight_decay=0.1)[1].state_dict(), loss=loss)
    with pytest.raises(TypeError, match="got SGD, must be an optimizer of hf_momo"):
        base_state_dict(sgd)


@pytest.mark.parametrize("cls", [MomoLion, MomoAdafactor])
def test_methods_without_a_counterpart_in_torch(cls: Any) -> None:
    """MomoAdafactor inherited AdamW from Adam's direction: a ``KeyError``, or a message about a state of MomoAdam."""
    params, adam = make_params(), AdamW(make_params())
    optimizer = cls(params)
    optimizer.step(loss=backward(params, torch.Generator()))
    message = f"got {cls.__name__}, and no optimizer of torch keeps its averages"
    with pytest.raises(TypeError, match=message):
        base_state_dict(optimizer)
    with pytest.raises(TypeError, match=message):
        load_base_state_dict(optimizer, adam.state_dict(), loss=1.0)


def test_two_optimizers_that_share_the_parameters() -> None:
    """Each numbers its parameters from 0, as Muon and AdamW do."""
    torch.manual_seed(0)
    params = make_params()
    parts = [AdamW(params[:2], betas=BETAS), AdamW(params[2:], betas=BETAS)]
    for part in parts:
        loss = run(part, params, 0, 4)
    ours = MomoAdam([{"params": params[:2]}, {"params": params[2:]}], betas=BETAS)
    load_base_state_dict(ours, [part.state_dict() for part in parts], loss=loss)
    for part in parts:
        for param, state in part.state.items():
            assert torch.equal(ours.state[param]["exp_avg"], state["exp_avg"])


needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")


def muon_groups(params: list[nn.Parameter]) -> Any:
    """As a Trainer makes them: with decay and without, in each half."""
    return [{"params": params[:3], "weight_decay": 0.3}, {"params": params[3:], "weight_decay": 0.0}]


def muon_params() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return make_params(shapes=((6, 4), (5,), (4, 3), (3, 7), (), (2, 1, 3)))


def momo_muon(params: list[nn.Parameter]) -> MomoMuon:
    return MomoMuon(muon_groups(params), lr=0.01, betas=BETAS, ns_dtype="bfloat16", lower_bound=NO_BOUND)


def muon_and_adamw(params: list[nn.Parameter], lr: float = 0.01) -> list[Any]:
    halves = [
        [{**group, "params": [p for p in group["params"] if (p.ndim == 2) is muon]} for group in muon_groups(params)]
        for muon in (True, False)
    ]
    muon = torch.optim.Muon(halves[0], lr, momentum=BETAS[0], nesterov=False, eps=1e-7, adjust_lr_fn="match_rms_adamw")
    return [muon, AdamW(halves[1], lr, betas=BETAS, fused=True)]


def steps_of(optimizers: Sequence[Any], params: list[nn.Parameter], first: int, steps: int) -> float:
    loss = torch.zeros(())
    for step in range(first, first + steps):
        loss = backward(params, torch.Generator().manual_seed(step))
        for optimizer in optimizers:
            optimizer.step(**({"loss": loss} if isinstance(optimizer, MomoMuon) else {}))
    return float(loss)


@needs_muon
@pytest.mark.parametrize("order", [1, -1], ids=["muon first", "adamw first"])
def test_momo_muon_goes_on_from_muon_and_adamw_and_back(order: int) -> None:
    """Capped, all of them are one unbroken run of torch's Muon and AdamW."""
    unbroken = muon_params()
    steps_of(muon_and_adamw(unbroken), unbroken, 0, 12)

    params = muon_params()
    theirs = muon_and_adamw(params)
    loss = steps_of(theirs, params, 0, 4)
    ours = momo_muon(params)
    load_base_state_dict(ours, [each.state_dict() for each in theirs[::order]], loss=loss)
    assert ours.last_step.num_steps == 4, "Muon does not count its steps, AdamW does"
    matrices = theirs[0].state
    assert all(torch.equal(ours.state[param]["exp_avg"], matrices[param]["momentum_buffer"]) for param in matrices)
    steps_of([ours], params, 4, 4)
    assert ours.last_step.capped_steps == 4

    back = muon_and_adamw(params, lr=1.0)
    options = [{name: value for name, value in each.param_groups[0].items() if name != "params"} for each in theirs]
    for optimizer, state_dict, wanted in zip(back, base_state_dict(ours), options, strict=True):
        optimizer.load_state_dict(state_dict)
        assert {name: optimizer.param_groups[0][name] for name in wanted} == wanted
    steps_of(back, params, 8, 4)
    for actual, expected in zip(params, unbroken, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-14, atol=1e-14)


@needs_muon
def test_momo_muon_round_trip() -> None:
    """The state for torch's optimizers starts an equal MomoMuon, also with the parameters given in their order."""
    params = muon_params()
    ours = momo_muon(params)
    loss = steps_of([ours], params, 0, 3)
    state_dicts = base_state_dict(ours)
    halves = [
        [p for each in muon_groups(params) for p in each["params"] if (p.ndim == 2) is two] for two in (True, False)
    ]
    for order in (None, halves[0] + halves[1]):
        again = momo_muon(params)
        load_base_state_dict(again, state_dicts, loss=loss, params=order)
        for param in params:
            assert_bit_equal(again.state[param], ours.state[param])


@needs_muon
def test_muon_that_does_not_fit() -> None:
    params = muon_params()
    muon, adamw = muon_and_adamw(params)
    loss = steps_of([muon, adamw], params, 0, 2)
    ours = momo_muon(params)
    with pytest.raises(ValueError, match="state_dict: is of 3 parameters, the optimizer has 6"):
        load_base_state_dict(ours, muon.state_dict(), loss=loss)
    whole = AdamW(params, betas=BETAS)
    steps_of([whole], params, 0, 2)
    with pytest.raises(ValueError, match=r"has no momentum, so it is not of torch.optim.Muon, .* that MomoMuon has"):
        load_base_state_dict(ours, whole.state_dict(), loss=loss, params=params)
    muon.param_groups[0]["momentum"] = 0.5
    with pytest.raises(ValueError, match=r"momentum=0.5, those of the optimizer are 0.8; make .* momentum=0.5"):
        load_base_state_dict(ours, [muon.state_dict(), adamw.state_dict()], loss=loss)
    assert not ours.state


def test_torch_without_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(TypeError, match=r"optimizer: torch .* has no Muon; a later version does"):
        base_state_dict(MomoMuon(muon_params()))
