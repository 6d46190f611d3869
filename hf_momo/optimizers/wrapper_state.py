"""The state dict of ``MomoWrapper``: that of its base, with the wrapper's own parts beside the base's.

Each part stands with the parameter or the group that it belongs to, because that is what torch's distributed
checkpoint keeps of a state dict. The base gets back exactly what its own ``state_dict()`` gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hf_momo.optimizers.checkpoints import check_shape
from hf_momo.optimizers.scalars import SCALARS

if TYPE_CHECKING:
    from hf_momo.optimizers.momo_wrapper import MomoWrapper

SETTINGS = ("beta", "bias_correction", "weight_decay_form", "initial_lower_bound")
"""Options of the wrapper, which a checkpoint restores."""


def nested(wrapper: MomoWrapper, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict of both, from the wrapper's own averages in ``own``."""
    rest = dict(wrapper.base.state_dict())
    base_state, base_groups = dict(rest.pop("state", {})), rest.pop("param_groups", own["param_groups"])
    state = {}
    for index in range(sum(len(group["params"]) for group in wrapper.param_groups)):
        parts = dict(own["state"].get(index, {}))
        if index in base_state:
            parts["base"] = base_state.pop(index)
        if parts:
            state[index] = parts
    if base_state:
        rest["state"] = base_state
    models = [{k: v.clone() if isinstance(v, Tensor) else v for k, v in own.items()} for own in wrapper.own_entries]
    groups = [{**group, "momo": model} for group, model in zip(base_groups, models, strict=True)]
    return {"state": state, "param_groups": groups, **({"base": rest} if rest else {})}


def split(wrapper: MomoWrapper, loaded: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the wrapper's part of a state dict, and the base's.

    Raises:
        ValueError: If it is not that of a ``MomoWrapper``, or its parameters have other shapes.
    """
    groups, state = loaded["param_groups"], loaded["state"]
    required = {*SCALARS, *SETTINGS}
    if not all(required <= group.get("momo", {}).keys() for group in groups):
        raise ValueError(
            f"state_dict: is not that of a MomoWrapper. To go on from a checkpoint of {type(wrapper.base).__name__}"
            " itself, load it into the base before the first step (wrapper.base.load_state_dict(state_dict)): the"
            " model of the loss then starts anew"
        )
    base = dict(loaded.get("base", {}))
    base["param_groups"] = [{k: v for k, v in group.items() if k != "momo"} for group in groups]
    base["state"] = {**base.get("state", {}), **{k: v["base"] for k, v in state.items() if "base" in v}}
    own: dict[str, Any] = {
        "state": {k: {name: v[name] for name in ("step", "exp_avg")} for k, v in state.items() if "exp_avg" in v},
        "param_groups": [{"params": group["params"], "momo": group["momo"]} for group in groups],
    }
    params = [param for group in wrapper.param_groups for param in group["params"]]
    keys = [key for group in groups for key in group["params"]]
    for key, param in zip(keys, params, strict=False):
        check_shape("exp_avg", own["state"].get(key, {}).get("exp_avg", param), param, param)
    return own, base
