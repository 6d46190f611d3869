"""Random problems, the table of option sets, and the comparison with the oracle, shared by the optimizer tests."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from oracle import Oracle, OracleGroup, OracleParameter
from torch import Tensor, nn

from hf_momo import Momo, MomoAdafactor, MomoAdam, MomoLion, MomoMuon, get_optimizer_info
from hf_momo.optimizers import MomoOptimizer

SHAPES = ((3, 4), (5,), (), (2, 1, 3))


@dataclass(frozen=True)
class Method:
    """A row of the tests' table, by the name in the registry.

    Attributes:
        cls: The class.
        variants: Options by name; the caps are such that steps are capped, not capped, and reset.
        oracle: Takes the first parameter group; returns how the oracle does this method.
        group_option: An option in which groups may differ, beside ``lr`` and ``weight_decay``.
        constant_scratch: Whether the temporary memory of a step does not depend on the size of the model.
    """

    cls: type[MomoOptimizer]
    variants: dict[str, dict[str, Any]]
    oracle: Callable[[dict[str, Any]], dict[str, Any]]
    group_option: dict[str, Any] = field(default_factory=dict)
    constant_scratch: bool = True


def _momentum_update(oracle: Oracle, p: OracleParameter, group: OracleGroup) -> Tensor:
    return p.d / (1 - oracle.beta**oracle.k) if oracle.from_zero else p.d


def _adam_update(oracle: Oracle, p: OracleParameter, group: OracleGroup) -> Tensor:
    # Every parameter corrects for the steps since its own first gradient.
    metric = (p.v / (1 - oracle.beta2**p.steps)).sqrt() + group.eps
    return p.d / metric / (1 - oracle.model_beta * oracle.beta ** (p.steps - 1))


def _muon_update(oracle: Oracle, p: OracleParameter, group: OracleGroup) -> Tensor:
    if group.settings["method"] == "adam":
        return _adam_update(oracle, p, group)
    scale = {"match_rms_adamw": 0.2 * max(p.d.shape) ** 0.5, "original": max(1.0, p.d.shape[0] / p.d.shape[1]) ** 0.5}
    # The iteration acts on singular values alone, here by a singular value decomposition.
    u, s, vh = torch.linalg.svd(p.d, full_matrices=False)
    s = s / s.norm().clamp(min=1e-7)
    for _ in range(group.settings["ns_steps"]):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s) @ vh * scale[group.settings["adjust_lr_fn"]]


def _muon_dual_norm(p: OracleParameter, gradient: Tensor, group: OracleGroup) -> Tensor | None:
    """The slope of the average, by the ratio of Frobenius norms."""
    if group.settings["method"] == "adam":
        return None
    return (p.d * p.u).sum() * gradient.norm() / p.d.norm() if p.d.norm() > 0 else p.d.sum()


def _adafactor_update(oracle: Oracle, p: OracleParameter, group: OracleGroup) -> Tensor:
    # Both averages of rows and columns are linear, so they are those of the average of the squares.
    v = p.v
    if v.ndim > 1:
        row, col = v.mean(-1, keepdim=True), v.mean(-2, keepdim=True)
        v = row * col / row.mean(-2, keepdim=True).clamp(min=1e-300)
    metric = (v / (1 - oracle.beta2**p.steps)).sqrt() + group.eps
    return p.d / metric / (1 - oracle.beta**p.steps)


METHODS = {
    "momo": Method(
        Momo,
        {
            "momo": {"lr": 0.3},
            "momo-start-at-zero": {"lr": 0.3, "bias_correction": True},
            "momo-beta-0": {"lr": 0.3, "beta": 0.0},
        },
        lambda group: {
            "update": _momentum_update,
            "beta": group["momentum"],
            "from_zero": group["bias_correction"],
        },
    ),
    "momo_adam": Method(
        MomoAdam,
        {
            "adam-proximal": {"lr": 0.3},
            "adam-adamw": {"lr": 0.3, "weight_decay_form": "adamw"},
            "adam-batch-progress": {"lr": 0.3, "slope": "batch", "gap": "progress", "caution": 2.0},
        },
        lambda group: {
            "update": _adam_update,
            "beta": group["betas"][0],
            "beta2": group["betas"][1],
            "decay": group["weight_decay_form"],
        },
        {"eps": 1e-2},
    ),
    "momo_adafactor": Method(
        MomoAdafactor,
        {
            "adafactor": {"lr": 0.2},
            "adafactor-adamw": {"lr": 0.2, "weight_decay_form": "adamw"},
            "adafactor-batch-progress": {"lr": 0.2, "slope": "batch", "gap": "progress", "caution": 2.0},
        },
        lambda group: {
            "update": _adafactor_update,
            "beta": group["betas"][0],
            "beta2": group["betas"][1],
            "decay": group["weight_decay_form"],
        },
        {"eps": 1e-2},
    ),
    "momo_muon": Method(
        MomoMuon,
        {
            "muon": {"lr": 0.05},
            "muon-original": {"lr": 0.05, "adjust_lr_fn": "original", "betas": (0.5, 0.9), "ns_steps": 3},
            "muon-nesterov": {"lr": 0.05, "nesterov": True, "betas": (0.9, 0.98)},
            # Capped where matrices are float32: Newton-Schulz magnifies rounding, in the slope to 8e-5.
            "muon-batch-progress": {"lr": 1e-4, "slope": "batch", "gap": "progress", "caution": 2.0},
        },
        lambda group: {
            "update": _muon_update,
            "dual_norm": _muon_dual_norm,
            "beta": group["betas"][0],
            "model_beta": group["betas"][0] ** (2 if group["nesterov"] else 1),
            "beta2": group["betas"][1],
            "decay": "decoupled",
        },
        {"eps": 1e-2},
        constant_scratch=False,
    ),
    "momo_lion": Method(
        MomoLion,
        {
            "lion": {"lr": 0.05, "betas": (0.9, 0.98)},
            "lion-signum": {"lr": 0.05, "betas": (0.9, 0.9)},
            "lion-beta-0": {"lr": 0.05, "betas": (0.0, 0.9)},
            "lion-batch-progress": {
                "lr": 0.05,
                "betas": (0.9, 0.98),
                "slope": "batch",
                "gap": "progress",
                "caution": 2.0,
            },
        },
        lambda group: {
            "update": lambda oracle, p, group: p.d.sign(),
            "dual_norm": lambda p, gradient, group: gradient.abs().sum(),
            "beta": group["betas"][1],
            "model_beta": group["betas"][0],
            "decay": "decoupled",
        },
    ),
}
OPTION_SETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.2},
    "bound": {"lower_bound": 0.3},
    "batch-slope": {"slope": "batch", "weight_decay": 0.2},
    "progress": {"gap": "progress", "caution": 2.0, "lower_bound": 0.1},
    "batch-slope-progress": {"slope": "batch", "gap": "progress", "caution": 0.3, "weight_decay": 0.1},
    "estimated": {"adapt_lower_bound": True},
    "estimated-decay": {"adapt_lower_bound": True, "weight_decay": 0.2, "lower_bound": -1.1},
}
VARIANTS = {name: (each.cls, options) for each in METHODS.values() for name, options in each.variants.items()}
ESTIMATING = {
    name: (each.cls, options)
    for method, each in METHODS.items()
    for name, options in each.variants.items()
    if "adapt_lower_bound" in get_optimizer_info(method).defaults and not {*options} & {"slope", "gap", "caution"}
}
CASES = [
    (cls, {**variant, **options}, f"{name}-{option_name}")
    for (name, (cls, variant)), (option_name, options) in itertools.product(VARIANTS.items(), OPTION_SETS.items())
    if name in ESTIMATING or "adapt_lower_bound" not in options
    if "slope" not in options or "slope" in inspect.signature(cls).parameters
]


def estimating(cls: type[MomoOptimizer], options: Mapping[str, Any] = MappingProxyType({})) -> dict[str, bool]:
    """Return the option that estimates the bound, for methods in a quadratic metric with no option against it."""
    can = any(cls is each for each, _ in ESTIMATING.values()) and not {*options} & {"slope", "gap", "caution"}
    return {"adapt_lower_bound": True} if can else {}


def supported(cls: type[MomoOptimizer], options: dict[str, Any]) -> dict[str, Any]:
    """Return ``options`` without the estimated bound where the method or another option rules it out."""
    return {name: value for name, value in options.items() if name != "adapt_lower_bound" or estimating(cls, options)}


def method_of(cls: type[MomoOptimizer]) -> Method:
    return next(method for method in METHODS.values() if method.cls is cls)


def make_params(dtype: torch.dtype = torch.float64, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[nn.Parameter]:
    """Parameters of the global random state, in size about 1."""
    return [nn.Parameter(torch.randn(shape, dtype=torch.float64).to(dtype)) for shape in shapes]


def random_loss(params: Sequence[Tensor], generator: torch.Generator, rows: int = 4) -> Tensor:
    """A mean of squares of random linear forms of the parameters: convex, noisy from step to step, above 0.1."""
    flat = torch.cat([p.double().reshape(-1) for p in params])
    matrix = torch.randn(rows, flat.numel(), generator=generator, dtype=torch.float64)
    target = torch.randn(rows, generator=generator, dtype=torch.float64)
    return (matrix @ flat - target).square().mean() / flat.numel() + 0.1


def backward(
    params: Sequence[nn.Parameter], generator: torch.Generator, active: Sequence[int] | None = None
) -> Tensor:
    """Set the gradients of the ``active`` parameters (all of them by default), none elsewhere; return the loss."""
    for p in params:
        p.grad = None
    loss = random_loss([params[i] for i in (active if active is not None else range(len(params)))], generator)
    loss.backward()
    return loss.detach()


def gradients(optimizer: MomoOptimizer) -> list[list[Tensor | None]]:
    return [[p.grad for p in group["params"]] for group in optimizer.param_groups]


def oracle_group(group: dict[str, Any]) -> dict[str, Any]:
    return {
        "params": list(group["params"]),
        "lr": float(group["lr"]),
        "weight_decay": group["weight_decay"],
        "eps": group.get("eps", 0.0),
        "settings": group,
    }


def oracle_options(group: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the rule, which all groups share."""
    options = {name: group[name] for name in ("slope", "gap", "caution") if name in group}
    return {
        **options,
        "lower_bound": group["initial_lower_bound"],
        "adapt_lower_bound": group.get("adapt_lower_bound", False),
    }


