"""Between AdamW and MomoAdam, which keep the same running averages: a checkpoint of one as the start of the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from hf_momo import sharding
from hf_momo.optimizers.checks import resolve_loss
from hf_momo.optimizers.group_tensors import GroupTensors, by_replicas
from hf_momo.optimizers.momo_adam import MomoAdam
from hf_momo.optimizers.scalars import names_of

_AVERAGES = ("exp_avg", "exp_avg_sq")


@torch.no_grad()
def load_adamw_state_dict(
    optimizer: MomoAdam,
    state_dict: Mapping[str, Any],
    *,
    loss: Tensor | float,
    params: Iterable[Tensor] | None = None,
) -> None:
    """Start ``optimizer`` from the state of a ``torch.optim.AdamW`` (or ``Adam``).

    It gets AdamW's averages and step counts. What AdamW does not know is the loss: the model of the loss is set as if
    every averaged sample had been seen at the present weights, so that its value there is ``loss``. Everything else
    (``lr``, weight decay, ``eps``, the lower bound) stays as the optimizer was made, and the counters of capped and
    skipped steps are zero. The model must hold the weights of that checkpoint. With several processes all must call
    this; under FSDP2 after the model was prepared.

    With the Trainer, from the checkpoint of an AdamW run::

        trainer = MomoTrainer(model=Model.from_pretrained("run/checkpoint-500"), args=args, ...)
        state_dict = torch.load("run/checkpoint-500/optimizer.pt", weights_only=True)
        load_adamw_state_dict(trainer.create_optimizer(), state_dict, loss=2.31)
        trainer.train()

    Args:
        optimizer: The optimizer to start. Its state so far is replaced.
        state_dict: ``state_dict()`` of the other optimizer; tensors are copied. From any other format, load it into a
            ``torch.optim.AdamW`` on the same parameters first.
        loss: Training loss at the present weights, a finite real number not below the optimizer's lower bound: such as
            the last one logged, or the mean over a few batches.
        params: Parameters in the order in which the other optimizer had them, needed where it split them into other
            groups than ``optimizer`` does: ``model.parameters()`` for ``AdamW(model.parameters())``.

    Raises:
        TypeError: If ``optimizer`` is not a ``MomoAdam``.
        ValueError: If betas differ, the state is not that of plain Adam or AdamW (``amsgrad``, ``maximize``, Adam's
            coupled weight decay), groups, numbers or shapes of parameters do not fit, or anything is not finite. All
            this is checked before anything is changed.
    """
    _check_optimizer(optimizer)
    _check_groups(optimizer, state_dict)
    state = {
        param: _placed(param, entry)
        for param, key in _matched(optimizer, state_dict, params)
        if (entry := state_dict["state"].get(key))
    }
    if not state:
        raise ValueError("state_dict: holds no running averages, so there is nothing to start from")
    num_steps = max(float(entry["step"]) for entry in state.values())
    weight = -math.expm1(num_steps * math.log(beta)) if (beta := optimizer.param_groups[0]["betas"][0]) else 1.0
    present, product = _reduced(optimizer, state, loss)
    values = dict.fromkeys(names_of(optimizer.param_groups[0]), 0.0) | {
        "num_steps": num_steps,
        "weight_avg": weight,
        "loss_avg": weight * present,
        "grad_dot_param_avg": product,
        "lower_bound": optimizer.param_groups[0]["initial_lower_bound"],
    }

    new = optimizer.state_dict()
    order = (param for group in optimizer.param_groups for param in group["params"])
    new["state"] = {index: state[param] for index, param in enumerate(order) if param in state}
    for group in new["param_groups"]:
        group |= {name: torch.full_like(group[name], value) for name, value in values.items()}
    optimizer.load_state_dict(new)


def adamw_state_dict(optimizer: MomoAdam) -> dict[str, Any]:
    """Return the state of ``optimizer`` as ``torch.optim.AdamW`` loads it.

    Use it as ``adamw.load_state_dict(adamw_state_dict(ours))``.

    Averages, step counts, ``lr``, ``betas``, ``eps`` and ``weight_decay`` are those of ``optimizer``; AdamW shrinks
    weights by ``1 - lr * weight_decay``, which is ``weight_decay_form="adamw"`` here. It is told to use its fused
    kernel, which is ours too. The model of the loss is left out.

    Args:
        optimizer: The optimizer to read. As in ``state_dict()``, its tensors are not copied.

    Returns:
        ``{"state": ..., "param_groups": ...}`` with the parameter groups of ``optimizer``.

    Raises:
        TypeError: If ``optimizer`` is not a ``MomoAdam``.
    """
    _check_optimizer(optimizer)
    own = optimizer.state_dict()
    defaults = torch.optim.AdamW([torch.nn.Parameter(torch.empty(0))]).defaults | {"fused": True}
    foreign = {*names_of(optimizer.param_groups[0]), *optimizer.defaults, "initial_lower_bound"} - defaults.keys()
    groups = [
        defaults | {name: value for name, value in group.items() if name not in foreign}
        for group in own["param_groups"]
    ]
    return {"state": own["state"], "param_groups": groups}


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, MomoAdam):
        raise TypeError(
            f"optimizer: got {type(optimizer).__name__}, must be MomoAdam, whose averages are AdamW's; of an optimizer"
            " wrapped by accelerate give the inner one (optimizer.optimizer)"
        )


def _check_groups(optimizer: MomoAdam, state_dict: Mapping[str, Any]) -> None:
    betas = tuple(optimizer.param_groups[0]["betas"])
    for group in state_dict["param_groups"]:
        if "loss_avg" in group:
            raise ValueError("state_dict: is one of MoMo itself; load it with optimizer.load_state_dict(state_dict)")
        for name in ("amsgrad", "maximize"):
            if group.get(name):
                raise ValueError(f"state_dict: was made with {name}=True, which MomoAdam does not have")
        if group.get("weight_decay") and group.get("decoupled_weight_decay") is False:
            raise ValueError(
                f"state_dict: was made by Adam with weight_decay={group['weight_decay']}, whose averages contain the"
                " decay; only those of AdamW, or of Adam without decay, are averages of gradients"
            )
        theirs = tuple(map(float, group.get("betas", ())))
        if theirs != betas:
            raise ValueError(
                f"state_dict: its averages have betas={theirs}, those of the optimizer are {betas}; make the optimizer"
                f" with betas={theirs}"
            )


def _matched(
    optimizer: MomoAdam, state_dict: Mapping[str, Any], params: Iterable[Tensor] | None
) -> list[tuple[Tensor, Any]]:
    """Our parameters, each with its key in the state of the other optimizer."""
    ours, theirs = optimizer.param_groups, state_dict["param_groups"]
    own = [param for group in ours for param in group["params"]]
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
        return list(zip(given, keys, strict=True))
    if all("param_names" in group for group in (*ours, *theirs)):
        by_name = {
            name: key for group in theirs for name, key in zip(group["param_names"], group["params"], strict=True)
        }
        names = [name for group in ours for name in group["param_names"]]
        if missing := [name for name in names if name not in by_name]:
            raise ValueError(f"state_dict: has no parameter called {missing[0]!r}, which the optimizer has")
        return [(param, by_name[name]) for param, name in zip(own, names, strict=True)]
    sizes = [[len(group["params"]) for group in groups] for groups in (theirs, ours)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"state_dict: has parameter groups of {sizes[0]} parameters, the optimizer of {sizes[1]}, so their order"
            " differs; pass params= with the parameters in the order of the other optimizer (model.parameters() for"
            " AdamW(model.parameters())), or make the optimizer with the same groups"
        )
    return list(zip(own, keys, strict=True))


def _placed(param: Any, entry: Mapping[str, Any]) -> dict[str, Tensor]:
    """A copy of a parameter's state, laid out as the parameter is."""
    if missing := {"step", *_AVERAGES} - entry.keys():
        raise ValueError(
            f"state_dict: the state of a parameter has {', '.join(entry) or 'nothing'}, but no"
            f" {', '.join(sorted(missing))}; it must be of torch.optim.AdamW or Adam"
        )
    placed = {"step": torch.as_tensor(entry["step"], dtype=torch.float32).clone()}
    for name in _AVERAGES:
        value = entry[name].detach()
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
        placed[name] = value
    return placed


def _reduced(optimizer: MomoAdam, state: Mapping[Tensor, dict[str, Tensor]], loss: Any) -> tuple[float, float]:
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
