"""Checks of one step: gradients, loss and sample weight."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor


def check_params(params: Any) -> None:
    """Refuse parameters that are not of a real floating dtype.

    Raises:
        ValueError: If there is one.
    """
    for param in params:
        if not param.is_floating_point():
            raise ValueError(
                f"params: got a parameter of shape {tuple(param.shape)} and dtype {param.dtype}, must be of a real"
                " floating dtype; complex parameters can be optimized through torch.view_as_real"
            )


def reason_without(option: str) -> str:
    """Return why a method may lack an option, as a part of a message; empty where no reason is known."""
    if option != "adapt_lower_bound":
        return ""
    return " (the estimate of the lower bound rests on a quadratic metric, which this method does not have)"


def check_has_estimate(cls: type, options: Mapping[str, Any]) -> None:
    """Refuse ``adapt_lower_bound`` among the options of a method that has no such option.

    Raises:
        TypeError: If it is there.
    """
    name = "adapt_lower_bound"
    if name in options and name not in inspect.signature(cls).parameters:
        raise TypeError(f"{name}: {cls.__name__} has no such option{reason_without(name)}; pass lower_bound")


def check_sharded(optimizer_cls: Any, value: Any) -> None:
    """Check whether a class of optimizers can train pieces of flattened parameters.

    Raises:
        TypeError: If ``value`` is not a bool.
        NotImplementedError: If it is ``True`` and the method needs whole tensors.
    """
    if not isinstance(value, bool):
        raise TypeError(f"sharded: got {value!r}, must be True or False")
    if value and optimizer_cls.direction.whole_tensors:
        raise NotImplementedError(
            f"sharded: {optimizer_cls.__name__} needs whole tensors, but FSDP version 1 and DeepSpeed ZeRO flatten the"
            " parameters; use FSDP2 (fsdp_version: 2) or DistributedDataParallel, or another optimizer"
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


def given_loss(closure: Callable[[], Any] | None, loss: Any) -> Any:
    """Return the loss of a step as it was given, by the argument or the closure.

    Raises:
        ValueError: If both give one.
    """
    if closure is None:
        return loss
    with torch.enable_grad():
        returned = closure()
    # Lightning passes a closure that returns nothing beside the loss.
    if loss is not None and returned is not None:
        raise ValueError("loss: got a loss and a closure that returns one; give one of them")
    return returned if loss is None else loss


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
    return resolve_number("loss", loss, like, hint="the one that backward was called on (reduce it with .mean())")


def loss_and_excess(loss: Any, lower_bound: Any, group: Mapping[str, Any]) -> Tensor:
    """Return the loss of a step, and by how much its bound exceeds the optimizer's own, as one tensor.

    Raises:
        ValueError: If one is not a scalar, or there is a bound beside an estimated one.
        TypeError: If one is not a real number.
    """
    return torch.stack([resolve_loss(loss, group["loss_avg"]), bound_excess(lower_bound, group)])


def bound_excess(lower_bound: Any, group: Mapping[str, Any]) -> Tensor:
    """Return by how much the bound of one step exceeds that of the optimizer, 0-d; 0 where there is none.

    Raises:
        ValueError: If the optimizer estimates its bound, or the bound is not a single number.
        TypeError: If it is not a real number or tensor.
    """
    own: Tensor = group["lower_bound"]
    if lower_bound is None:
        return torch.zeros_like(own)
    if group.get("adapt_lower_bound"):
        raise ValueError(
            f"lower_bound: got {lower_bound!r} for one step, but adapt_lower_bound=True estimates the bound from the"
            " losses; use one of the two"
        )
    given = resolve_number("lower_bound", lower_bound, own, hint="a bound of the mean loss of the batch")
    excess: Tensor = given - own
    return excess


def resolve_number(name: str, value: Any, like: Tensor, *, hint: str) -> Tensor:
    """Bring a number of one step to a detached 0-d tensor of the dtype and device of ``like``.

    Args:
        name: Name in messages.
        value: A tensor of one element or a number.
        like: 0-d tensor.
        hint: Which scalar it must be.

    Raises:
        ValueError: If it is a tensor of several elements.
        TypeError: If it is not a real number or tensor.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"{name}: got a tensor of shape {tuple(value.shape)}, must be a scalar: {hint}")
        if not value.is_floating_point():
            raise TypeError(f"{name}: got a tensor of dtype {value.dtype}, must be of a real floating dtype")
        scalar = value.detach().reshape(())
        if scalar.device.type == "cpu" and like.device.type != "cpu":
            # Filled on the device: a copy from the host would wait for it.
            return torch.full_like(like, float(scalar))
        return scalar.to(like)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: got {type(value).__name__} {value!r}, must be a 0-d tensor or a real number")
    return torch.full_like(like, float(value))
