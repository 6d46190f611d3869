"""Inner products of a step by plain torch operations: runs wherever torch does.

All functions read their tensors and write to none of them, so a step that turns out not to be finite has nothing to
undo. Scratch memory is a few pieces (see ``slices.py``), whatever the size of the model. Products are formed and
summed in ``dtype``, which is at least float32, piece by piece, and the pieces in float64 where the device has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hf_momo.kernels.slices import check_shapes, flat_pieces, piece_size


def measure_identity(
    *columns: Sequence[Tensor], grad_weight: Tensor, dtype: torch.dtype, batch_slope: bool = False
) -> Tensor:
    """Return the inner products in the identity metric.

    Args:
        *columns: Lists of one length, row ``i`` belonging to parameter ``i``: parameters ``x`` (local strided tensors,
            not empty, all on one device), gradients ``g``, and with momentum its average before the step. Read only.
        grad_weight: 0-d, weight ``w`` of the gradient in the new momentum ``d = (1 - w) m + w g``.
        dtype: Dtype of the arithmetic and the result.
        batch_slope: Whether to measure ``<g, g>`` too.

    Returns:
        Tensor of shape ``(3,)``: ``<d, x>``, ``<g, x>``, ``<d, d>``; of shape ``(4,)`` with ``<g, g>``.
    """

    def direction(row: int, param: Tensor, grad: Tensor, *momentum: Tensor) -> tuple[Tensor, ...]:
        square = (torch.dot(grad, grad),) if batch_slope else ()
        if not momentum:
            return grad, grad, *square
        averaged = torch.lerp(momentum[0], grad, grad_weight, out=scratch.first(param.numel()))
        return averaged, averaged, *square

    scratch = Scratch(columns[0], dtype)
    return measure_direction(columns, direction, scratch)


def measure_sign(
    *columns: Sequence[Tensor], grad_weight: Tensor, dtype: torch.dtype, batch_slope: bool = False
) -> Tensor:
    """Return the inner products for a method that steps by the sign of an average of the gradients.

    Args:
        *columns: As for ``measure_identity``.
        grad_weight: 0-d, weight ``w`` of the gradient in the direction ``d = (1 - w) m + w g``.
        dtype: Dtype of the arithmetic and the result.
        batch_slope: Whether to measure ``<g, sign(g)>`` too.

    Returns:
        Tensor of shape ``(3,)``: ``<d, x>``, ``<g, x>``, ``<d, sign(d)>``; of shape ``(4,)`` with ``<g, sign(g)>``.
    """
    scratch = Scratch(columns[0], dtype)

    def direction(row: int, param: Tensor, grad: Tensor, *average: Tensor) -> tuple[Tensor, ...]:
        averaged, sign = grad, scratch.second(param.numel())
        norm = (torch.linalg.vector_norm(grad, 1),) if batch_slope else ()
        if average:
            averaged = torch.lerp(average[0], grad, grad_weight, out=scratch.first(param.numel()))
        return averaged, torch.sign(averaged, out=sign), *norm

    return measure_direction(columns, direction, scratch)


def update_sign(*columns: Sequence[Tensor], betas: tuple[float, float], lr: Tensor, skip: Tensor) -> Sequence[int]:
    """Leave the step of a sign method to the caller, who takes it by torch's kernels.

    A kernel that has an update of its own computes ``x <- x - lr * sign(b1 * m + (1 - b1) * g)`` and
    ``m <- b2 * m + (1 - b2) * g``, in float32 for 16-bit tensors.

    Args:
        *columns: As for ``measure_identity``; all but the gradients are written to.
        betas: Weights ``b1`` and ``b2`` of the past, in the direction and in the average that is kept.
        lr: 0-d, the rate.
        skip: 0-d; where it is 1.0 nothing is written.

    Returns:
        Indices of the tensors that are left to the caller.
    """
    return range(len(columns[0]))


def measure_adam(
    *columns: Sequence[Tensor],
    betas: tuple[float, float],
    eps: float,
    bias_corrections: tuple[Tensor, Tensor],
    dtype: torch.dtype,
    batch_slope: bool = False,
) -> Tensor:
    """Return the inner products in Adam's metric ``sqrt(v / bias_correction) + eps``.

    Args:
        *columns: As for ``measure_identity``: parameters, gradients, and the two moments before the step.
        betas: Weights of the past in the two moments.
        eps: Added to the root of the second moment.
        bias_corrections: Those of the two moments after the step, tensors of shape ``(len(params),)``.
        dtype: Dtype of the arithmetic and the result.
        batch_slope: Whether to measure a fourth number.

    Returns:
        Tensor of shape ``(3,)``: ``<d, x>``, ``<g, x>``, and the sum over parameters of
        ``<d, d / (sqrt(v / bias_correction2) + eps)> / bias_correction1``, with the new moments ``d`` and ``v``. The
        fourth number is that sum with ``g`` in the place of ``d``.
    """
    scratch = Scratch(columns[0], dtype)
    root2 = bias_corrections[1].sqrt()
    scaled_eps = (eps * root2).unbind()

    def direction(row: int, param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor) -> tuple[Tensor, ...]:
        averaged, metric = scratch.first(param.numel()), scratch.second(param.numel())
        torch.mul(exp_avg_sq, betas[1], out=metric)
        # The root of the bias correction is taken out of the metric and put back after the sum: a pass less.
        metric.addcmul_(grad, grad, value=1.0 - betas[1]).sqrt_().add_(scaled_eps[row])
        square = (torch.dot(grad, torch.div(grad, metric, out=averaged)),) if batch_slope else ()
        torch.lerp(exp_avg, grad, 1.0 - betas[0], out=averaged)
        return averaged, torch.div(averaged, metric, out=metric), *square

    return measure_direction(columns, direction, scratch, (root2 / bias_corrections[0]).unbind())


def measure_direction(
    columns: Sequence[Sequence[Tensor]],
    direction: Callable[..., tuple[Tensor, ...]],
    scratch: Scratch,
    slope_scales: Sequence[Tensor | float] | None = None,
) -> Tensor:
    """Return the inner products for any direction that works element by element.

    Args:
        columns: Parameters, gradients and averages, lists of one length, not empty.
        direction: Takes the index of a row and flat pieces of its tensors in the dtype of ``scratch``; returns the
            averaged gradient ``d`` and the update ``u`` of the base method at rate 1, which may be in ``scratch``;
            and where the slope of the batch is asked for, that of the pieces, 0-d.
        scratch: Memory of one piece, and the dtype of the arithmetic and the result.
        slope_scales: A factor of ``<d, u>`` and of the slope of the batch for each row.

    Returns:
        Tensor of shape ``(3,)``: ``<d, x>``, ``<g, x>``, ``<d, u>``; of shape ``(4,)`` with the slope of the batch.

    Raises:
        ValueError: If there are no tensors, or tensors of one row differ in shape.
    """
    sums = []
    for index, row in enumerate(zip(*columns, strict=True)):
        check_shapes(row)
        for flat in flat_pieces(row, scratch.size):
            param, grad, *averages = (piece.to(scratch.dtype) for piece in flat)
            averaged, update, *batch = direction(index, param, grad, *averages)
            slopes = [torch.dot(averaged, update), *batch]
            if slope_scales is not None:
                slopes = [slope * slope_scales[index] for slope in slopes]
            sums += [torch.dot(averaged, param), torch.dot(grad, param), *slopes]
    wide = scratch.dtype if scratch.device.type == "mps" else torch.float64
    return torch.stack(sums).view(-1, 2 + len(slopes)).sum(dim=0, dtype=wide).to(scratch.dtype)


class Scratch:
    """Memory of one piece for two tensors, allocated once and used for every piece.

    Args:
        params: Parameters that are measured, not empty, all on one device.
        dtype: Dtype of the memory.
    """

    def __init__(self, params: Sequence[Tensor], dtype: torch.dtype) -> None:
        if not params:
            raise ValueError("params: must not be empty")
        self.dtype, self.device = dtype, params[0].device
        self.size = piece_size(self.device)
        self._memory = torch.empty(2, self.size, dtype=dtype, device=self.device)

    def first(self, length: int) -> Tensor:
        """Return memory for ``length`` elements."""
        return self._memory[0, :length]

    def second(self, length: int) -> Tensor:
        """Return memory for ``length`` elements, apart from ``first``."""
        return self._memory[1, :length]
