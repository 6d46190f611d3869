"""State dicts: what is handed out, and what is refused before anything is changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from hf_momo.optimizers.scalars import ESTIMATE_OPTIONS, SCALARS, Groups, names_of

if TYPE_CHECKING:
    from hf_momo.optimizers.base import MomoOptimizer


def with_copied_entries(groups: Groups, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return ``state_dict`` with copies of the tensors in ``groups``, which steps and schedulers write to in place.

    They are found by identity, because hooks may have arranged the state dict in another way.
    """
    live = {id(value) for group in groups for value in group.values() if isinstance(value, Tensor)}
    copied: dict[str, Any] = tree_map(lambda leaf: leaf.clone() if id(leaf) in live else leaf, state_dict)
    return copied


def check(optimizer: MomoOptimizer, loaded: dict[str, Any]) -> None:
    """Check what ``load_state_dict`` is about to set, and complete it.

    Step counters that are plain numbers become tensors. State saved before ``slope``, ``gap`` and ``caution`` existed
    takes the optimizer's own options, and estimates that a state lacks begin anew.

    Args:
        optimizer: Still with its present state.
        loaded: ``state`` by parameter, and ``param_groups``.

    Raises:
        RuntimeError: If the model of the loss is there but every running average is missing, as in a sharded
            optimizer checkpoint of FSDP1.
        ValueError: If the state is that of another optimizer, or of parameters of other shapes.
    """
    groups, state = loaded["param_groups"], loaded["state"]
    required = {*optimizer.defaults, *SCALARS, "initial_lower_bound"}
    for group, own in zip(groups, optimizer.param_groups, strict=True):
        if "loss_avg" in group:
            added = {name: own[name] for name in ESTIMATE_OPTIONS if name in own}
            group |= {name: value for name, value in added.items() if name not in group}
            fresh = {*names_of(group)} - {*SCALARS} | {"bound_excess_avg"}
            group |= {name: torch.zeros_like(own["loss_avg"]) for name in fresh - group.keys()}
        # Not the entries of others: schedulers write initial_lr, users a name or a factor for the rate of a layer.
        if missing := [name for name in own if name in required and name not in group]:
            _refuse(optimizer, group, f"no {', '.join(missing)} in its parameter groups")
    steps = max((float(group["num_steps"]) for group in groups), default=0.0)
    if steps > 0 and not state and any(len(group["params"]) for group in groups):
        raise RuntimeError(
            f"state_dict: holds {steps:g} steps but no running averages (exp_avg), so training would go on from"
            " nothing. FSDP version 1 saves no optimizer state in sharded checkpoints: use FSDP2"
            " (fsdp_version: 2), or start anew from the saved weights"
        )
    for group in groups:
        for param in group["params"]:
            if entry := state.get(param):
                _check_entry(optimizer, group, param, entry)


@contextlib.contextmanager
def keeping_precision(optimizer: MomoOptimizer) -> Iterator[None]:
    """Keep the precision of running averages during ``load_state_dict``.

    torch casts all of them to the dtype of their parameter. Those of another dtype are set anew afterwards.
    """
    loaded: list[dict[str, Any]] = []
    # The last hook sees the state dict as the others have arranged it.
    hook = optimizer.register_load_state_dict_pre_hook(lambda _, final: loaded.append(final))
    try:
        yield
    finally:
        hook.remove()
    for own, group in zip(optimizer.param_groups, loaded[0]["param_groups"], strict=True):
        for param, index in zip(own["params"], group["params"], strict=True):
            for name, average in optimizer.state.get(param, {}).items():
                dtype = _new_state(optimizer, own, param).get(name, average).dtype
                if average.dtype != dtype:
                    optimizer.state[param][name] = loaded[0]["state"][index][name].to(param.device, dtype)


def _new_state(optimizer: MomoOptimizer, group: Mapping[str, Any], param: Tensor) -> dict[str, Tensor]:
    like = torch.empty(param.shape, dtype=param.dtype, device="meta")
    return optimizer.direction_of(group).new_state(group, like)


def _check_entry(optimizer: MomoOptimizer, group: Mapping[str, Any], param: Tensor, entry: dict[str, Any]) -> None:
    expected = _new_state(optimizer, group, param)
    if missing := [name for name in ("step", *expected) if name not in entry]:
        _refuse(optimizer, group, f"no {', '.join(missing)} in the state of a parameter")
    if not isinstance(entry["step"], Tensor):
        entry["step"] = torch.tensor(float(entry["step"]), dtype=torch.float32)
    for name, like in expected.items():
        check_shape(name, entry[name], param, like)


def check_shape(name: str, value: Tensor, param: Tensor, like: Tensor) -> None:
    """Check that a loaded average has the shape of ``like``, which follows from that of its parameter.

    Raises:
        ValueError: If it does not.
    """
    if value.shape != like.shape:
        wanted = "" if like.shape == param.shape else f" (so {name} must have {tuple(like.shape)})"
        raise ValueError(
            f"state_dict: {name} has shape {tuple(value.shape)}, but the parameter has"
            f" shape {tuple(param.shape)}{wanted}; the checkpoint is of a model of other sizes, or with parameters in"
            " another order. Resize the model (resize_token_embeddings and the like) before the optimizer is made and"
            " the checkpoint loaded, or go on from the saved weights alone with a new optimizer"
        )


def _refuse(optimizer: MomoOptimizer, group: Mapping[str, Any], what: str) -> None:
    name = type(optimizer).__name__
    raise ValueError(
        f"state_dict: holds the state of {_origin(optimizer, group)}, which {name} cannot load ({what}). Either go on"
        f" from the saved weights alone with a new {name} (Trainer: load the model from the checkpoint and leave out"
        " resume_from_checkpoint), or, from AdamW to MomoAdam, call hf_momo.load_adamw_state_dict(optimizer,"
        " state_dict, loss=...)"
    )


def _origin(optimizer: MomoOptimizer, group: Mapping[str, Any]) -> str:
    if "loss_avg" in group:
        family: list[Any] = type(optimizer).__mro__[1].__subclasses__()
        fitting = [cls for cls in family if set(cls.direction.options) <= group.keys() and cls is not type(optimizer)]
        return max(fitting, key=lambda cls: len(cls.direction.options)).__name__ if fitting else "a MoMo optimizer"
    if "betas" in group:
        return "torch.optim.Adam" if group.get("decoupled_weight_decay") is False else "AdamW (or one like it)"
    return f"an optimizer with the options {', '.join(name for name in group if name != 'params')}"
