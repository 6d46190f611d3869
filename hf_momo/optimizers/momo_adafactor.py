"""MomoAdafactor: Adam with Adafactor's factored second moment, with MoMo's adaptive step size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hf_momo.kernels import Kernel
from hf_momo.kernels.eager import Scratch
from hf_momo.kernels.slices import check_shapes, rectangles
from hf_momo.optimizers import shards
from hf_momo.optimizers.direction import Group, Measured, wants_batch_slope
from hf_momo.optimizers.fused import apply_fused
from hf_momo.optimizers.group_tensors import GroupTensors
from hf_momo.optimizers.momo_adam import AdamDirection, MomoAdam
from hf_momo.step_size import Averaging, bias_correction

# Steps below this rate are none: the inverse of the rate stays far from the largest float32.
_SMALLEST_LR = 1e-30


class SecondMoments(NamedTuple):
    """Averages of the squared gradients over rows and columns of some matrices, and what their metrics are made of.

    Flat tensors hold those of the rows and those of the columns of each matrix in turn; ``_cut`` takes them apart.
    """

    old: Tensor
    """The averages before the step."""
    new: Tensor
    """The averages after the step."""
    roots: Tensor
    """Roots of the row averages over their mean, and of the bias-corrected column averages: their outer product is
    the root of the second moment."""
    shapes: Sequence[torch.Size]
    """Shapes of the averages."""
    bias_corrections: Tensor
    """Those of the averaged gradients, one for each matrix."""


class AdafactorDirection(AdamDirection):
    """The averaged gradient in Adam's metric, with the second moment of a matrix factored as in Adafactor.

    Tensors of two and more dimensions are matrices in their last two; all others are left to Adam.
    """

    whole_tensors = True
    base_cls = None

    def new_state(self, group: Group, param: Tensor) -> dict[str, Tensor]:
        if param.ndim < 2:
            return super().new_state(group, param)
        # In 16 bits a change by 1 - beta2 would be rounded away, and a row and a column cost nothing.
        dtype = torch.promote_types(param.dtype, torch.float32)
        return {
            "exp_avg": torch.zeros_like(param, memory_format=torch.preserve_format),
            "exp_avg_sq_row": shards.zeros_without(param, -1, dtype),
            "exp_avg_sq_col": shards.zeros_without(param, -2, dtype),
        }

    def measure(self, group: Group, tensors: GroupTensors, averaging: Averaging, kernel: Kernel) -> Measured:
        matrices, others = _split(tensors)
        sums, made = [averaging.bias_correction.new_zeros(4 if wants_batch_slope(group) else 3)], None
        if others.params:
            sums.append(super().measure(group, others, averaging, kernel).sums)
        if matrices.params:
            scratch = Scratch(matrices.params, averaging.bias_correction.dtype)
            made = _second_moments(group, matrices, scratch)
            sums.append(_measure_matrices(group, matrices, made, scratch))
        return Measured(torch.stack(sums).sum(dim=0), made)

    def commit(
        self, group: Group, tensors: GroupTensors, averaging: Averaging, made: Any, lr: Tensor, skip: Tensor
    ) -> None:
        matrices, others = _split(tensors)
        if others.params:
            super().commit(group, others, averaging, None, lr, skip)
        if matrices.params:
            _commit_matrices(group, matrices, made, lr, skip)


def _split(tensors: GroupTensors) -> tuple[GroupTensors, GroupTensors]:
    """Return the matrices, empty shards included, and the others that are not empty."""
    factored = [owner.ndim > 1 for owner in tensors.owners]
    return tensors.where(factored), tensors.where([not each for each in factored]).not_empty


def _averages(matrices: GroupTensors) -> list[Tensor]:
    """Return the row and the column averages of each matrix in turn."""
    pairs = zip(matrices.state("exp_avg_sq_row"), matrices.state("exp_avg_sq_col"), strict=True)
    return [average for pair in pairs for average in pair]


def _cut(flat: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Return views of the row and the column averages of each matrix in turn."""
    pieces = flat.split([shape.numel() for shape in shapes])
    return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def _second_moments(group: Group, matrices: GroupTensors, scratch: Scratch) -> SecondMoments:
    """Return the averages after this step. Every rank must call this, since it sums over the shards of a matrix."""
    (beta1, beta2), owners = group["betas"], matrices.owners
    averages = _averages(matrices)
    shapes = [average.shape for average in averages]
    old = torch.cat([average.reshape(-1) for average in averages]).to(scratch.dtype)
    new = torch.lerp(old, _mean_squares(matrices, torch.zeros_like(old), shapes, scratch), 1.0 - beta2)
    num_steps = torch.stack(matrices.state("step")).to(scratch.dtype) + 1

    # The mean of the row averages is that of the column averages, which another rank can only have a part of where
    # rows themselves are in pieces.
    roots = new.clone()
    rows, cols = (_cut(roots, shapes)[first::2] for first in (0, 1))
    means = [col.sum(dim=-1, keepdim=True) for col in cols]
    shards.sum_over_shards([(mean, owner, -1) for mean, owner in zip(means, owners, strict=True)])
    torch._foreach_div_(means, [max(1, owner.shape[-1]) for owner in owners])
    # A matrix with nothing but zero gradients so far (LoRA's A at the first step) has a metric of eps.
    torch._foreach_clamp_min_(means, torch.finfo(scratch.dtype).tiny)
    torch._foreach_div_(rows, means)
    torch._foreach_div_(cols, bias_correction(beta2, num_steps).unbind())
    return SecondMoments(old, new, roots.sqrt_(), shapes, bias_correction(beta1, num_steps))


