"""The two halves of MomoMuon: Muon on matrices, and Adam on the rest in the same model of the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from hf_momo import sharding, step_size
from hf_momo.kernels import Kernel, eager
from hf_momo.kernels.slices import check_shapes, flat_pieces, piece_size
from hf_momo.optimizers import newton_schulz, shards
from hf_momo.optimizers.direction import Direction, Group, Measured
from hf_momo.optimizers.fused import apply_fused
from hf_momo.optimizers.group_tensors import GroupTensors
from hf_momo.optimizers.momo_adam import AdamDirection, fused_adam
from hf_momo.optimizers.options import betas, choice, flag, number
from hf_momo.sharding import Ranks
from hf_momo.step_size import Averaging, bias_correction

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

    def __init__(self, ranks: Ranks | None = None) -> None:
        self.ranks = ranks or Ranks()

    def base_options(self, group: Group) -> Mapping[str, Any]:
        # eps is Adam's here, and the smallest norm of a matrix there.
        return {"momentum": self.beta(group), "eps": newton_schulz.SMALLEST_NORM}

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg",)

    def measure(self, group: Group, tensors: GroupTensors, averaging: Averaging, kernel: Kernel) -> Measured:
        owners, made = tensors.owners, list(tensors.params)
        columns = list(zip(*tensors.columns(self.state_names(group)), strict=True))
        for tensors_of_row in columns:
            check_shapes(tensors_of_row)
        sums = _Sums(group, tensors, averaging)
        for rows in self._rounds(group, owners):
            shares = [self._share(group, owners[row], columns[row], sums) for row in rows]
            updates = shards.share_out(shares, owners[0].device, self.ranks.process_group)
            for row, update in zip(rows, updates, strict=True):
                made[row] = shards.own_piece(update.view(owners[row].shape), owners[row])
                if sharding.is_dtensor(owners[row]) and made[row].numel():
                    param, grad, exp_avg = columns[row]
                    sums.add(owners[row], param, grad, _averaged(group, grad, exp_avg), made[row])
        return Measured(sums.total, made)

    def commit(
        self, group: Group, tensors: GroupTensors, averaging: Averaging, made: Any, lr: Tensor, skip: Tensor
    ) -> None:
        rows = zip(*tensors.columns(self.state_names(group)), made, tensors.owners, strict=True)
        piece = _commit_piece(lr.device)
        for *columns, owner in rows:
            rate = lr * _scale(group, owner)

            # Bound now, as each matrix has its own rate.
            def muon(*lists: list[Tensor], rate: Tensor = rate) -> None:
                for param, grad, average, update in flat_pieces([each[0] for each in lists], piece):
                    # A gradient that is not finite would make the average NaN at any weight.
                    average.lerp_(torch.where(skip > 0, average, grad), 1.0 - averaging.beta)
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

    def _share(self, group: Group, owner: Tensor, columns: tuple[Tensor, ...], sums: _Sums) -> shards.Share:
        shape = _matrix_shape(group, owner)
        dtype = newton_schulz.working_dtype(group["ns_dtype"], owner, newton_schulz.cost(shape))
        # What is kept until the commit is as small as the parameter or the iteration.
        kept = owner.dtype if owner.dtype.itemsize < dtype.itemsize else dtype
        param, *averaged = columns
        is_sharded = sharding.is_dtensor(owner)
        # Gathered here, where all ranks are, and not in the function, which one of them calls.
        gathered = shards.whole_tensor(_averaged(group, *averaged), owner) if is_sharded else None

        def make() -> Tensor:
            average = _averaged(group, *averaged) if gathered is None else gathered
            steps = int(group["ns_steps"])
            update = newton_schulz.orthogonalized(average.reshape(shape), steps=steps, dtype=dtype).to(kept)
            if gathered is None and update.numel():
                # Every rank measures what it orthogonalizes, and its share of the sums is divided by their number.
                ranks = sharding.num_ranks(self.ranks.process_group)
                sums.add(owner, param, averaged[0], average, update.view(owner.shape), weight=ranks)
            return update

        return shards.Share(newton_schulz.cost(shape), shape, kept, make)


class _Sums:
    """The inner products of a step over the matrices of a group, added one matrix at a time."""

    def __init__(self, group: Group, tensors: GroupTensors, averaging: Averaging) -> None:
        self.group = group
        self.scratch = eager.Scratch(tensors.params, averaging.bias_correction.dtype)
        self.total = averaging.bias_correction.new_zeros(3)

    def add(
        self, owner: Tensor, param: Tensor, grad: Tensor, average: Tensor, update: Tensor, *, weight: float = 1.0
    ) -> None:
        columns = [[each] for each in (param, grad, average, update)]
        sums = eager.measure_direction(
            columns, lambda row, param, grad, *direction: direction, self.scratch, [_scale(self.group, owner)]
        )
        self.total = self.total + sums * weight


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


def _commit_piece(device: torch.device) -> int:
    # On a CPU, pieces of the four tensors stay in the cache between the operations on them.
    return 1 << 16 if device.type == "cpu" else piece_size(device)


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
