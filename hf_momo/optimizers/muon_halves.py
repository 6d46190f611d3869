"""The two halves of MomoMuon: Muon on matrices, and Adam on the rest in the same model of the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from hf_momo import sharding, step_size
from hf_momo.kernels import Kernel
from hf_momo.kernels.slices import check_shapes, flat_pieces, piece_size
from hf_momo.optimizers import newton_schulz, shards
from hf_momo.optimizers.direction import Direction, Group, Measured, wants_batch_slope
from hf_momo.optimizers.fused import apply_fused
from hf_momo.optimizers.group_tensors import GroupTensors
from hf_momo.optimizers.momo_adam import AdamDirection, fused_adam
from hf_momo.optimizers.options import betas, choice, flag, number
from hf_momo.sharding import Ranks
from hf_momo.step_size import Averaging, bias_correction

Row = tuple[Tensor, ...]

OPTIONS = {
    "method": choice("muon", "adam"),
    "betas": betas((0.95, 0.95)),
    "nesterov": flag(shared=True),
    "ns_steps": number(at_least=1.0, below=100.0),
    "ns_dtype": choice("auto", "bfloat16", "float32"),
    "adjust_lr_fn": choice("match_rms_adamw", "original"),
    "flatten": flag(),
    "eps": number(at_least=0.0),
}


class _SharedModel(Direction):
    """Options and averages of both halves: one model of the loss, and decoupled decay."""

    options: ClassVar = OPTIONS

    def beta(self, group: Group) -> float:
        return float(group["betas"][0])

    def model_beta(self, group: Group) -> float:
        return self.beta(group) ** 2 if group["nesterov"] else self.beta(group)

    def decays_first(self, group: Group) -> bool:
        return True

    def decays_in_model(self, group: Group) -> bool:
        return True


class MuonDirection(_SharedModel):
    """The orthogonalized average of the gradients, scaled by the shape of the matrix.

    Args:
        ranks: The ranks that train together, which share the orthogonalizing.
    """

    whole_tensors = True
    base_cls = "Muon"
    base_state: ClassVar = {"exp_avg": "momentum_buffer"}
    batch_slope = "dual norm"

    def __init__(self, ranks: Ranks | None = None) -> None:
        self.ranks = ranks or Ranks()

    def base_options(self, group: Group) -> Mapping[str, Any]:
        # eps is Adam's here, and the smallest norm of a matrix there.
        return {"momentum": self.beta(group), "eps": newton_schulz.SMALLEST_NORM}

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg",)

    def measure(self, group: Group, tensors: GroupTensors, averaging: Averaging, kernel: Kernel) -> Measured:
        owners, made = tensors.owners, list(tensors.params)
        rows = list(zip(*tensors.columns(self.state_names(group)), strict=True))
        for row in rows:
            check_shapes(row)
        slopes = averaging.bias_correction.new_zeros(len(owners))
        for indices in self._rounds(group, owners):
            shares = [self._share(group, owners[index], rows[index], slopes[index]) for index in indices]
            updates = shards.share_out(shares, owners[0].device, self.ranks.process_group)
            for index, update in zip(indices, updates, strict=True):
                made[index] = shards.own_piece(update.view(owners[index].shape), owners[index])
                if sharding.is_dtensor(owners[index]):
                    average = _averaged(group, *rows[index][1:])
                    slopes[index] += _slope(group, owners[index], average, made[index], slopes.dtype)
        sums = [*self._products(group, tensors, averaging, kernel), slopes.sum()]
        if wants_batch_slope(group):
            sums.append((slopes * self._norm_ratios(group, owners, rows, slopes.dtype)).sum())
        return Measured(torch.stack(sums), made)

    def _products(self, group: Group, tensors: GroupTensors, averaging: Averaging, kernel: Kernel) -> Sequence[Tensor]:
        """Return the inner products of the averaged and of the new gradients with the parameters."""
        filled = tensors.not_empty
        if not filled.params:
            return averaging.bias_correction.new_zeros(2).unbind()
        weight = averaging.grad_weight
        columns = filled.columns(self.state_names(group))
        return kernel.measure_identity(*columns, grad_weight=weight, dtype=weight.dtype)[:2].unbind()

    @staticmethod
    def _norm_ratios(group: Group, owners: Sequence[Tensor], rows: Sequence[Row], dtype: torch.dtype) -> Tensor:
        """Return, for each matrix, the Frobenius norm of its gradient over that of the average.

        This stands for the ratio of their dual norms, which would take a second orthogonalization.
        """
        squares = [
            torch.stack([each.to(dtype).square().sum() for each in (row[1], _averaged(group, *row[1:]))])
            for row in rows
        ]
        # A matrix may be sharded along several dimensions; the sums over each complete those over the ones before.
        for dim in (-1, -2, -3):
            cut = [(square, owner, dim) for square, owner in zip(squares, owners, strict=True) if owner.ndim >= -dim]
            shards.sum_over_shards(cut)
        grad, average = torch.stack(squares).unbind(dim=1)
        return torch.where(average > 0, (grad / average).sqrt(), 0.0)

    def commit(
        self, group: Group, tensors: GroupTensors, averaging: Averaging, made: Any, lr: Tensor, skip: Tensor
    ) -> None:
        rows = zip(*tensors.columns(self.state_names(group)), made, tensors.owners, strict=True)
        skips = skip > 0
        for *columns, owner in rows:
            rate = lr * _scale(group, owner)

            # Bound now, as each matrix has its own rate.
            def muon(*lists: list[Tensor], rate: Tensor = rate) -> None:
                for param, grad, average, update in flat_pieces([each[0] for each in lists], piece_size(lr.device)):
                    # A gradient that is not finite would make the average NaN at any weight.
                    average.lerp_(torch.where(skips, average, grad), 1.0 - averaging.beta)
                    _descend(param, update.to(param.dtype), rate, skip)

            if columns[0].numel():
                apply_fused(muon, [[column] for column in columns], read_only=(1, 3), widen_on_cpu=True)

    def _rounds(self, group: Group, owners: Sequence[Tensor]) -> Iterator[list[int]]:
        """Yield rows that are orthogonalized together: replicated ones all at once, of sharded ones one for each rank.

        A sharded matrix must be gathered first, and whole matrices of few rows at a time keep the memory small.
        """
        rows = sorted(range(len(owners)), key=lambda row: -newton_schulz.cost(_matrix_shape(group, owners[row])))
        if replicated := [row for row in rows if not sharding.is_dtensor(owners[row])]:
            yield replicated
        sharded = [row for row in rows if sharding.is_dtensor(owners[row])]
        size = sharding.num_ranks(self.ranks.process_group)
        for start in range(0, len(sharded), size):
            yield sharded[start : start + size]

    def _share(self, group: Group, owner: Tensor, row: Row, slope: Tensor) -> shards.Share:
        shape = _matrix_shape(group, owner)
        dtype = newton_schulz.working_dtype(group["ns_dtype"], owner, newton_schulz.cost(shape))
        # What is kept until the commit is as small as the parameter or the iteration.
        kept = owner.dtype if owner.dtype.itemsize < dtype.itemsize else dtype
        # Gathered here, where all ranks are, and not in the function, which one of them calls.
        whole = shards.whole_tensor(_averaged(group, *row[1:]), owner) if sharding.is_dtensor(owner) else None

        def make() -> Tensor:
            average = _averaged(group, *row[1:]) if whole is None else whole
            steps = int(group["ns_steps"])
            update = newton_schulz.orthogonalized(average.reshape(shape), steps=steps, dtype=dtype).to(kept)
            if whole is None:
                # Every rank measures what it orthogonalizes, and its share of the sums is divided by their number.
                ranks = sharding.num_ranks(self.ranks.process_group)
                slope.add_(ranks * _slope(group, owner, average, update.view(owner.shape), slope.dtype))
            return update

        return shards.Share(newton_schulz.cost(shape), shape, kept, make)


class AdamHalf(_SharedModel, AdamDirection):
    """Adam in the model of the loss that it shares with Muon.

    With Nesterov's momentum, the average that is divided by Adam's metric is the one that looks ahead, as Muon's is,
    corrected for its own weights: one model of the loss has one set of weights.
    """

    def measure(self, group: Group, tensors: GroupTensors, averaging: Averaging, kernel: Kernel) -> Measured:
        dtype = averaging.bias_correction.dtype
        num_steps = torch.stack(tensors.state("step")).to(dtype)
        beta2 = group["betas"][1]
        return Measured(
            kernel.measure_adam(
                *tensors.columns(self.state_names(group)),
                betas=(averaging.model_beta, beta2),
                eps=group["eps"],
                bias_corrections=(self._correction(averaging, num_steps), bias_correction(beta2, num_steps + 1)),
                dtype=dtype,
                batch_slope=wants_batch_slope(group),
            )
        )

    def commit(
        self, group: Group, tensors: GroupTensors, averaging: Averaging, made: Any, lr: Tensor, skip: Tensor
    ) -> None:
        if averaging.model_beta == averaging.beta:
            super().commit(group, tensors, averaging, made, lr, skip)
            return
        betas = (averaging.model_beta, group["betas"][1])
        for *row, counter in zip(*tensors.columns(self.state_names(group)), tensors.state("step"), strict=True):
            num_steps = counter.to(lr.dtype)
            # The kernel corrects its average as if it had always been averaged with model_beta.
            rate = lr * bias_correction(averaging.model_beta, num_steps) / self._correction(averaging, num_steps - 1)

            # Bound now, as each row has its own counter and rate.
            def adam(*columns: list[Tensor], counter: Tensor = counter, rate: Tensor = rate) -> None:
                tensors = [column[0] for column in columns]
                for param, grad, average, square in flat_pieces(tensors, piece_size(tensors[0].device)):
                    # The kernel works on a copy of the average, which looks ahead; the one that is kept does not.
                    pieces = ([param], [grad], [average.clone()], [square])
                    fused_adam(pieces, [counter], betas=betas, eps=group["eps"], lr=rate, skip=skip)
                    average.lerp_(torch.where(skip > 0, average, grad), 1.0 - averaging.beta)

            apply_fused(adam, [[column] for column in row], read_only=(1,))

    @staticmethod
    def _correction(averaging: Averaging, num_steps: Tensor) -> Tensor:
        """Return the sum of the weights in the direction, of parameters with ``num_steps`` steps before this one."""
        return step_size.averaging(num_steps, averaging.beta, model_beta=averaging.model_beta).bias_correction


def _averaged(group: Group, grad: Tensor, exp_avg: Tensor) -> Tensor:
    """Return the average of the gradients that is orthogonalized, in the operations of ``torch.optim.Muon``."""
    momentum = group["betas"][0]
    if grad.element_size() < 4:
        # As precise as the average that is measured. In bfloat16 steps the result is the same.
        grad, exp_avg = grad.float(), exp_avg.float()
    kept = exp_avg.lerp(grad, 1.0 - momentum)
    return grad.lerp(kept, momentum) if group["nesterov"] else kept


def _matrix_shape(group: Group, owner: Tensor) -> torch.Size:
    """Return the shape of a parameter as a matrix, or as a batch of matrices."""
    if not group["flatten"] or owner.ndim == 2:
        return owner.shape
    return torch.Size((owner.shape[0], owner.shape[1:].numel()))


def _scale(group: Group, owner: Tensor) -> float:
    """Return the factor of the learning rate for a matrix of this shape, as ``torch.optim.Muon`` has it."""
    rows, columns = _matrix_shape(group, owner)[-2:]
    if group["adjust_lr_fn"] == "original":
        return math.sqrt(max(1.0, rows / columns))
    return 0.2 * math.sqrt(max(rows, columns))


def _slope(group: Group, owner: Tensor, average: Tensor, update: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the slope ``<d, u>`` of a matrix, or of this rank's piece of it."""
    pieces = flat_pieces((average, update), piece_size(average.device))
    products = [torch.dot(left.to(dtype), right.to(dtype)) for left, right in pieces]
    return _scale(group, owner) * torch.stack(products or [average.new_zeros((), dtype=dtype)]).sum()


def _descend(param: Tensor, update: Tensor, lr: Tensor, skip: Tensor) -> None:
    """Subtract ``lr * update`` from ``param``, unless the step is skipped."""
    torch._fused_sgd_(
        [param],
        [update],
        [],
        weight_decay=0.0,
        momentum=0.0,
        lr=lr,
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
        found_inf=skip.float(),
    )
