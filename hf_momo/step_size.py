"""The model of the loss, and the step that minimises it.

One pure rule on 0-d tensors, shared by every optimizer of this package. It knows nothing of parameters, kernels or
ranks: it gets the loss and three inner products per parameter group, and returns the new averages and the step.

Source: Schaipp, Ohana, Eickenberg, Defazio, Gower, "MoMo: Momentum Models for Adaptive Learning Rates", ICML 2024
(arXiv 2305.07583): the model of the loss is equation (6), the step size Algorithms 1 and 2, the estimated lower bound
section 4. The joint solution over parameter groups, the sample weight and the rule for directions other than SGD's and
Adam's are this package's own; with one group and no clipping they reduce to the paper's.

Legend, paper letter to name: ``f-bar`` ``loss_avg``; ``gamma`` ``grad_dot_param_avg``; ``d`` the averaged gradient;
``D`` the metric; ``rho`` ``bias_correction``; ``alpha`` ``lr``; ``lambda`` ``weight_decay``; ``f_*`` ``lower_bound``;
``tau`` the step size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hf_momo.estimates import MIN_PROGRESS, Progress, SlopeAverage


class LossModel(NamedTuple):
    """State of the model of the loss. All fields are 0-d tensors of one device and floating dtype."""

    num_steps: Tensor
    """Number of steps taken; skipped steps are not counted."""
    loss_avg: Tensor
    """Running average of the batch losses, each times its sample weight."""
    grad_dot_param_avg: Tensor
    """Running average of ``<gradient, parameters>``."""
    weight_avg: Tensor
    """Running average of the sample weights; equals the bias correction while every weight is 1."""
    lower_bound: Tensor
    """Lower bound of the loss, in units of the loss."""
    bound_excess_avg: Tensor
    """Running average of ``bound - lower_bound`` over bounds that came with a batch, each times its sample weight."""


class Averaging(NamedTuple):
    """Weights of the running averages in one step, decided once for the rule, the kernels and the update.

    The model of this step is ``model_beta * old + (1 - model_beta) * new``; ``beta * old + (1 - beta) * new`` is kept
    for the next one. Both betas are the same except for methods that look ahead (Nesterov, Lion).
    """

    beta: float
    """Weight of the past in what is kept, in [0, 1)."""
    model_beta: float
    """Weight of the past in the direction and the model of this step, in [0, 1)."""
    is_first: Tensor | None
    """0-d bool: whether this sample starts the averages. ``None`` where they start at zero."""
    bias_correction: Tensor
    """0-d, sum of the weights of all samples in the direction: 1 where the averages start at the first sample."""

    @property
    def grad_weight(self) -> Tensor:
        """0-d, weight of the new gradient in the direction."""
        weight = torch.full_like(self.bias_correction, 1.0 - self.model_beta)
        return weight if self.is_first is None else torch.where(self.is_first, 1.0, weight)

    def kept(self, average: Tensor, sample: Tensor) -> Tensor:
        """Return the average to keep after ``sample``."""
        return self._mean(average, sample, self.beta)

    def in_model(self, average: Tensor, sample: Tensor) -> Tensor:
        """Return the average that stands in the model of this step."""
        return self._mean(average, sample, self.model_beta)

    def _mean(self, average: Tensor, sample: Tensor, beta: float) -> Tensor:
        updated = beta * average + (1.0 - beta) * sample
        return updated if self.is_first is None else torch.where(self.is_first, sample, updated)


def averaging(
    num_steps: Tensor, beta: float, *, model_beta: float | None = None, start_at_first_sample: bool = False
) -> Averaging:
    """Return the weights of the running averages in the step after ``num_steps`` steps.

    Args:
        num_steps: 0-d, number of steps taken so far.
        beta: Weight of the past in what is kept, in [0, 1).
        model_beta: Weight of the past in the direction of this step, in [0, 1); ``beta`` if left out.
        start_at_first_sample: Whether the averages begin at the first sample, rather than at zero with a bias
            correction.
    """
    model_beta = beta if model_beta is None else model_beta
    if start_at_first_sample:
        return Averaging(beta, model_beta, num_steps == 0, torch.ones_like(num_steps))
    correction = bias_correction(beta, num_steps + 1)
    if model_beta != beta:
        correction = 1.0 - model_beta * (1.0 - bias_correction(beta, num_steps))
    return Averaging(beta, model_beta, None, correction)


class GroupSums(NamedTuple):
    """Inner products of one step, one entry per parameter group (tensors of shape ``(G,)``).

    ``d`` is the averaged gradient, ``x`` the parameters before the step, ``g`` the gradient, and ``u`` the update that
    the base method would make at learning rate 1.
    """

    direction_dot_param: Tensor
    """``<d, x>``."""
    grad_dot_param: Tensor
    """``<g, x>``."""
    slope: Tensor
    """``<d, u>``: decrease of the model along ``u``. In a quadratic metric ``||d||^2 / bias_correction``."""
    batch_slope: Tensor | None = None
    """The slope of this batch, where it was asked for. In a quadratic metric ``M``, in which ``u = M^-1 d``, this is
    ``<g, M^-1 g>``; else the dual norm of ``g`` times the norm of ``u``, which is a bound of ``<g, u>``."""


class GroupSettings(NamedTuple):
    """Hyperparameters of one parameter group that the rule needs."""

    lr: float | Tensor
    """Cap on the step size."""
    weight_decay: float | Tensor
    """Coefficient of the weight decay."""
    decoupled: bool = False
    """Whether parameters shrink by ``1 - lr * weight_decay`` before the step, in the model too, instead of by the
    proximal ``1 / (1 + lr * weight_decay)`` after it."""
    dual_norm: bool = False
    """Whether ``batch_slope`` is a dual norm and not a square in a quadratic metric."""

    @property
    def shrinkage(self) -> float | Tensor:
        """Factor of the weight decay on the parameters."""
        if self.decoupled:
            return 1.0 - self.lr * self.weight_decay
        return 1.0 / (1.0 + self.lr * self.weight_decay)

    @property
    def slope_factor(self) -> float | Tensor:
        """Factor of the slope in the decrease of the model: a proximal decay shortens the step too."""
        return self.lr if self.decoupled else self.lr * self.shrinkage


class Step(NamedTuple):
    """Outcome of the rule. In a step that is not finite ``model`` is the old one and the rest has no meaning."""

    model: LossModel
    scale: Tensor
    """Share of the cap that is applied, in [0, 1]: the step size of a group is ``scale * lr``."""
    below_bound: Tensor
    """0-d bool: whether the model is at or below the lower bound, so that ``scale`` is 0."""
    finite: Tensor
    """0-d bool: whether loss, sums and the new model were all finite, so the step may be committed."""
    estimates: dict[str, Tensor]
    """New values of the fields of ``SlopeAverage`` and ``Progress`` that were given, with ``last_gap`` and
    ``last_slope``; in a step that is not finite they have no meaning. Empty where none was given."""


def bias_correction(beta: float, num_steps: Tensor) -> Tensor:
    """Return ``1 - beta ** num_steps``, accurate in float32 also for ``beta`` near 1.

    Args:
        beta: Weight of the past in a running average that starts at zero, in [0, 1).
        num_steps: Number of samples averaged, also 0; any shape.

    Returns:
        Tensor of the shape and dtype of ``num_steps``.

    Example:
        >>> bias_correction(0.9, torch.tensor(1.0))
        tensor(0.1000)
    """
    if beta == 0.0:
        return (num_steps > 0).to(num_steps.dtype)
    # The plain difference loses four digits of float32 at beta = 0.999 in the first steps.
    return -torch.expm1(num_steps * math.log(beta))


def take_step(
    model: LossModel,
    loss: Tensor,
    sums: GroupSums,
    groups: Sequence[GroupSettings],
    averaging: Averaging,
    *,
    sample_weight: Tensor | float,
    initial_lower_bound: float,
    adapt_lower_bound: bool,
    bound_excess: Tensor | None = None,
    slope_average: SlopeAverage | None = None,
    progress: Progress | None = None,
    caution: float = 1.0,
) -> Step:
    """Average the new sample into the model of the loss and find the step that minimises it.

    In quadratic metrics the step is the exact minimiser of ``max(model, weight_avg * lower_bound) / bias_correction``
    plus, for every group, ``||x_i - x_i^k||^2_D / (2 lr_i) + weight_decay_i / 2 * ||x_i||^2_D``. For updates of
    constant length it is the exact minimiser of the truncated model over the balls of radius ``lr_i``.

    Args:
        model: State before the step.
        loss: 0-d, the batch loss as back-propagated, without the sample weight.
        sums: Inner products of this step over all parameters of each group.
        groups: Settings of each group, in the order of ``sums``.
        averaging: Weights of the running averages in this step.
        sample_weight: Factor in (0, 1] by which the gradient was scaled after it was computed (gradient clipping)
            while the loss was not.
        initial_lower_bound: The user's bound; the floor of an estimated one.
        adapt_lower_bound: Whether the bound is estimated on the fly (the paper's MoMo*).
        bound_excess: 0-d, how far a lower bound that came with this batch is above the user's. ``None`` is 0.
        slope_average: State before the step of the average slope of the batches, which stands in place of the slope of
            the model where it is larger.
        progress: State before the step of the progress, which stands in place of the gap between model and bound, but
            for no more than the gap between the averaged loss and the bound.
        caution: Factor of the slope.

    Returns:
        The new model of the loss, the share of the cap, and whether the step is finite.
    """
    excess = torch.zeros_like(loss) if bound_excess is None else bound_excess
    weight = torch.ones_like(loss) * sample_weight
    # As vectors: a third of the calls.
    samples = torch.stack([loss * sample_weight, sums.grad_dot_param.sum(), weight, excess * sample_weight])
    averages = torch.stack([model.loss_avg, model.grad_dot_param_avg, model.weight_avg, model.bound_excess_avg])
    kept = in_model = averaging.kept(averages, samples).unbind()
    if averaging.model_beta != averaging.beta:
        in_model = averaging.in_model(averages, samples).unbind()
    loss_avg, grad_dot_param_avg, weight_avg, excess_avg = in_model

    products = sums.direction_dot_param.unbind()
    slopes = sums.slope.unbind()
    offset = loss_avg - grad_dot_param_avg
    shrunk = offset + _total([g.shrinkage * product for g, product in zip(groups, products, strict=True)])

    lower_bound = model.lower_bound
    if adapt_lower_bound:
        reset = (shrunk / (2 * weight_avg)).clamp(min=initial_lower_bound)
        lower_bound = torch.where(shrunk < weight_avg * lower_bound, reset, lower_bound)

    bound = weight_avg * lower_bound + excess_avg
    numerator = shrunk - bound
    denominator = _total([g.slope_factor * slope for g, slope in zip(groups, slopes, strict=True)])
    estimates: dict[str, Tensor] = {}
    if slope_average is not None:
        largest = torch.stack([torch.ones_like(loss) * group.lr for group in groups]).max()
        slope_average, slope = slope_average.updated(_batch_slope(sums, groups), weight, largest)
        estimates |= slope_average._asdict()
        denominator = torch.maximum(denominator, weight_avg * slope)
    if progress is not None:
        progress = progress.updated(loss)
        estimates |= progress._asdict()
        floor = MIN_PROGRESS * loss_avg.abs()
        numerator = torch.minimum(torch.maximum(weight_avg * progress.decrease, floor), loss_avg - bound)
    if estimates:
        estimates |= {"last_gap": numerator / weight_avg, "last_slope": denominator / weight_avg}
    if caution != 1.0:
        denominator = caution * denominator
    scale = torch.where(denominator > 0, numerator / denominator, 0.0).clamp(0.0, 1.0)

    if adapt_lower_bound:
        model_value = offset + sums.direction_dot_param.sum()
        decrease = scale * _total([g.lr * slope for g, slope in zip(groups, slopes, strict=True)])
        lower_bound = ((model_value - 0.5 * decrease) / weight_avg).clamp(min=initial_lower_bound)

    proposed = LossModel(model.num_steps + 1, kept[0], kept[1], kept[2], lower_bound, kept[3])
    # Finite sums of the groups can still overflow in their total, which only shows in the results.
    results = [loss, *kept, scale, *([lower_bound] if adapt_lower_bound else []), *estimates.values()]
    numbers = [column for column in sums if column is not None]
    finite = torch.isfinite(torch.cat([*numbers, torch.stack(results)])).all()
    new = LossModel(*(torch.where(finite, new, old) for new, old in zip(proposed, model, strict=True)))
    return Step(new, scale, numerator <= 0, finite, estimates)


def _batch_slope(sums: GroupSums, groups: Sequence[GroupSettings]) -> Tensor:
    """Return a bound of the decrease along the step of all groups, at their rates, by the gradient of this batch.

    By Hölder's inequality: in a quadratic metric the bound is the norm of the step times that of the gradient, over
    all groups together. So groups of equal settings may be split. Dual norms add up.
    """
    assert sums.batch_slope is not None
    rows = list(zip(groups, sums.slope.unbind(), sums.batch_slope.unbind(), strict=True))
    norms = [g.slope_factor * batch for g, _, batch in rows if g.dual_norm]
    squares = [(g.slope_factor * slope, g.slope_factor * batch) for g, slope, batch in rows if not g.dual_norm]
    if squares:
        # Their product could overflow.
        norms.append(_total([step for step, _ in squares]).sqrt() * _total([grad for _, grad in squares]).sqrt())
    return _total(norms)


def _total(terms: list[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else torch.stack(terms).sum()