def _mean_squares(matrices: GroupTensors, flat: Tensor, shapes: Sequence[torch.Size], scratch: Scratch) -> Tensor:
    """Return ``flat``, zeros, filled with the means of the squared gradients over rows and columns."""
    means, owners, dims = _cut(flat, shapes), matrices.owners, (-1, -2)
    for index, row in enumerate(zip(*matrices.columns(("exp_avg",)), strict=True)):
        rows, cols = means[2 * index : 2 * index + 2]
        check_shapes((*row, rows.unsqueeze(-1).expand(*rows.shape, cols.shape[-1])))
        for grad, of_rows, of_cols in _blocks(row[1:2], rows, cols, scratch.size):
            grad = grad.to(scratch.dtype)
            squares = torch.mul(grad, grad, out=scratch.first(grad.numel()).view(grad.shape))
            of_rows.add_(squares.sum(dim=-1, keepdim=True))
            of_cols.add_(squares.sum(dim=-2, keepdim=True))
    shards.sum_over_shards([(mean, owners[i // 2], dims[i % 2]) for i, mean in enumerate(means)])
    torch._foreach_div_(means, [max(1, owners[i // 2].shape[dims[i % 2]]) for i in range(len(means))])
    return flat


def _measure_matrices(group: Group, matrices: GroupTensors, made: SecondMoments, scratch: Scratch) -> Tensor:
    """Return the inner products over the matrices, see ``eager.measure_direction``."""
    roots, sums, batch_slope = _cut(made.roots, made.shapes), [], wants_batch_slope(group)
    columns = (*matrices.columns(("exp_avg",)), roots[::2], roots[1::2], made.bias_corrections.unbind())
    for *stored, row_roots, col_roots, correction in zip(*columns, strict=True):
        for *pieces, row_root, col_root in _blocks(stored, row_roots, col_roots, scratch.size):
            param, grad, exp_avg = (piece.to(scratch.dtype) for piece in pieces)
            averaged, metric = (of(grad.numel()).view(grad.shape) for of in (scratch.first, scratch.second))
            torch.mul(row_root, col_root, out=metric).add_(group["eps"])
            batch = [_dot(grad, torch.div(grad, metric, out=averaged)) / correction] if batch_slope else []
            torch.lerp(exp_avg, grad, 1.0 - group["betas"][0], out=averaged)
            slope = _dot(averaged, torch.div(averaged, metric, out=metric)) / correction
            sums += [_dot(averaged, param), _dot(grad, param), slope, *batch]
    wide = scratch.dtype if scratch.device.type == "mps" else torch.float64
    return torch.stack(sums).view(-1, 4 if batch_slope else 3).sum(dim=0, dtype=wide).to(scratch.dtype)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return torch.dot(left.reshape(-1), right.reshape(-1))


def _commit_matrices(group: Group, matrices: GroupTensors, made: SecondMoments, lr: Tensor, skip: Tensor) -> None:
    _average_gradients(matrices.not_empty, group["betas"][0], skip)
    kept = torch.where(skip > 0, made.old, made.new)
    torch._foreach_copy_(_averages(matrices), _cut(kept, made.shapes))
    # The rate goes into the metric, which in a skipped step and at rate 0 is infinite.
    inverse = made.bias_corrections.to(lr.dtype) / lr
    moves = (inverse < 1.0 / _SMALLEST_LR) & (skip <= 0)
    eps = torch.where(moves, group["eps"] * inverse, float("inf")).unbind()
    roots = _cut(torch.where(skip > 0, 1.0, made.roots), made.shapes)
    torch._foreach_mul_(roots[1::2], torch.where(moves, inverse, 1.0).to(made.roots.dtype).unbind())
    scratch = Scratch(matrices.params, made.roots.dtype)
    columns = (matrices.params, matrices.state("exp_avg"), roots[::2], roots[1::2], eps)
    for param, exp_avg, row_roots, col_roots, added in zip(*columns, strict=True):
        for piece, averaged, row_root, col_root in _blocks((param, exp_avg), row_roots, col_roots, scratch.size):
            metric = scratch.first(piece.numel()).view(piece.shape)
            piece.addcdiv_(averaged, torch.mul(row_root, col_root, out=metric).add_(added), value=-1.0)


def _average_gradients(matrices: GroupTensors, beta: float, skip: Tensor) -> None:
    """Average the gradients by torch's fused SGD, which leaves the averages alone in a skipped step."""

    # A step of size 1 - beta down the gradient of (exp_avg - grad)**2 / 2.
    def average(exp_avgs: list[Tensor], grads: list[Tensor]) -> None:
        torch._fused_sgd_(
            exp_avgs,
            grads,
            [],
            weight_decay=1.0,
            momentum=0.0,
            lr=1.0 - beta,
            dampening=0.0,
            nesterov=False,
            maximize=True,
            is_first_step=False,
            found_inf=skip.float(),
        )

    apply_fused(average, (matrices.state("exp_avg"), matrices.grads), read_only=(1,), widen_on_cpu=True)


def _blocks(tensors: Sequence[Tensor], rows: Tensor, cols: Tensor, size: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield corresponding views of matrices, of at most ``size`` elements, and of vectors that broadcast with them."""
    rows, cols = rows.unsqueeze(-1), cols.unsqueeze(-2)
    if tensors[0].numel() <= size:
        yield (*tensors, rows, cols)
        return
    for index in rectangles(tensors[0].shape, size):
        *leading, row, col = index
        whole = slice(None)
        yield (*(tensor[index] for tensor in tensors), rows[(*leading, row, whole)], cols[(*leading, whole, col)])


class MomoAdafactor(MomoAdam):
    r"""Adam with a factored second moment, whose step size is worked out from the loss.

    The second moment of a matrix is kept as its averages over rows and over columns, so the state is about half of
    Adam's. The step size minimizes, in the metric of that second moment, a model of the loss made of running averages,
    cut off at ``lower_bound``, and is never more than ``lr``. While this cap limits the step, the optimizer *is* its
    base method: Adam with the second moment of Adafactor (Shazeer and Stern, ICML 2018, arXiv 1804.04235, Algorithm 4,
    with the first moment of the gradients of its section 4). MoMo's step size for it is this package's own.

    Relative step sizes, the scaling of steps by the size of the parameters, and update clipping are left out: they set
    the length of the step, which is MoMo's part here. ``betas[1]`` is constant and bias-corrected, as in Adam, and
    ``eps`` is added to the root, as in Adam. Adafactor's ``beta1`` averages *preconditioned* steps, of which there is
    no model of the loss; here the gradients are averaged.

    Tensors of more than two dimensions are matrices in their last two. Vectors have Adam's second moment, and are
    updated exactly as by ``MomoAdam``. Averages over rows and columns are float32 where parameters have 16 bits.

    Args:
        params: Parameters or parameter groups. Groups may differ in ``lr``, ``weight_decay`` and ``eps`` and are
            solved jointly.
        lr: Cap on the step size, in [0, inf), in the unit of Adam's learning rate.
        betas: Weights of the past in the averages of loss and gradient, and of the squared gradient, each in [0, 1).
        eps: Added to the root of the second moment, in [0, inf).
        weight_decay: Coefficient of the weight decay, in [0, inf).
        weight_decay_form: ``"proximal"`` or ``"adamw"``, see ``MomoAdam``.
        lower_bound: Lower bound of the loss, in units of the loss.
        adapt_lower_bound: Estimate the bound on the fly; ``lower_bound`` is then its floor.
        slope: ``"direction"`` or ``"batch"``, see ``MomoAdam``.
        gap: ``"bound"`` or ``"progress"``, see ``MomoAdam``.
        caution: Factor of the slope, in (0, inf), see ``MomoAdam``.
        kernel: How the inner products of vectors are computed, see ``MomoAdam``; matrices take torch operations.
        process_group: The ranks that train the model together: ``None`` for all ranks of the job, a
            ``torch.distributed.ProcessGroup``, or ``"self"`` for an optimizer on one rank that is not data-parallel.
        sharded: Must be ``False``: the flat parameters of FSDP1 and ZeRO have no rows and columns; DTensors have.

    Raises:
        ValueError: If an argument is out of range, parameters are complex or on several devices, or groups disagree in
            an option that they must share.
        TypeError: If an argument is not a number.

    Example:
        >>> layer = torch.nn.Linear(4, 3)
        >>> optimizer = MomoAdafactor(layer.parameters(), lr=1e-2)
        >>> loss = layer(torch.ones(2, 4)).square().mean()
        >>> loss.backward()
        >>> _ = optimizer.step(loss=loss)
        >>> optimizer.state[layer.weight]["exp_avg_sq_row"].shape
        torch.Size([3])
    """

    direction = AdafactorDirection()
