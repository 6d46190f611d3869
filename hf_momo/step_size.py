"""The model of the loss, and the step size that minimises it.

One pure rule on 0-d tensors, shared by every optimizer of this package. It knows nothing of parameters, kernels or
ranks: it is given the loss and three inner products per parameter group, and returns new averages and the step.

Source: Schaipp, Ohana, Eickenberg, Defazio, Gower, "MoMo: Momentum Models for Adaptive Learning Rates", ICML 2024
(arXiv 2305.07583): the model of the loss is equation (6), the step size Algorithms 1 and 2, the estimated lower bound
section 4. The joint solution over parameter groups and the sample weight are this package's own; with one group and no
clipping they reduce to the paper's.

Legend, paper letter to name: ``f-bar`` ``loss_avg``; ``gamma`` ``grad_dot_param_avg``; ``d`` ``exp_avg``; ``D`` the
metric; ``rho`` ``bias_correction``; ``alpha`` ``lr``; ``lambda`` ``weight_decay``; ``f_*`` ``lower_bound``; ``tau``
``step_size``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class LossModel(NamedTuple):
    """What the optimizer remembers of the loss. All fields are 0-d tensors of one device and floating dtype."""

    num_steps: Tensor
    """Steps taken so far (skipped ones not counted)."""
    loss_avg: Tensor
    """Running average of the batch losses, each times its sample weight."""
    grad_dot_param_avg: Tensor
    """Running average of ``<gradient, parameters>``."""
    weight_avg: Tensor
    """Running average of the sample weights; equals the bias correction while every weight is 1."""
    lower_bound: Tensor
    """Lower bound of the loss, in units of the loss."""


class GroupSums(NamedTuple):
    """Inner products of one step, one entry per parameter group (three tensors of shape ``(G,)``)."""

    exp_avg_dot_param: Tensor
    """``<d, x>`` with the new momentum ``d`` and the parameters before the step."""
    grad_dot_param: Tensor
    """``<g, x>``."""
    direction_norm_sq: Tensor
    """``||d||^2`` in the inverse metric, divided by the bias correction of ``d``."""


class GroupSettings(NamedTuple):
    """Hyperparameters of one parameter group that the rule needs."""

    lr: float | Tensor
    """Cap on the step size."""
    weight_decay: float
    """Coefficient of the quadratic penalty in the metric."""

    @property
    def shrinkage(self) -> float | Tensor:
        """Factor ``1 / (1 + lr * weight_decay)`` of the proximal decay."""
        return 1.0 / (1.0 + self.lr * self.weight_decay)


class Step(NamedTuple):
    """Outcome of the rule. On a step that is not finite ``model`` is the old one and ``scale`` means nothing."""

    model: LossModel
    scale: Tensor
    """Share of the cap that is applied, in [0, 1] (``t`` of the design)."""
    bias_correction: Tensor
    """``rho``: the step size of a group is ``scale * lr / bias_correction``."""
    finite: Tensor
    """0-d bool: whether loss, sums and the new model were all finite, so the step may be committed."""


def bias_correction(beta: float, num_steps: Tensor) -> Tensor:
    """``1 - beta ** num_steps``, accurate in float32 also for ``beta`` near 1.

    Args:
        beta: Weight of the past in a running average that starts at zero, in [0, 1).
        num_steps: Number of samples averaged, at least 1; any shape.

    Returns:
        Tensor of the shape and dtype of ``num_steps``.

    Example:
        >>> bias_correction(0.9, torch.tensor(1.0))
        tensor(0.1000)
    """
    if beta == 0.0:
        return torch.ones_like(num_steps)
    # The plain difference loses four digits of float32 at beta = 0.999 in the first steps.
    return -torch.expm1(num_steps * math.log(beta))


def take_step(
    model: LossModel,
    loss: Tensor,
    sums: GroupSums,
    groups: Sequence[GroupSettings],
    *,
    beta: float,
    sample_weight: Tensor | float,
    start_at_first_sample: bool,
    initial_lower_bound: float,
    adapt_lower_bound: bool,
) -> Step:
    """Average the new sample into the model of the loss and find the step that minimises it.

    The step is the exact minimiser of ``max(model, weight_avg * lower_bound) / bias_correction`` plus, for every
    group, the proximal terms ``||x_i - x_i^k||^2_D / (2 lr_i) + weight_decay_i / 2 * ||x_i||^2_D``.

    Args:
        model: State before the step.
        loss: 0-d, the batch loss as it was back-propagated but for the sample weight.
        sums: Inner products of this step over all parameters of each group.
        groups: Settings of each group, in the order of ``sums``.
        beta: Weight of the past in the averages, in [0, 1).
        sample_weight: Factor in (0, 1] by which the gradient was scaled after it was computed (gradient clipping), and
            the loss was not.
        start_at_first_sample: Whether the averages begin at the first sample, rather than at zero with a bias
            correction.
        initial_lower_bound: The user's bound: the floor of an estimated one.
        adapt_lower_bound: Whether the bound is estimated on the fly (the paper's MoMo*).

    Returns:
        The new model of the loss, the share of the cap, the bias correction, and whether the step is finite.
    """
    num_steps = model.num_steps + 1
    first = (model.num_steps == 0) if start_at_first_sample else None
    loss_avg = _running_average(model.loss_avg, loss * sample_weight, beta, first)
    grad_dot_param_avg = _running_average(model.grad_dot_param_avg, sums.grad_dot_param.sum(), beta, first)
    weight_avg = _running_average(model.weight_avg, torch.ones_like(loss) * sample_weight, beta, first)
    rho = torch.ones_like(loss) if start_at_first_sample else bias_correction(beta, num_steps)

    products = sums.exp_avg_dot_param.unbind()
    norms = sums.direction_norm_sq.unbind()
    offset = loss_avg - grad_dot_param_avg
    shrunk = offset + _total([g.shrinkage * product for g, product in zip(groups, products, strict=True)])

    lower_bound = model.lower_bound
    if adapt_lower_bound:
        reset = (shrunk / (2 * weight_avg)).clamp(min=initial_lower_bound)
        lower_bound = torch.where(shrunk < weight_avg * lower_bound, reset, lower_bound)

    numerator = shrunk - weight_avg * lower_bound
    denominator = _total([g.lr * g.shrinkage * norm for g, norm in zip(groups, norms, strict=True)])
    scale = torch.where(denominator > 0, numerator / denominator, 0.0).clamp(0.0, 1.0)

    if adapt_lower_bound:
        model_value = offset + sums.exp_avg_dot_param.sum()
        decrease = scale * _total([g.lr * norm for g, norm in zip(groups, norms, strict=True)])
        lower_bound = ((model_value - 0.5 * decrease) / weight_avg).clamp(min=initial_lower_bound)

    proposed = LossModel(num_steps, loss_avg, grad_dot_param_avg, weight_avg, lower_bound)
    # Finite sums of the groups can still overflow in their total, which only shows in what is worked out from them.
    results = [loss, loss_avg, grad_dot_param_avg, weight_avg, scale, *([lower_bound] if adapt_lower_bound else [])]
    finite = torch.isfinite(torch.cat([torch.cat(sums), torch.stack(results)])).all()
    kept = LossModel(*(torch.where(finite, new, old) for new, old in zip(proposed, model, strict=True)))
    return Step(kept, scale, rho, finite)


def _running_average(average: Tensor, sample: Tensor, beta: float, first: Tensor | None) -> Tensor:
    updated = beta * average + (1.0 - beta) * sample
    return updated if first is None else torch.where(first, sample, updated)


def _total(terms: list[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else torch.stack(terms).sum()
