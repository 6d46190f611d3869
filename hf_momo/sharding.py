"""From the sums of one rank to those of all: local tensors, replica counts and the one all-reduce of a step.

Every rank contributes its local sums divided by the number of ranks that hold the same piece, and its loss divided by
the number of ranks; one SUM all-reduce then makes both global, bit-equal on every rank. So far every parameter is
taken to be held by all ranks, as under DistributedDataParallel.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """The piece of ``tensor`` that this rank holds.

    Raises:
        NotImplementedError: For a sharded tensor (FSDP2, tensor parallelism).
    """
    if hasattr(tensor, "to_local"):
        raise NotImplementedError(
            "params: got a DTensor (FSDP2 or tensor parallelism). Sharded parameters are not supported yet: their"
            " inner products would be summed wrongly. Train with DistributedDataParallel or on one process"
        )
    return tensor


def sum_over_ranks(loss: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the losses and global inner products, by one all-reduce where there are several ranks.

    Args:
        loss: 0-d, the loss of this rank.
        sums: Inner products of this rank, any shape, parameters being replicated on every rank.

    Returns:
        The mean of ``loss`` over ranks and the reduced ``sums``, bit-equal on every rank.
    """
    ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if ranks == 1:
        return loss, sums
    message = torch.cat([loss.reshape(1), sums.reshape(-1)]) / ranks
    dist.all_reduce(message)
    return message[0], message[1:].view_as(sums)
