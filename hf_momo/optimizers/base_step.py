"""The direction of ``MomoWrapper``, and the step of its base: measured, and cut short."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from hf_momo import sharding
from hf_momo.kernels import Kernel
from hf_momo.kernels.slices import blocks_of, flat_pieces, piece_size
from hf_momo.optimizers.bases import WEIGHT_DECAY_FORMS
from hf_momo.optimizers.direction import Direction, Group, Measured
from hf_momo.optimizers.group_tensors import Block, GroupTensors
from hf_momo.optimizers.options import choice, flag, number
from hf_momo.step_size import Averaging, Step

# A copy of the parameters for each part of a block.
Copies = list[list[Tensor]]


class AveragedGradient(Direction):
    """The running average of the gradients that the model of the loss is made of. The base makes the update."""

    options: ClassVar = {
        "beta": number(at_least=0.0, below=1.0),
        "bias_correction": flag(),
        "weight_decay_form": choice(*WEIGHT_DECAY_FORMS),
        "initial_lower_bound": number(shown="lower_bound"),
    }

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg",)

    def beta(self, group: Group) -> float:
        return float(group["beta"])

    def starts_at_first_sample(self, group: Group) -> bool:
        return not group["bias_correction"]

    def measure(self, group: Group, tensors: GroupTensors, averaging: Averaging, kernel: Kernel) -> Measured:
        return Measured(
            kernel.measure_identity(
                *tensors.columns(self.state_names(group)),
                grad_weight=averaging.grad_weight,
                dtype=averaging.bias_correction.dtype,
            )
        )

    def commit(
        self, group: Group, tensors: GroupTensors, averaging: Averaging, made: Any, lr: Tensor, skip: Tensor
    ) -> None:
        # The step has waited for the device already, so the weight may be read.
        torch._foreach_lerp_(tensors.state("exp_avg"), tensors.grads, float(averaging.grad_weight))


def copied(block: Block) -> Copies:
    """Return the parameters of a block as they are."""
    return [[param.clone() for param in tensors.params] for _, tensors in block.parts]


def measured(block: Block, before: Copies, like: Tensor) -> Tensor:
    """Return this rank's share of ``<d, u>`` and ``<u, u>``, with the step ``u`` that the base has made.

    Args:
        block: Parameters that the base has moved, with the averages ``d`` of this step.
        before: The parameters before.
        like: 0-d, of the dtype and device of the result.
    """
    total, (keep, shrinks) = like.new_zeros(2), _shrinkage(block)
    for (replicas, tensors), starts in zip(block.parts, before, strict=True):
        sums: list[Tensor] = []
        for row in zip(starts, _local(tensors), tensors.state("exp_avg"), strict=True):
            for pieces in flat_pieces(row, piece_size(row[0].device)):
                start, end, averaged = (piece.to(like.dtype) for piece in pieces)
                update = start * keep - end if shrinks else start - end
                sums += [torch.dot(averaged, update), torch.dot(update, update)]
        if sums:
            total += torch.stack(sums).view(-1, 2).sum(dim=0) / replicas
    return total


def with_grad(tensors: GroupTensors, has_grad: bool) -> GroupTensors:
    """Return the tensors that have a gradient in this batch, or those that have none."""
    return tensors.where([(owner.grad is not None) is has_grad for owner in tensors.owners])


def _local(tensors: GroupTensors) -> list[Tensor]:
    """Return the tensors as they are now: some optimizers give a parameter new memory."""
    return [
        owner if type(owner) is torch.nn.Parameter else sharding.local_tensor(owner.detach())
        for owner in tensors.owners
    ]


def _shrinkage(block: Block) -> tuple[float | Tensor, bool]:
    """Return the factor of the decoupled weight decay, and whether there is one."""
    keep = 1.0 - block.settings.weight_decay
    return keep, isinstance(keep, Tensor) or keep != 1.0


def go_back(block: Block, before: Copies, step: Step) -> None:
    """Move the parameters to the share ``step.scale`` of the step of the base; in a step not finite, back."""
    on_cpu = step.scale.device.type == "cpu"
    if on_cpu and bool(step.finite & (step.scale >= 1.0)):
        return
    keep, shrinks = _shrinkage(block)
    for (_, tensors), starts in zip(block.parts, before, strict=True):
        for start, end in zip(starts, _local(tensors), strict=True):
            dtype = torch.promote_types(start.dtype, torch.float32)
            scale = step.scale.to(dtype)
            for old, new in blocks_of((start, end), piece_size(start.device)):
                decayed = old.to(dtype) * keep if shrinks else old.to(dtype)
                # lerp is exact at both ends. A step that was not finite may have left no number to reckon with.
                moved = torch.lerp(decayed, new.to(dtype), scale)
                new.copy_(torch.where(step.finite, moved, old.to(dtype)))
