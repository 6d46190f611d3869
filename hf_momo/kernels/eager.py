"""Inner products of a step by plain torch operations: runs wherever torch does.

Both functions read their tensors and write to none of them, whatever happens after: a step that turns out not to be
finite has then nothing to undo. Scratch memory is a few pieces (see ``slices.py``), whatever the size of the model.
Products are formed and summed in ``dtype``, which is at least float32, piece by piece, and the pieces in float64 where
the device has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hf_momo.kernels.slices import flat_pieces, piece_size


def measure_identity(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor] | None,
    *,
    grad_weight: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """Inner products for the identity metric (Momo).

    Args:
        params: Parameters ``x``, local strided tensors, not empty, all on one device. Read only, like all others.
        grads: Gradients ``g``, shaped like ``params``.
        exp_avgs: Momentum before the step, shaped like ``params``; ``None`` without momentum.
        grad_weight: 0-d, weight ``w`` of the gradient in the new momentum ``d = (1 - w) m + w g``.
        dtype: Of the arithmetic and the result.

    Returns:
        Tensor of shape ``(3,)``: ``<d, x>``, ``<g, x>``, ``<d, d>``.
    """
    if not params:
        raise ValueError("params: must not be empty")
    device = params[0].device
    scratch = _Scratch(piece_size(device), dtype, device)
    sums = []
    for tensors in zip(params, grads, *(() if exp_avgs is None else (exp_avgs,)), strict=True):
        for pieces in flat_pieces(tensors, scratch.size):
            param, grad, *momentum = (piece.to(dtype) for piece in pieces)
            direction = grad
            if momentum:
                direction = torch.lerp(momentum[0], grad, grad_weight, out=scratch.first(param.numel()))
            sums += [torch.dot(direction, param), torch.dot(grad, param), torch.dot(direction, direction)]
    return _add_up(sums, dtype)


def measure_adam(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    *,
    betas: tuple[float, float],
    eps: float,
    bias_corrections: tuple[Tensor, Tensor],
    dtype: torch.dtype,
) -> Tensor:
    """Inner products for Adam's metric ``sqrt(v / bias_correction) + eps`` (MomoAdam).

    Args:
        params: Parameters ``x``, local strided tensors, not empty, all on one device. Read only, like all others.
        grads: Gradients ``g``, shaped like ``params``.
        exp_avgs: First moments before the step, shaped like ``params``.
        exp_avg_sqs: Second moments before the step, shaped like ``params``.
        betas: Weights of the past in the two moments.
        eps: Added to the root of the second moment.
        bias_corrections: Those of the two moments after the step, tensors of shape ``(len(params),)``.
        dtype: Of the arithmetic and the result.

    Returns:
        Tensor of shape ``(3,)``: ``<d, x>``, ``<g, x>``, and the sum over parameters of
        ``<d, d / (sqrt(v / bias_correction2) + eps)> / bias_correction1``, with the new moments ``d`` and ``v``.
    """
    if not params:
        raise ValueError("params: must not be empty")
    device = params[0].device
    scratch = _Scratch(piece_size(device), dtype, device)
    root2 = bias_corrections[1].sqrt()
    sums = []
    for *tensors, correction, eps_scaled in zip(
        params,
        grads,
        exp_avgs,
        exp_avg_sqs,
        (root2 / bias_corrections[0]).unbind(),
        (eps * root2).unbind(),
        strict=True,
    ):
        for pieces in flat_pieces(tensors, scratch.size):
            param, grad, exp_avg, exp_avg_sq = (piece.to(dtype) for piece in pieces)
            direction, metric = scratch.first(param.numel()), scratch.second(param.numel())
            torch.lerp(exp_avg, grad, 1.0 - betas[0], out=direction)
            torch.mul(exp_avg_sq, betas[1], out=metric)
            # The root of the bias correction is taken out of the metric and put back after the sum: a pass less.
            metric.addcmul_(grad, grad, value=1.0 - betas[1]).sqrt_().add_(eps_scaled)
            torch.div(direction, metric, out=metric)
            sums += [torch.dot(direction, param), torch.dot(grad, param), torch.dot(direction, metric) * correction]
    return _add_up(sums, dtype)


class _Scratch:
    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.size = size
        self._memory = torch.empty(2, size, dtype=dtype, device=device)

    def first(self, length: int) -> Tensor:
        return self._memory[0, :length]

    def second(self, length: int) -> Tensor:
        return self._memory[1, :length]


def _add_up(sums: list[Tensor], dtype: torch.dtype) -> Tensor:
    wide = dtype if sums[0].device.type == "mps" else torch.float64
    return torch.stack(sums).view(-1, 3).sum(dim=0, dtype=wide).to(dtype)
