"""The local tensors of a parameter group in one step, and the state that belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from hf_momo import sharding
from hf_momo.optimizers.checks import check_gradient
from hf_momo.sharding import Ranks
from hf_momo.step_size import GroupSettings

NewState = Callable[[Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class GroupTensors:
    """Local tensors of one parameter group in one step: those that have state, in the order of the group.

    ``grads`` holds a zero (expanded, no memory) where this batch gave no gradient: the loss did not depend on it.
    ``owners`` are the parameters as the model holds them, which under FSDP2 are DTensors.
    """

    params: list[Tensor]
    grads: list[Tensor]
    states: list[dict[str, Tensor]]
    owners: list[Tensor]

    def state(self, name: str) -> list[Tensor]:
        """Return the state tensors called ``name``, one per parameter."""
        return [sharding.local_tensor(state[name]) for state in self.states]

    def columns(self, names: Sequence[str]) -> tuple[list[Tensor], ...]:
        """Return parameters, gradients and the state tensors called ``names``, each a list."""
        return self.params, self.grads, *map(self.state, names)

    @cached_property
    def not_empty(self) -> GroupTensors:
        """The same without tensors of no elements, which add nothing to a sum."""
        filled = [param.numel() > 0 for param in self.params]
        return self if all(filled) else self.where(filled)

    def where(self, chosen: Sequence[bool]) -> GroupTensors:
        """Return the rows that are chosen."""
        params, grads = list(compress(self.params, chosen)), list(compress(self.grads, chosen))
        states, owners = list(compress(self.states, chosen)), list(compress(self.owners, chosen))
        return GroupTensors(params, grads, states, owners)

    def shrink(self, factor: float | Tensor, finite: Tensor) -> None:
        """Multiply the parameters by ``factor`` where the 0-d ``finite`` is true."""
        # Filled on the device: a copy from the host would wait for it.
        wide = torch.ones((), dtype=exact_dtype(finite.device), device=finite.device) * factor
        # The overload by name: torch._foreach_mul_ would read a 0-d tensor as a Python number and wait for the device.
        torch.ops.aten._foreach_mul_.Tensor(self.params, torch.where(finite, wide, 1.0))


@dataclass
class Block:
    """Parameters of one group that are solved with one rate: those that are trained, or those that are frozen.

    Attributes:
        group: The parameter group.
        settings: Rate and weight decay of the block; 0 where it is frozen.
        parts: Tensors by the number of ranks that hold the same piece, and what measuring made of them.
    """

    group: dict[str, Any]
    settings: GroupSettings
    parts: list[tuple[int, GroupTensors]]
    made: list[Any]


def collect(
    group: Mapping[str, Any], state: Any, new_state: NewState, ranks: Ranks
) -> tuple[list[tuple[int, GroupTensors]], list[tuple[int, GroupTensors]]]:
    """Return the trained and the frozen tensors of a group, each by the number of replicas.

    A parameter without a gradient in this batch has a zero gradient; one that never had a gradient has no state and is
    left out. One with state that no longer requires a gradient is frozen: the model of the loss still holds it.

    Args:
        group: The parameter group.
        state: ``optimizer.state``; entries are made where they are missing, alike on every rank.
        new_state: Takes a parameter; returns its running averages at zero.
        ranks: The ranks that train together.

    Raises:
        RuntimeError: If a gradient is sparse or complex.
    """
    params = [param for param in group["params"] if param.grad is not None or state.get(param)]
    local, grads = _local_tensors(params, group)
    tensors = GroupTensors(local, grads, [make_state(state[param], param, new_state) for param in params], params)
    replicas = ranks.num_replicas(params)
    trained = [param.requires_grad for param in params]
    if all(trained):
        return by_replicas(tensors, replicas), []
    frozen = [not each for each in trained]
    return (
        by_replicas(tensors.where(trained), list(compress(replicas, trained))),
        by_replicas(tensors.where(frozen), list(compress(replicas, frozen))),
    )


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of rates and factors of the decay on ``device``."""
    # In float64 a capped step has exactly the user's lr, so it is torch's own to the bit. Accelerators' fused kernels
    # read a float32 lr.
    return torch.float64 if device.type == "cpu" else torch.float32


def by_replicas(tensors: GroupTensors, replicas: Sequence[int]) -> list[tuple[int, GroupTensors]]:
    """Return the tensors by the number of ranks that hold the same piece."""
    counts = dict.fromkeys(replicas)
    if len(counts) == 1:
        return [(replicas[0], tensors)]
    return [(count, tensors.where([each == count for each in replicas])) for count in counts]


def _local_tensors(params: Iterable[Tensor], group: Mapping[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Return this rank's pieces of parameters and of their gradients, a zero where there is none."""
    local, grads = [], []
    for param in params:
        # A subclass's own operations would run on the parameter itself; its detached tensor is a plain one.
        piece = param if type(param) is Parameter else sharding.local_tensor(param.detach())
        if param.grad is None:
            grad = piece.new_zeros(()).expand_as(piece)
        else:
            check_gradient(param.grad, group)
            grad = sharding.local_grad(param.grad, param)
            # Asked first: this runs for every parameter at every step, and a conversion to the same dtype would cost
            # more than any other call here.
            grad = grad if grad.dtype == piece.dtype else grad.to(piece.dtype)
        local.append(piece)
        grads.append(grad)
    return local, grads


def make_state(state: dict[str, Tensor], param: Tensor, new_state: NewState) -> dict[str, Tensor]:
    """Return ``state`` of ``param`` with its counter and running averages, which are made where it is empty."""
    if "step" not in state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=param.device)
        state.update(new_state(param))
    elif state["step"].device != param.device:
        # load_state_dict leaves `step` where the checkpoint had it, which torch's fused kernels refuse.
        state["step"] = state["step"].to(param.device, torch.float32)
    return state
