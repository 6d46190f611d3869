"""What a step works on: the local tensors of a parameter group, and the state that belongs to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from hf_momo import sharding
from hf_momo.optimizers.checks import check_gradient


@dataclass(frozen=True)
class GroupTensors:
    """Local tensors of one parameter group in one step: those that have state, in the order of the group.

    ``grads`` holds a zero (expanded, no memory) where this batch gave no gradient: the loss did not depend on it.
    ``replicas`` says how many ranks hold the same piece of a parameter.
    """

    params: list[Tensor]
    grads: list[Tensor]
    states: list[dict[str, Tensor]]
    replicas: list[int]

    def state(self, name: str) -> list[Tensor]:
        """The state tensors called ``name``, one a parameter."""
        return [sharding.local_tensor(state[name]) for state in self.states]

    def without_empty(self) -> GroupTensors:
        """The same without tensors of no elements, which have nothing to add to a sum."""
        filled = [param.numel() > 0 for param in self.params]
        return self if all(filled) else self._where(filled)

    def by_replicas(self) -> dict[int, GroupTensors]:
        """The same, split by the number of replicas; at least one part, which may be empty."""
        counts = dict.fromkeys(self.replicas) or {1: None}
        if len(counts) == 1:
            return dict.fromkeys(counts, self)
        return {count: self._where([replicas == count for replicas in self.replicas]) for count in counts}

    def _where(self, chosen: list[bool]) -> GroupTensors:
        return GroupTensors(
            list(compress(self.params, chosen)),
            list(compress(self.grads, chosen)),
            list(compress(self.states, chosen)),
            list(compress(self.replicas, chosen)),
        )


def local_tensors(params: Sequence[Tensor], group: Mapping[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """This rank's pieces of parameters of ``group`` and of their gradients, a zero where there is none.

    Raises:
        RuntimeError: If a gradient is sparse or complex.
    """
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


def make_state(state: dict[str, Tensor], param: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """``state`` of ``param`` with its counter and averages called ``names``, made where it is empty."""
    if "step" not in state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=param.device)
        for name in names:
            state[name] = torch.zeros_like(param, memory_format=torch.preserve_format)
    elif state["step"].device != param.device:
        # load_state_dict leaves `step` where the checkpoint had it, which torch's fused kernels refuse.
        state["step"] = state["step"].to(param.device, torch.float32)
    return state
