"""Matrices of which every rank holds a piece: their state, sums over a dimension, and work that the ranks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from hf_momo.sharding import ProcessGroup, is_dtensor, local_tensor, num_ranks


def zeros_without(param: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Return zeros of the shape of ``param`` without dimension ``dim``, a DTensor laid out alike where it is one.

    Args:
        param: A plain tensor or a DTensor.
        dim: The dimension that is left out, counted from the end (negative).
        dtype: Dtype of the zeros.
    """
    local = local_tensor(param.detach())
    zeros = torch.zeros(_without(local.shape, dim), dtype=dtype, device=local.device)
    if not is_dtensor(param):
        return zeros
    from torch.distributed.tensor import DTensor

    shape = _without(param.shape, dim)
    mesh: Any = param.device_mesh  # type: ignore[attr-defined]
    return DTensor.from_local(
        zeros,
        mesh,
        [_placement_without(each, param.ndim + dim) for each in param.placements],  # type: ignore[attr-defined]
        run_check=False,
        shape=shape,
        stride=torch.empty(shape, device="meta").stride(),
    ).to(local.device)  # parameters that FSDP2 keeps on the CPU are on another device than their mesh


def sum_over_shards(partial_sums: Sequence[tuple[Tensor, Tensor, int]]) -> None:
    """Complete sums over a dimension that ranks hold pieces of, by one all-reduce for each group of such ranks.

    Every rank must call this with the sums of the same parameters in the same order, those of empty pieces included.

    Args:
        partial_sums: Sums over this rank's piece, all of one dtype, written in place; the parameter, as the model
            holds it; and the dimension that was summed over, counted from the end (negative).
    """
    by_group: dict[str, tuple[Any, list[Tensor]]] = {}
    for tensor, param, dim in partial_sums:
        for group in _groups_of_pieces(param, dim):
            by_group.setdefault(group.group_name, (group, []))[1].append(tensor)
    for group, tensors in by_group.values():
        message = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(message, group=group)
        for tensor, total in zip(tensors, message.split([each.numel() for each in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))


def _groups_of_pieces(param: Tensor, dim: int) -> list[Any]:
    """Return the groups of ranks that hold the pieces of a parameter along one dimension."""
    if not is_dtensor(param):
        return []
    mesh: Any = param.device_mesh  # type: ignore[attr-defined]
    placements: Any = param.placements  # type: ignore[attr-defined]
    return [
        mesh.get_group(axis)
        for axis, placement in enumerate(placements)
        if getattr(placement, "dim", None) == param.ndim + dim and mesh.size(axis) > 1
    ]


def _without(shape: Sequence[int], dim: int) -> torch.Size:
    return torch.Size([size for index, size in enumerate(shape) if index != len(shape) + dim])


def _placement_without(placement: Any, dim: int) -> Any:
    """Return the placement of a tensor that lacks dimension ``dim`` of the one that ``placement`` is of."""
    from torch.distributed.tensor import Replicate, Shard

    sharded = getattr(placement, "dim", None)
    if sharded is None or sharded < dim:
        return placement
    if sharded == dim:
        return Replicate()
    if hasattr(placement, "split_factor"):  # FSDP2 over tensor parallelism of the same dimension
        return type(placement)(sharded - 1, split_factor=placement.split_factor)
    return Shard(sharded - 1)


class Share(NamedTuple):
    """Work on one tensor, which one of the ranks does for all."""

    cost: float
    """Its duration, in any unit."""
    shape: torch.Size
    """Shape of the result."""
    dtype: torch.dtype
    """Dtype of the result."""
    make: Callable[[], Tensor]
    """Computes the result, in this shape; called on one rank alone, so it may not communicate."""


def share_out(shares: Sequence[Share], device: torch.device, process_group: ProcessGroup) -> list[Tensor]:
    """Return the results of all ``shares``, each computed on one rank and bit-equal on every rank.

    Work is balanced by its cost, and one gather brings the results to all ranks.

    Args:
        shares: The same on every rank.
        device: Device of the results.
        process_group: The ranks that train together.
    """
    ranks = num_ranks(process_group)
    if ranks == 1:
        return [share.make().to(share.dtype) for share in shares]
    owners, offsets, lengths = balanced([share.cost for share in shares], ranks), [], [0] * ranks
    for share, owner in zip(shares, owners, strict=True):
        offsets.append(lengths[owner])
        # Rounded up, so that every result begins where its dtype may.
        lengths[owner] += -(-share.shape.numel() * share.dtype.itemsize // 16) * 16
    # As bytes: results may differ in dtype.
    gathered = torch.empty(ranks, max(lengths, default=0), dtype=torch.uint8, device=device)
    own = torch.empty_like(gathered[0])

    def result(row: Tensor, share: Share, offset: int) -> Tensor:
        length = share.shape.numel() * share.dtype.itemsize
        return row[offset : offset + length].view(share.dtype).view(share.shape)

    group = None if isinstance(process_group, str) else process_group
    rank = dist.get_rank(group)
    for share, owner, offset in zip(shares, owners, offsets, strict=True):
        if owner == rank:
            result(own, share, offset).copy_(share.make())
    # The name that torch 2.13 gave to all_gather_into_tensor.
    gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(gathered.view(-1), own, group=group)
    return [result(gathered[owner], share, at) for share, owner, at in zip(shares, owners, offsets, strict=True)]


def balanced(costs: Sequence[float], ranks: int) -> list[int]:
    """Return a rank for each cost, the most expensive first to the rank with the least work so far.

    Example:
        >>> balanced([1, 1, 4, 3], 2)
        [1, 0, 0, 1]
    """
    loads, owners = [0.0] * ranks, [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        owners[index] = loads.index(min(loads))
        loads[owners[index]] += costs[index]
    return owners


def whole_tensor(piece: Tensor, param: Tensor) -> Tensor:
    """Return the whole of a tensor that is laid out as ``param``, gathered from the ranks where that is a DTensor.

    Args:
        piece: This rank's piece of the tensor, perhaps empty.
        param: A plain tensor or a DTensor.
    """
    if not is_dtensor(param):
        return piece
    from torch.distributed.tensor import DTensor

    mesh, placements = param.device_mesh, param.placements  # type: ignore[attr-defined]
    laid_out = DTensor.from_local(piece, mesh, placements, run_check=False, shape=param.shape, stride=param.stride())
    return laid_out.full_tensor()


def own_piece(whole: Tensor, param: Tensor) -> Tensor:
    """Return this rank's piece of a tensor that every rank has and that is to be laid out as ``param``."""
    if not is_dtensor(param):
        return whole
    from torch.distributed.tensor import DTensor, Replicate

    mesh, placements = param.device_mesh, param.placements  # type: ignore[attr-defined]
    replicated = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    # A copy, since a view would keep the whole tensor in memory.
    return replicated.redistribute(placements=placements).to_local().clone()
