"""Optimizers of other packages as bases of ``MomoWrapper``: those it refuses, and how each decays weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.scalars import zero_dim
from hf_momo.step_size import GroupSettings

WEIGHT_DECAY_FORMS = ("auto", "adamw", "decoupled", "coupled")
"""Legal values of ``weight_decay_form=``."""

# Classes that shrink weights by 1 - lr * weight_decay, by the first part of their module and a part of their name.
# Where the groups or attributes of an optimizer tell, as those of torch's Adam do, they are asked instead.
# tests/optimizers/test_bases.py compares each with what its steps do.
_DECOUPLED = {
    "apollo_torch": ("AdamW",),
    "bitsandbytes": ("AdEMAMix", "Adam", "Lion"),
    "galore_torch": ("Adafactor", "AdamW"),
    "grokadamw": ("GrokAdamW",),
    "lion_pytorch": ("Lion",),
    "optimi": ("AdamW", "Lion"),
    "torch": ("AdamW", "Adafactor", "Muon"),
    "torchao": ("AdamW",),
    "transformers": ("Adafactor",),
}
# Keys of parameter groups, or attributes, by which optimizers say whether they decay so.
_DECOUPLED_KEYS = ("decoupled_weight_decay", "weight_decouple", "decouple_wd")


def check_base(base: Any) -> None:
    """Check that MoMo's step size can be put on an optimizer.

    Raises:
        TypeError: If ``base`` is not a torch optimizer, is one of this package, or takes its steps in a way that
            leaves nothing to scale.
    """
    name = type(base).__name__
    if isinstance(base, MomoOptimizer):
        raise TypeError(f"base: got {name}, which has MoMo's step size already; use it as it is")
    if not isinstance(base, torch.optim.Optimizer):
        raise TypeError(f"base: got {base if isinstance(base, type) else name}, must be a torch.optim.Optimizer")
    if hasattr(base, "scaler") and hasattr(base, "step_was_skipped"):
        raise TypeError("base: got accelerate's wrapper; give the optimizer itself, before accelerator.prepare")
    if reason := _refusal(base):
        raise TypeError(f"base: got {name}, which {reason}")


def _refusal(base: torch.optim.Optimizer) -> str | None:
    """Return why the step of ``base`` cannot be scaled, or ``None``."""
    if callable(getattr(base, "train", None)) and callable(getattr(base, "eval", None)):
        return (
            "takes its gradient at another point than the one where the loss is reported (schedule-free methods"
            " interpolate between two sequences of weights), so loss, gradient and weights belong to no one model. It"
            " needs no schedule; use it without MoMo"
        )
    closure = inspect.signature(type(base).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        return "evaluates the loss several times in a step; MoMo's step size follows from one loss and its gradient"
    if hasattr(base, "first_step") and hasattr(base, "second_step"):
        return "takes its gradient at a second point (sharpness-aware methods); MoMo needs loss and gradient at one"
    if hasattr(base, "fused_backward") or hasattr(base, "optimizer_dict"):
        return (
            "updates the weights during backward, layer by layer, before the loss is known to the optimizer; use the"
            " variant that updates in step()"
        )
    return None


def beta_of(base: torch.optim.Optimizer) -> float:
    """Return the weight of the past in the averages of ``base``, 0.9 if it does not say."""
    group = base.param_groups[0]
    if "betas" in group:
        return float(group["betas"][0])
    return float(group.get("momentum", 0.9))


def weight_decay_form(base: torch.optim.Optimizer, group: Mapping[str, Any]) -> str:
    """Return how ``base`` decays the weights of ``group``: ``"adamw"``, ``"decoupled"`` or ``"coupled"``."""
    if "d_coef" in group or "d0" in group:
        # Prodigy and D-adaptation decay by a rate that they find during the step.
        return "coupled"
    told = [group.get(key, getattr(base, key, None)) for key in _DECOUPLED_KEYS]
    if any(isinstance(each, bool) for each in told):
        decoupled = any(told)
    else:
        decoupled = any(
            part in cls.__name__
            for cls in type(base).__mro__
            for part in _DECOUPLED.get(cls.__module__.partition(".")[0], ())
        )
    if not decoupled:
        return "coupled"
    return "adamw" if any("adam" in cls.__name__.lower() for cls in type(base).__mro__) else "decoupled"


def settings_in_units_of_a_step(group: Mapping[str, Any], form: str) -> GroupSettings:
    """Return the settings for the rule, where ``u`` is the whole step of the base instead of the step at rate 1.

    Args:
        group: The parameter group.
        form: ``"adamw"``, ``"decoupled"`` or ``"coupled"``.
    """
    decay: float | Tensor = 0.0
    if form != "coupled" and group.get("weight_decay"):
        lr = zero_dim(group["lr"])
        if group.get("fixed_decay"):  # pytorch_optimizer: weight_decay itself
            lr = 1.0
        elif group.get("decouple_lr"):  # optimi: weight_decay times the share of the schedule
            lr = lr / group["max_lr"]
        decay = lr * group["weight_decay"]
    return GroupSettings(1.0, decay, decoupled=form != "adamw")
