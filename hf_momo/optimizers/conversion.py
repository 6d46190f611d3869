"""Between an optimizer and the one of torch that keeps the same averages: a checkpoint of one starts the other.

Which one that is, and how it names its averages, is told by the direction: ``base_cls``, ``base_state`` and
``base_options``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from hf_momo import sharding
from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.checks import resolve_loss
from hf_momo.optimizers.foreign_state import StateDicts, check_groups, joined_state, matched_params, placed
from hf_momo.optimizers.group_tensors import GroupTensors, by_replicas
from hf_momo.optimizers.momo_adam import MomoAdam
from hf_momo.optimizers.scalars import names_of


@torch.no_grad()
def load_base_state_dict(
    optimizer: MomoOptimizer,
    state_dict: StateDicts,
    *,
    loss: Tensor | float,
    params: Iterable[Tensor] | None = None,
    num_steps: int | None = None,
) -> None:
    """Start ``optimizer`` from the state of the torch optimizer that keeps the same averages.

    That is ``torch.optim.AdamW`` (or ``Adam``) for ``MomoAdam``, ``torch.optim.SGD`` for ``Momo``, and
    ``torch.optim.Muon`` together with ``torch.optim.AdamW`` for ``MomoMuon``. The optimizer gets the averages and step
    counts. What the other one does not know is the loss: the model of the loss is set as if every averaged sample had
    been seen at the present weights, so that its value there is ``loss``. Everything else (``lr``, weight decay,
    ``eps``, the lower bound) stays as the optimizer was made, and the counters of capped and skipped steps are zero.
    The model must hold the weights of that checkpoint. With several processes all must call this; under FSDP2 after
    the model was prepared.

    With the Trainer, from the checkpoint of an AdamW run::

        trainer = MomoTrainer(model=Model.from_pretrained("run/checkpoint-500"), args=args, ...)
        state_dict = torch.load("run/checkpoint-500/optimizer.pt", weights_only=True)
        load_base_state_dict(trainer.create_optimizer(), state_dict, loss=2.31)
        trainer.train()

    Args:
        optimizer: The optimizer to start. Its state so far is replaced.
        state_dict: ``state_dict()`` of the other optimizer, or a list of them where several shared the parameters
            (Muon and AdamW, in any order); tensors are copied. From any other format, load it into that optimizer on
            the same parameters first.
        loss: Training loss at the present weights, a finite real number not below the optimizer's lower bound: such as
            the last one logged, or the mean over a few batches.
        params: Parameters in the order in which the other optimizer had them, needed where it split them into other
            groups than ``optimizer`` does: ``model.parameters()`` for ``AdamW(model.parameters())``. With a list of
            state dicts, the parameters of the first come first.
        num_steps: Number of steps that the averages have seen, where the other optimizer does not count them (SGD and
            Muon). Averages that start at the first sample do not need it, and beside AdamW its count is taken.

    Raises:
        TypeError: If no torch optimizer keeps the averages of ``optimizer``.
        ValueError: If betas or momentum differ, the averages are not those of plain gradients (``amsgrad``,
            ``maximize``, coupled weight decay), groups, numbers or shapes of parameters do not fit, or anything is not
            finite. All this is checked before anything is changed.
    """
    _check_optimizer(optimizer)
    joined = joined_state(state_dict)
    matched = matched_params(optimizer, joined, params)
    check_groups(optimizer, joined, matched)
    if num_steps is None:
        num_steps = max((int(entry["step"]) for entry in joined["state"].values() if "step" in entry), default=None)
    theirs = {key: group for group in joined["param_groups"] for key in group["params"]}
    state = {
        param: placed(param, entry, optimizer.direction_of(group), group, theirs[key], num_steps)
        for param, group, key in matched
        if (entry := joined["state"].get(key)) and any(value is not None for value in entry.values())
    }
    if not state:
        raise ValueError("state_dict: holds no running averages, so there is nothing to start from")
    first = optimizer.param_groups[0]
    steps = max(float(entry["step"]) for entry in state.values())
    beta, weight = optimizer.direction_of(first).beta(first), 1.0
    if beta and not optimizer.direction_of(first).starts_at_first_sample(first):
        weight = -math.expm1(steps * math.log(beta))
    present, product = _reduced(optimizer, state, loss)
    values = dict.fromkeys(names_of(optimizer.param_groups[0]), 0.0) | {
        "num_steps": steps,
        "weight_avg": weight,
        "loss_avg": weight * present,
        "grad_dot_param_avg": product,
        "lower_bound": first["initial_lower_bound"],
    }

    new = optimizer.state_dict()
    order = (param for group in optimizer.param_groups for param in group["params"])
    new["state"] = {index: state[param] for index, param in enumerate(order) if param in state}
    for group in new["param_groups"]:
        group |= {name: torch.full_like(group[name], value) for name, value in values.items()}
    optimizer.load_state_dict(new)


def base_state_dict(optimizer: MomoOptimizer) -> Any:
    """Return the state of ``optimizer`` as the torch optimizer that keeps the same averages loads it.

    Use it as ``adamw.load_state_dict(base_state_dict(ours))``. Averages, step counts, and the options that both have
    are those of ``optimizer``. AdamW shrinks weights by ``1 - lr * weight_decay``, which is
    ``weight_decay_form="adamw"`` here, and torch's Muon orthogonalizes in bfloat16. The model of the loss is left out.
    Where Muon and AdamW share the parameters, each gets its own state::

        muon, adamw = torch.optim.Muon(matrices), torch.optim.AdamW(others)
        for optimizer, state_dict in zip((muon, adamw), base_state_dict(momo_muon)):
            optimizer.load_state_dict(state_dict)

    Args:
        optimizer: The optimizer to read. As in ``state_dict()``, its tensors are not copied.

    Returns:
        ``{"state": ..., "param_groups": ...}`` with the parameter groups of ``optimizer``, or a list of these where
        the groups belong to several torch optimizers, in the order of their first groups: Muon before AdamW, unless
        ``optimizer`` was given its groups the other way round.

    Raises:
        TypeError: If no torch optimizer keeps the averages of ``optimizer``, or this version of torch lacks it.
    """
    _check_optimizer(optimizer)
    own = optimizer.state_dict()
    parts: dict[str, dict[str, Any]] = {}
    for group in own["param_groups"]:
        direction = optimizer.direction_of(group)
        part = parts.setdefault(str(direction.base_cls), {"state": {}, "param_groups": []})
        # Each of torch's optimizers numbers its parameters from 0.
        first = sum(len(before["params"]) for before in part["param_groups"])
        keys = list(range(first, first + len(group["params"])))
        part["param_groups"].append(_base_group(optimizer, group) | {"params": keys})
        for key, own_key in zip(keys, group["params"], strict=True):
            if entry := own["state"].get(own_key):
                names = (*(["step"] if not direction.base_state else []), *direction.state_names(group))
                part["state"][key] = {direction.base_state.get(name, name): entry[name] for name in names}
    return next(iter(parts.values())) if len(parts) == 1 else list(parts.values())


def _base_group(optimizer: MomoOptimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parameter group with the options of the torch optimizer, without its parameters."""
    direction = optimizer.direction_of(group)
    base_cls: Any = getattr(torch.optim, str(direction.base_cls), None)
    if base_cls is None:
        raise TypeError(f"optimizer: torch {torch.__version__} has no {direction.base_cls}; a later version does")
    defaults = base_cls([torch.nn.Parameter(torch.empty(0, 0))]).defaults
    foreign = {*names_of(group), *optimizer.defaults, *direction.options, "initial_lower_bound"} - defaults.keys()
    kept = {name: value for name, value in group.items() if name not in foreign}
    return {**defaults, **kept, **direction.base_options(group)}


