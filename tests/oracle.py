"""The algorithm once more, for the tests: one parameter after the other, in float64, as the equations stand.

It shares no code with ``hf_momo`` and none of its order of work: averages are kept in Python numbers, every parameter
carries its own direction and bias correction, and nothing is fused, sliced, reduced or skipped on a device. A method
is one function, which gives the update ``u`` of its base method at rate 1.

At step k, with batch loss f, gradient g, parameters x before the step, and the sample weight c (1 without clipping):

    d, v        averages of g and g*g
    f-bar       average of c*f                gamma   average of <g, x>            w-bar   average of c
                All of these but v are model_beta * old + (1 - model_beta) * new in this step, and beta * old + (1 -
                beta) * new is what is kept of them for the next. A method that does not look ahead has one beta.
    h(y)      = f-bar + <d, y> - gamma        stands for w-bar times the loss
    rho       = 1 - model_beta * beta^(k-1)  (start at zero)   or 1    (start at the first sample)
    u         = d / rho  (SGD),  d / (sqrt(v / (1 - beta2^k)) + eps) / rho  (Adam)
    s_i       = 1 / (1 + lr_i * wd_i)  (proximal),  or  1 - lr_i * wd_i  (decoupled)
    t         = clip((f-bar - gamma - w-bar*bound + sum s_i <d,x>) / sum lr_i s_i <d, u>, 0, 1)
    x        <- s_i * (x - t * lr_i * u)  (proximal),  or  s_i * x - t * lr_i * u  (decoupled)

The decoupled form has no ``s_i`` in the denominator. Adam's ``"adamw"`` decay is the proximal model with the decoupled
shrinkage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class OracleParameter:
    """One parameter and its averages, all in float64."""

    x: Tensor
    seen: bool = False
    """Whether it ever had a gradient."""
    frozen: bool = False
    """Whether it no longer requires one."""
    steps: int = 0
    """Steps since the first one with a gradient."""
    m: Tensor = field(init=False)
    """The average of the gradients that is kept."""
    d: Tensor = field(init=False)
    """The direction of this step."""
    v: Tensor = field(init=False)
    u: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.x = self.x.detach().double().clone()
        self.m, self.d, self.v, self.u = (torch.zeros_like(self.x) for _ in range(4))


@dataclass
class OracleGroup:
    params: list[OracleParameter]
    lr: float
    weight_decay: float = 0.0
    eps: float = 1e-8
    step_size: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All options of the group, for updates that need others."""


class Oracle:
    """MoMo on groups of parameters.

    Args:
        groups: Groups of parameters, each a mapping with ``params`` and any of ``lr``, ``weight_decay``, ``eps``.
        update: Takes the oracle, a parameter and its group; returns ``u``.
        beta: Weight of the past in what is kept.
        model_beta: Weight of the past in the direction and the model; ``beta`` if left out.
        from_zero: Averages start at zero, not at the first sample.
        decay: ``"proximal"``, ``"adamw"`` or ``"decoupled"``.
    """

    def __init__(
        self,
        groups: Sequence[dict],
        *,
        update: Callable[[Oracle, OracleParameter, OracleGroup], Tensor],
        beta: float = 0.9,
        model_beta: float | None = None,
        beta2: float = 0.999,
        lower_bound: float = 0.0,
        adapt_lower_bound: bool = False,
        from_zero: bool = True,
        decay: str = "proximal",
    ) -> None:
        self.groups = [self._group(group) for group in groups]
        self.update, self.beta, self.beta2, self.decay, self.from_zero = update, beta, beta2, decay, from_zero
        self.model_beta = beta if model_beta is None else model_beta
        self.initial, self.lower_bound, self.adapt = lower_bound, lower_bound, adapt_lower_bound
        self.k = 0
        self.loss_avg = self.gamma = self.weight_avg = self.t = 0.0
        self.skipped = self.zeros = 0

    @staticmethod
    def _group(group: dict) -> OracleGroup:
        return OracleGroup(**{**group, "params": [OracleParameter(x) for x in group["params"]]})

    def add_group(self, group: dict) -> None:
        self.groups.append(self._group(group))

    def _averages(self, old, new):
        """Return what is kept, and what stands in the model of this step."""
        if self.k == 1 and not self.from_zero:
            return new, new
        return tuple(beta * old + (1 - beta) * new for beta in (self.beta, self.model_beta))

    def step(self, loss: float, grads: Sequence[Sequence[Tensor | None]], sample_weight: float = 1.0) -> None:
        """Take one step; ``grads`` is nested like the groups, ``None`` where this batch gave no gradient."""
        given = [g for group in grads for g in group if g is not None]
        if not math.isfinite(loss) or not all(bool(torch.isfinite(g).all()) for g in given):
            self.skipped += 1
            return
        self.k += 1
        gamma = 0.0
        for group, group_grads in zip(self.groups, grads, strict=True):
            for p, g in zip(group.params, group_grads, strict=True):
                if g is None and not p.seen:
                    continue
                g = torch.zeros_like(p.x) if g is None else g.detach().double()
                p.seen, p.steps = True, p.steps + 1
                p.m, p.d = self._averages(p.m, g)
                p.v = self.beta2 * p.v + (1 - self.beta2) * g * g
                p.u = self.update(self, p, group)
                gamma += _dot(g, p.x)
        self.loss_avg, loss_avg = self._averages(self.loss_avg, sample_weight * loss)
        self.gamma, gamma_avg = self._averages(self.gamma, gamma)
        self.weight_avg, weight_avg = self._averages(self.weight_avg, sample_weight)

        linear = shrunk_linear = denominator = full_slope = 0.0
        for group in self.groups:
            decayed = 1 - group.lr * group.weight_decay
            s = decayed if self.decay == "decoupled" else 1 / (1 + group.lr * group.weight_decay)
            for p in group.params:
                if p.seen:
                    # A frozen parameter stands in the model and does not move: a group of rate 0.
                    slope = 0.0 if p.frozen else group.lr * _dot(p.d, p.u)
                    linear += _dot(p.d, p.x)
                    shrunk_linear += (1.0 if p.frozen else s) * _dot(p.d, p.x)
                    denominator += slope if self.decay == "decoupled" else s * slope
                    full_slope += slope

        m = loss_avg - gamma_avg + shrunk_linear
        if self.adapt and m < weight_avg * self.lower_bound:
            self.lower_bound = max(m / (2 * weight_avg), self.initial)
        numerator = m - weight_avg * self.lower_bound
        self.t = min(max(numerator / denominator, 0.0), 1.0) if denominator > 0 else 0.0
        self.zeros += numerator <= 0
        if self.adapt:
            h = loss_avg + linear - gamma_avg
            self.lower_bound = max((h - self.t * full_slope / 2) / weight_avg, self.initial)

        for group in self.groups:
            group.step_size = self.t * group.lr
            for p in group.params:
                if not p.seen or p.frozen:
                    continue
                if self.decay != "proximal":
                    p.x = (1 - group.lr * group.weight_decay) * p.x
                p.x = p.x - self.t * group.lr * p.u
                if self.decay == "proximal":
                    p.x = p.x / (1 + group.lr * group.weight_decay)


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum())
