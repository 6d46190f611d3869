"""State dicts of torch's optimizers, matched with the parameters of an optimizer of this package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hf_momo import sharding
from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.direction import Direction

StateDicts: TypeAlias = "Mapping[str, Any] | Sequence[Mapping[str, Any]]"
_Match: TypeAlias = "tuple[Tensor, dict[str, Any], Any]"


def joined_state(state_dict: StateDicts) -> dict[str, Any]:
    """Return one state dict for those of several optimizers, whose numbers of parameters all begin at 0."""
    parts = [state_dict] if isinstance(state_dict, Mapping) else state_dict
    return {
        "state": {(i, key): entry for i, part in enumerate(parts) for key, entry in part["state"].items()},
        "param_groups": [
            {**group, "params": [(i, key) for key in group["params"]]}
            for i, part in enumerate(parts)
            for group in part["param_groups"]
        ],
    }


def check_groups(optimizer: MomoOptimizer, state_dict: Mapping[str, Any], matched: Sequence[_Match]) -> None:
    """Check that the averages in ``state_dict`` are those that ``optimizer`` keeps.

    Raises:
        ValueError: If an option says that they are not.
    """
    ours = {key: group for _, group, key in matched}
    for theirs in state_dict["param_groups"]:
        if "loss_avg" in theirs:
            raise ValueError("state_dict: is one of MoMo itself; load it with optimizer.load_state_dict(state_dict)")
        name = type(optimizer).__name__
        for option in ("amsgrad", "maximize"):
            if theirs.get(option):
                raise ValueError(f"state_dict: was made with {option}=True, which {name} does not have")
        coupled = theirs.get("decoupled_weight_decay") is False or "dampening" in theirs
        if theirs.get("weight_decay") and coupled:
            base = "SGD" if "dampening" in theirs else "Adam"
            raise ValueError(
                f"state_dict: was made by {base} with weight_decay={theirs['weight_decay']}, whose averages contain"
                " the decay; only those of a decoupled decay (AdamW), or of none, are averages of gradients"
            )
        for group in {id(ours[key]): ours[key] for key in theirs["params"]}.values():
            _check_betas(optimizer, theirs, group)


def _check_betas(optimizer: MomoOptimizer, theirs: Mapping[str, Any], group: Mapping[str, Any]) -> None:
    direction = optimizer.direction_of(group)
    option = "betas" if direction.base_cls == "AdamW" else "momentum"
    if option not in theirs:
        raise ValueError(
            f"state_dict: a parameter group has no {option}, so it is not of torch.optim.{direction.base_cls}, which"
            f" keeps the averages that {type(optimizer).__name__} has for these parameters"
        )
    given = theirs[option]
    found = tuple(map(float, given)) if option == "betas" else given
    wanted = tuple(map(float, group["betas"])) if option == "betas" else direction.beta(group)
    if found != wanted:
        raise ValueError(
            f"state_dict: its averages have {option}={found}, those of the optimizer are {wanted}; make the optimizer"
            f" with {option}={found}"
        )


def matched_params(
    optimizer: MomoOptimizer, state_dict: Mapping[str, Any], params: Iterable[Tensor] | None
) -> list[_Match]:
    """Return our parameters, each with its group and its key in the state of the other optimizer."""
    ours, theirs = optimizer.param_groups, state_dict["param_groups"]
    group_of = {param: group for group in ours for param in group["params"]}
    own = list(group_of)
    keys = [key for group in theirs for key in group["params"]]
    if len(keys) != len(own):
        raise ValueError(
            f"state_dict: is of {len(keys)} parameters, the optimizer has {len(own)}; make the optimizer on the same"
            " parameters (those with requires_grad in both runs)"
        )
    if params is not None:
        given = list(params)
        if len(given) != len(own) or {id(param) for param in given} != {id(param) for param in own}:
            raise ValueError(f"params: got {len(given)} tensors, must be the {len(own)} parameters of the optimizer")
        return [(param, group_of[param], key) for param, key in zip(given, keys, strict=True)]
    if all("param_names" in group for group in (*ours, *theirs)):
        by_name = {
            name: key for group in theirs for name, key in zip(group["param_names"], group["params"], strict=True)
        }
        names = [name for group in ours for name in group["param_names"]]
        if missing := [name for name in names if name not in by_name]:
            raise ValueError(f"state_dict: has no parameter called {missing[0]!r}, which the optimizer has")
        return [(param, group_of[param], by_name[name]) for param, name in zip(own, names, strict=True)]
    # Stable: the groups of each kind of optimizer stay in their order, in whatever order the kinds come.
    theirs = sorted(theirs, key=lambda group: "betas" in group)
    ours = sorted(ours, key=lambda group: optimizer.direction_of(group).base_cls == "AdamW")
    sizes = [[len(group["params"]) for group in groups] for groups in (theirs, ours)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"state_dict: has parameter groups of {sizes[0]} parameters, the optimizer of {sizes[1]}, so their order"
            " differs; pass params= with the parameters in the order of the other optimizer (model.parameters() for"
            " AdamW(model.parameters())), or make the optimizer with the same groups"
        )
    own = [param for group in ours for param in group["params"]]
    keys = [key for group in theirs for key in group["params"]]
    return [(param, group_of[param], key) for param, key in zip(own, keys, strict=True)]


def placed(
    param: Any,
    entry: Mapping[str, Any],
    direction: Direction,
    group: Mapping[str, Any],
    theirs: Mapping[str, Any],
    num_steps: int | None,
) -> dict[str, Tensor]:
    """Return a copy of a parameter's state in our names, laid out as the parameter is."""
    names = {name: direction.base_state.get(name, name) for name in direction.state_names(group)}
    counts = not direction.base_state
    if missing := {*names.values(), *(["step"] if counts else [])} - entry.keys():
        like = "torch.optim.AdamW or Adam" if counts else f"torch.optim.{direction.base_cls}"
        raise ValueError(
            f"state_dict: the state of a parameter has {', '.join(entry) or 'nothing'}, but no"
            f" {', '.join(sorted(missing))}; it must be of {like}"
        )
    steps = entry["step"] if counts else num_steps
    if steps is None:
        if not direction.starts_at_first_sample(group):
            raise ValueError(f"num_steps: needed, because torch.optim.{direction.base_cls} does not count its steps")
        steps = 1
    state = {"step": torch.as_tensor(steps, dtype=torch.float32).clone()}
    for name, their_name in names.items():
        state[name] = _laid_out(param, their_name, entry[their_name].detach())
    if "dampening" in theirs:
        # SGD adds (1 - dampening) times the gradient where an average adds (1 - beta) times.
        state["exp_avg"] *= (1.0 - direction.beta(group)) / (1.0 - theirs["dampening"])
    return state


def _laid_out(param: Any, name: str, value: Any) -> Tensor:
    """Return a copy of an average on the device, in the dtype and with the placements of its parameter."""
    if value.shape != param.shape:
        raise ValueError(
            f"state_dict: {name} has shape {tuple(value.shape)} where the optimizer's parameter has"
            f" {tuple(param.shape)}; the order of parameters differs, or the model does"
        )
    value = value.to(param.device, param.dtype, copy=True)
    if hasattr(param, "placements") and not hasattr(value, "placements"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value, param.device_mesh, param.placements)
    elif hasattr(value, "placements") and getattr(param, "placements", None) != value.placements:
        raise ValueError(
            f"state_dict: {name} is a DTensor that is not sharded as its parameter; give full tensors"
            " (value.full_tensor())"
        )
    if not bool(torch.isfinite(sharding.local_tensor(value)).all()):
        raise ValueError(f"state_dict: {name} of a parameter of shape {tuple(param.shape)} is not finite")
    return value  # type: ignore[no-any-return]