def load_adamw_state_dict(
    optimizer: MomoAdam,
    state_dict: Mapping[str, Any],
    *,
    loss: Tensor | float,
    params: Iterable[Tensor] | None = None,
) -> None:
    """Start a ``MomoAdam`` from the state of a ``torch.optim.AdamW`` (or ``Adam``); see ``load_base_state_dict``."""
    _check_is_adam(optimizer)
    load_base_state_dict(optimizer, state_dict, loss=loss, params=params)


def adamw_state_dict(optimizer: MomoAdam) -> dict[str, Any]:
    """Return the state of a ``MomoAdam`` as ``torch.optim.AdamW`` loads it; see ``base_state_dict``."""
    _check_is_adam(optimizer)
    state_dict: dict[str, Any] = base_state_dict(optimizer)
    return state_dict


def _check_is_adam(optimizer: Any) -> None:
    if not isinstance(optimizer, MomoAdam):
        raise TypeError(
            f"optimizer: got {type(optimizer).__name__}, must be MomoAdam, whose averages are AdamW's; of an optimizer"
            " wrapped by accelerate give the inner one (optimizer.optimizer)"
        )


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, MomoOptimizer):
        raise TypeError(
            f"optimizer: got {type(optimizer).__name__}, must be an optimizer of hf_momo; of one wrapped by accelerate"
            " give the inner one (optimizer.optimizer)"
        )
    if not all(optimizer.direction_of(group).base_cls for group in optimizer.param_groups):
        raise TypeError(
            f"optimizer: got {type(optimizer).__name__}, and no optimizer of torch keeps its averages. A MomoWrapper"
            " goes on from the state of its base by wrapper.base.load_state_dict(state_dict)"
        )


def _reduced(optimizer: MomoOptimizer, state: Mapping[Tensor, dict[str, Tensor]], loss: Any) -> tuple[float, float]:
    """Return the loss, mean over ranks, and ``<exp_avg, param>`` over all parameters and ranks."""
    like: Tensor = optimizer.param_groups[0]["loss_avg"]
    tensors = GroupTensors(
        [sharding.local_tensor(param.detach()) for param in state],
        [sharding.local_tensor(entry["exp_avg"]) for entry in state.values()],
        list(state.values()),
        list(state),
    )
    share = like.new_zeros(())
    for replicas, part in by_replicas(tensors, optimizer._ranks.num_replicas(list(state))):
        part = part.not_empty
        if part.params:
            sums = optimizer._kernel.measure_identity(
                part.params, part.grads, grad_weight=torch.ones_like(like), dtype=like.dtype
            )
            share = share + sums[1] / replicas
    reduced = optimizer._ranks.sum(resolve_loss(loss, like), share)
    present, product = (float(value) for value in reduced)
    bound = optimizer.param_groups[0]["initial_lower_bound"]
    if not (math.isfinite(present) and present >= bound):
        raise ValueError(
            f"loss: got {present}, must be a finite number not below the optimizer's lower_bound, {bound}; give the"
            " training loss at the present weights"
        )
    if not math.isfinite(product):
        raise ValueError("optimizer: its parameters are not finite; load the weights of the checkpoint first")
    return present, product
