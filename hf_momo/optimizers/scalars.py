"""The 0-d tensors in the parameter groups: the model of the loss, and the results of the last step."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from hf_momo.estimates import Progress, SlopeAverage
from hf_momo.step_size import LossModel, Step

# The scalars live in every parameter group, all groups the same values: group entries are what torch.save, deepcopy,
# accelerate's prepare and distributed checkpoints all keep. Attributes and string keys in `state` get lost on some of
# these ways, and per-parameter state is cast to the parameter's dtype on load.
SCALARS = (*LossModel._fields, "step_scale", "step_size", "capped_steps", "zero_steps", "skipped_steps")

ESTIMATE_OPTIONS = ("slope", "gap", "caution")
"""Options that replace parts of the rule, of all groups."""

_Scalars = TypeVar("_Scalars", LossModel, SlopeAverage, Progress)

Groups = Sequence[MutableMapping[str, Any]]


def names_of(group: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the scalars of ``group``: ``SCALARS``, and the estimates that its options ask for."""
    slope = SlopeAverage._fields if group.get("slope") == "batch" else ()
    gap = Progress._fields if group.get("gap") == "progress" else ()
    return (*SCALARS, *slope, *gap, *(("last_gap", "last_slope") if slope or gap else ()))


def read(group: Mapping[str, Any], kind: type[_Scalars]) -> _Scalars:
    """Return the scalars of ``group`` that are the fields of a named tuple."""
    fields: Any = kind
    return kind(*(group[name] for name in fields._fields))


def join(groups: Groups) -> None:
    """Give the last group the model of the loss: that of the others, or a new one."""
    first, last = groups[0], groups[-1]
    for name in names_of(last):
        model = first.get(name, 0.0) if len(groups) > 1 else 0.0
        last[name] = torch.as_tensor(model).detach().clone()
    if len(groups) == 1:
        last["lower_bound"] = torch.tensor(last["initial_lower_bound"], dtype=torch.float64)
    place(groups)


def place(groups: Groups) -> None:
    """Move the scalars to the device and dtype of the parameters, both of which may change after construction.

    Raises:
        ValueError: If parameters are on several devices.
    """
    device, dtype = device_of(groups), _dtype_of(groups)
    for group in groups:
        for name in names_of(group):
            # An option that was set during training has no state yet.
            scalar = group.get(name, 0.0)
            if not isinstance(scalar, Tensor) or scalar.device != device or scalar.dtype != dtype:
                on_host = not isinstance(scalar, Tensor) or scalar.device.type == "cpu"
                # Filled on the device: a copy from the host would wait for it.
                group[name] = (
                    torch.full((), float(scalar), dtype=dtype, device=device) if on_host else scalar.to(device, dtype)
                )


def device_of(groups: Groups) -> torch.device:
    """Return the one device of all parameters.

    Raises:
        ValueError: If they are on several.
    """
    devices = {param.device: None for group in groups for param in group["params"]}
    if len(devices) > 1:
        raise ValueError(
            f"params: on several devices ({', '.join(map(str, devices))}); one step needs inner products over all"
            " of them. Put the model on one device, or shard it with FSDP instead of device_map"
        )
    return next(iter(devices), torch.device("cpu"))


def write(groups: Groups, step: Step) -> None:
    """Write the results of a step into all groups; of a skipped step only its count."""
    first = groups[0]
    updates = step.model._asdict()
    updates |= {name: torch.where(step.finite, new, first[name]) for name, new in step.estimates.items()}
    updates["step_scale"] = torch.where(step.finite, step.scale, first["step_scale"])
    taken = step.finite.to(step.scale.dtype)
    updates["capped_steps"] = first["capped_steps"] + taken * (step.scale >= 1.0)
    updates["zero_steps"] = first["zero_steps"] + taken * step.below_bound
    updates["skipped_steps"] = first["skipped_steps"] + (1.0 - taken)
    targets, sources, names = [], [], names_of(first)
    for group in groups:
        updates["step_size"] = torch.where(step.finite, step.scale * zero_dim(group["lr"]), group["step_size"])
        targets += [group[name] for name in names]
        sources += [updates[name] for name in names]
    # In place, so that a captured CUDA graph keeps reading and writing the same memory.
    torch._foreach_copy_(targets, sources)


def count_skipped(groups: Groups) -> None:
    """Count a step that was not taken."""
    for group in groups:
        group["skipped_steps"] += 1


def zero_dim(value: float | Tensor) -> float | Tensor:
    """Return a learning rate given as a tensor of one element as a 0-d tensor."""
    return value.reshape(()) if isinstance(value, Tensor) else value


def _dtype_of(groups: Groups) -> torch.dtype:
    params = (param for group in groups for param in group["params"])
    return torch.float64 if any(param.dtype == torch.float64 for param in params) else torch.float32
