"""What the optimizers refuse, each with the argument, its value, what is legal and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

WEIGHT_DECAY_FORMS = ("proximal", "adamw")


def check_group(group: Mapping[str, Any]) -> None:
    """Check the options of one parameter group.

    Raises:
        ValueError: If one is out of range.
        TypeError: If one is not of its type.
    """
    for name in ("lr", "weight_decay", "eps"):
        if name in group:
            _check_number(name, group[name], at_least=0.0)
    _check_number("lower_bound", group["initial_lower_bound"])
    for name, beta in _betas(group):
        _check_number(name, beta, at_least=0.0, below=1.0)
    for name in ("adapt_lower_bound", "bias_correction"):
        if not isinstance(group.get(name, False), bool):
            raise TypeError(f"{name}: got {group[name]!r}, must be True or False")
    form = group.get("weight_decay_form", "proximal")
    if form not in WEIGHT_DECAY_FORMS:
        raise ValueError(f"weight_decay_form: got {form!r}, must be one of {', '.join(map(repr, WEIGHT_DECAY_FORMS))}")
    for param in group["params"]:
        if not param.is_floating_point():
            raise ValueError(
                f"params: got a parameter of shape {tuple(param.shape)} and dtype {param.dtype}, must be of a real"
                " floating dtype; complex parameters can be optimized through torch.view_as_real"
            )


def check_same_in_all_groups(groups: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Check that options of the one model of the loss agree in all groups.

    Raises:
        ValueError: If they do not.
    """
    for name in names:
        values = [group[name] for group in groups]
        if any(value != values[0] for value in values):
            shown = "lower_bound" if name == "initial_lower_bound" else name
            raise ValueError(
                f"{shown}: got {', '.join(map(str, values))} in the parameter groups, must be the same in all of them,"
                " because one model of the loss spans all groups; only lr, weight_decay and eps may differ"
            )


def check_gradient(grad: Tensor, group: Mapping[str, Any]) -> None:
    """Refuse gradients that the kernels cannot read.

    Raises:
        RuntimeError: If the gradient is sparse or complex.
    """
    if grad.layout == torch.strided and not grad.dtype.is_complex:
        return
    kind, remedy = ("complex", "use real parameters")
    if grad.layout != torch.strided:
        kind, remedy = ("sparse", "make its layer with sparse=False")
    name = group.get("name", "a group")
    raise RuntimeError(
        f"params: a parameter of shape {tuple(grad.shape)} in {name} of {len(group['params'])} parameters has a {kind}"
        f" gradient, which MoMo cannot use; {remedy}"
    )


def check_sample_weight(weight: Any) -> None:
    """Check a sample weight given as a plain number; a tensor is not looked at, which would wait for the device.

    Raises:
        ValueError: If it is out of range.
        TypeError: If it is not a real number.
    """
    if isinstance(weight, bool) or not isinstance(weight, Real):
        raise TypeError(f"sample_weight: got {weight!r}, must be a 0-d tensor or a number in (0, 1]")
    if not 0.0 < float(weight) <= 1.0:
        raise ValueError(f"sample_weight: got {weight!r}, must be in (0, 1]: min(1, max_norm / norm) of the clipping")


def resolve_loss(loss: Any, like: Tensor) -> Tensor:
    """Bring a loss to a detached 0-d tensor of the dtype and device of ``like``.

    Raises:
        ValueError: If there is none, or it is not a single number.
        TypeError: If it is not a real number or tensor.
    """
    if loss is None:
        raise ValueError(
            "loss: got none, but MoMo's step size is worked out from the value of the loss. In your own loop call"
            " optimizer.step(loss=loss); with accelerate make the optimizer by"
            " hf_momo.create_optimizer(..., accelerator=accelerator), or add"
            " hf_momo.connect(accelerator, optimizer); with the Hugging Face Trainer use hf_momo.MomoTrainer (or add"
            " MomoTrainerMixin to your trainer class); a closure must return it"
        )
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            raise ValueError(
                f"loss: got a tensor of shape {tuple(loss.shape)}, must be a scalar: the one that backward was called"
                " on (reduce it with .mean())"
            )
        if not loss.is_floating_point():
            raise TypeError(f"loss: got a tensor of dtype {loss.dtype}, must be of a real floating dtype")
        return loss.detach().reshape(()).to(like)
    if isinstance(loss, bool) or not isinstance(loss, Real):
        raise TypeError(f"loss: got {type(loss).__name__} {loss!r}, must be a 0-d tensor or a real number")
    return torch.full_like(like, float(loss))


def _betas(group: Mapping[str, Any]) -> list[tuple[str, Any]]:
    if "beta" in group:
        return [("beta", group["beta"])]
    betas = group["betas"]
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise ValueError(f"betas: got {betas!r}, must be two numbers in [0, 1), such as (0.9, 0.999)")
    return [("betas[0]", betas[0]), ("betas[1]", betas[1])]


def _check_number(name: str, value: Any, *, at_least: float = -math.inf, below: float = math.inf) -> None:
    legal = f"in [{at_least:g}, {below:g})" if math.isfinite(at_least) else "a finite number"
    if isinstance(value, Tensor) and name == "lr" and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: got {value!r}, must be a number {legal}")
    number = float(value)
    if not (math.isfinite(number) and at_least <= number < below):
        raise ValueError(f"{name}: got {value!r}, must be {legal}")