def make_oracle(optimizer: MomoOptimizer) -> Oracle:
    """Return the oracle with the settings and the present parameters of an optimizer that has not stepped yet."""
    first = optimizer.param_groups[0]
    return Oracle(
        [oracle_group(group) for group in optimizer.param_groups],
        **oracle_options(first),
        **method_of(type(optimizer)).oracle(first),
    )


def assert_scalars_match(optimizer: MomoOptimizer, oracle: Oracle, tolerance: float) -> None:
    """Averages, bound, step sizes and counters of every group."""
    expected = {
        "num_steps": oracle.k,
        "loss_avg": oracle.loss_avg,
        "grad_dot_param_avg": oracle.gamma,
        "weight_avg": oracle.weight_avg,
        "lower_bound": oracle.lower_bound,
        "step_scale": oracle.t,
        "skipped_steps": oracle.skipped,
        "zero_steps": oracle.zeros,
        "bound_excess_avg": oracle.bound_avg - oracle.weight_avg * oracle.initial,
    }
    for group, oracle_group_ in zip(optimizer.param_groups, oracle.groups, strict=True):
        for name, value in {**expected, "step_size": oracle_group_.step_size}.items():
            assert_near(group[name], value, tolerance, name)


def assert_tensors_match(optimizer: MomoOptimizer, oracle: Oracle, tolerance: float) -> None:
    """Parameters, both averages and step counters; a parameter without a gradient so far has no state."""
    for group, oracle_group_ in zip(optimizer.param_groups, oracle.groups, strict=True):
        for param, p in zip(group["params"], oracle_group_.params, strict=True):
            assert_near(param, p.x, tolerance, "parameter")
            state = optimizer.state.get(param, {})
            assert bool(state) == p.seen
            expected = {"step": p.steps, "exp_avg": p.m, "exp_avg_sq": p.v}
            if p.v.ndim > 1:
                expected |= {"exp_avg_sq_row": p.v.mean(-1), "exp_avg_sq_col": p.v.mean(-2)}
            for name, tensor in state.items():
                assert_near(tensor, expected[name], tolerance, name)


