"""From the sums of one rank to those of all: local tensors, replica counts and the one all-reduce of a step.

Every rank contributes its local sums divided by the number of ranks that hold the same piece, and its loss divided by
the number of ranks; one SUM all-reduce then makes both global, bit-equal on every rank. Plain tensors are held by all
ranks (DistributedDataParallel), unless they are said to be pieces of a partition (FSDP1's flat parameters, ZeRO); a
DTensor's placements say how often each of its pieces is held (FSDP2, HSDP, tensor parallelism, any mesh).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

ProcessGroup: TypeAlias = "dist.ProcessGroup | Literal['self'] | None"
"""Ranks that train one model together: ``None`` for all of the job, a group of them, or this rank by itself."""
_Value = TypeVar("_Value")


@dataclass
class Ranks:
    """The ranks that train one model together, as one optimizer sees them. A fact of the job and not of a checkpoint.

    Attributes:
        process_group: ``None`` for all ranks, a group, or ``"self"``.
        sharded: Whether plain parameters are pieces of a partition (FSDP1, ZeRO), held by one rank each.
    """

    process_group: ProcessGroup = None
    sharded: bool = False

    def __getstate__(self) -> dict[str, Any]:
        if not (self.process_group is None or isinstance(self.process_group, str)):
            raise TypeError(
                "process_group: an optimizer with a process group of its own cannot be copied or pickled, because the"
                " group belongs to this process; save optimizer.state_dict() instead"
            )
        return self.__dict__

    def num_replicas(self, params: Sequence[Tensor]) -> list[int]:
        """Return how many ranks hold the same piece of each parameter."""
        return num_replicas(params, self.process_group, sharded=self.sharded)

    def sum(self, values: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of the values and the sum of the shares over the ranks."""
        return sum_over_ranks(values, sums, self.process_group)


def check_process_group(process_group: Any) -> ProcessGroup:
    """Check the ``process_group`` of an optimizer.

    Raises:
        TypeError: If it is neither ``None``, ``"self"`` nor a ``torch.distributed.ProcessGroup``.
        ValueError: If this rank is not in the group.
    """
    if process_group is None or process_group == "self":
        return "self" if process_group else None
    if dist.is_available() and dist.is_initialized() and process_group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError(
            f"process_group: got torch.distributed's mark for a group that rank {dist.get_rank()} is not in; make the"
            " optimizer on the ranks of the group only"
        )
    if not dist.is_available() or not isinstance(process_group, dist.ProcessGroup):
        raise TypeError(
            f"process_group: got {process_group!r}, must be None (all ranks), a torch.distributed.ProcessGroup, or"
            " 'self' for an optimizer whose model is trained on this rank alone"
        )
    return process_group


def num_ranks(process_group: ProcessGroup) -> int:
    """Return the number of ranks that train together, 1 where ``torch.distributed`` is not in use."""
    if process_group == "self" or not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size(process_group)


def num_replicas(params: Sequence[Tensor], process_group: ProcessGroup, *, sharded: bool) -> list[int]:
    """Return, for each parameter, how many ranks hold the same piece of it as this one.

    Args:
        params: Plain tensors or DTensors on a mesh of any dimension.
        process_group: The ranks that train together; a mesh smaller than that is taken to be repeated over them.
        sharded: Whether plain tensors are pieces of a partition, held by one rank each.

    Raises:
        ValueError: If the ranks are not a multiple of the DTensor's mesh, or a placement is neither sharded nor
            replicated.
    """
    ranks = num_ranks(process_group)
    plain = 1 if sharded else ranks
    return [_replicas_of_dtensor(param, ranks) if is_dtensor(param) else plain for param in params]


def _replicas_of_dtensor(param: Tensor, ranks: int) -> int:
    mesh: Any = param.device_mesh  # type: ignore[attr-defined]
    placements: Any = param.placements  # type: ignore[attr-defined]
    if ranks % mesh.size():
        raise ValueError(
            f"process_group: has {ranks} rank(s), but a parameter of shape {tuple(param.shape)} is a DTensor on a mesh"
            f" of {mesh.size()}; leave process_group=None, or give the group of all ranks that train the model"
        )
    replicas = ranks // mesh.size()
    for dim, placement in enumerate(placements):
        if placement.is_replicate():
            replicas *= mesh.size(dim)
        elif placement.is_partial():
            raise ValueError(
                f"params: a parameter of shape {tuple(param.shape)} is a DTensor with placement {placement}; its"
                " pieces are terms of a sum and not values. Redistribute it to Shard or Replicate"
            )
    return int(replicas)


def local_tensor(tensor: Tensor) -> Tensor:
    """Return the piece of ``tensor`` that this rank holds: itself, or the local tensor of a DTensor, perhaps empty."""
    return tensor.to_local() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def local_grad(grad: Tensor, param: Tensor) -> Tensor:
    """Return the piece of ``grad`` that belongs to this rank's piece of ``param``."""
    if is_dtensor(grad) and grad.placements != param.placements:  # type: ignore[attr-defined]
        # Tensor parallelism may leave the gradient of a replicated parameter as terms of a sum.
        grad = grad.redistribute(placements=param.placements)  # type: ignore[attr-defined]
    return local_tensor(grad)


def sum_over_ranks(values: Tensor, sums: Tensor, process_group: ProcessGroup = None) -> tuple[Tensor, Tensor]:
    """Return the mean of the values and the sum of the shares, by one all-reduce where there are several ranks.

    Args:
        values: Values of this rank, any shape: its loss, and what comes with it.
        sums: This rank's shares of the inner products, any shape: each divided by the number of replicas.
        process_group: The ranks that train together.

    Returns:
        The mean of ``values`` over ranks and the reduced ``sums``, bit-equal on every rank.
    """
    ranks = num_ranks(process_group)
    if ranks == 1:
        return values, sums
    message = torch.cat([values.reshape(-1) / ranks, sums.reshape(-1)])
    dist.all_reduce(message, group=None if isinstance(process_group, str) else process_group)
    count = values.numel()
    return message[:count].view_as(values), message[count:].view_as(sums)


def first_rank_value(value: _Value) -> _Value:
    """Return the value of the first rank, which all ranks that train together must ask for."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def is_dtensor(tensor: Tensor) -> bool:
    """Return whether ``tensor`` is a DTensor."""
    # By its method: importing torch.distributed.tensor would load it for everybody.
    return hasattr(tensor, "to_local")