def assert_matches(optimizer: MomoOptimizer, oracle: Oracle, tolerance: float) -> None:
    assert_scalars_match(optimizer, oracle, tolerance)
    assert_tensors_match(optimizer, oracle, tolerance)


def assert_near(actual: Tensor, expected: Tensor | float, tolerance: float, name: str) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    actual = actual.detach().double()
    if actual.shape == expected.shape and bool(((actual - expected).abs() <= tolerance * (1 + expected.abs())).all()):
        return  # assert_close is ten times slower, and only its message is wanted
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance, msg=lambda text: f"{name}: {text}")


def snapshot(optimizer: MomoOptimizer) -> dict[str, Tensor | float]:
    """Copies of every tensor of model and optimizer, and of the plain settings, by where it stands."""
    copies: dict[str, Any] = {}
    for i, group in enumerate(optimizer.param_groups):
        for j, param in enumerate(group["params"]):
            copies[f"groups[{i}].params[{j}]"] = param.detach().clone()
            for name, tensor in optimizer.state.get(param, {}).items():
                copies[f"groups[{i}].params[{j}].{name}"] = tensor.clone()
        for name, value in group.items():
            if name != "params":
                copies[f"groups[{i}].{name}"] = value.clone() if isinstance(value, Tensor) else value
    return copies


def assert_bit_equal(actual: dict[str, Any], expected: dict[str, Any], *, but: Sequence[str] = ()) -> None:
    """Same names, dtypes and bits (NaN equals NaN), except for entries that end in one of ``but``."""
    actual, expected = ({k: v for k, v in d.items() if not k.endswith(tuple(but))} for d in (actual, expected))
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, Tensor):
            if value.dtype != actual[name].dtype or not torch.equal(actual[name], value):
                torch.testing.assert_close(
                    actual[name], value, rtol=0, atol=0, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}"
                )
        else:
            assert actual[name] == value, name
