"""MomoLion: Lion, and with equal betas Signum, with MoMo's adaptive step size."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from hf_momo.kernels import Kernel
from hf_momo.kernels.slices import batches_of, piece_size
from hf_momo.kernels.tables import pick
from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.direction import Direction, Group, Measured, wants_batch_slope
from hf_momo.optimizers.fused import apply_fused
from hf_momo.optimizers.group_tensors import GroupTensors
from hf_momo.optimizers.options import betas
from hf_momo.sharding import ProcessGroup
from hf_momo.step_size import Averaging


class LionDirection(Direction):
    """The sign of an average of the gradients in which the newest one has a weight of its own.

    The step is bounded in the maximum norm, so the slope is the l1 norm of that average.
    """

    options: ClassVar = {"betas": betas((0.9, 0.99))}

    batch_slope = "dual norm"

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg",) if group["betas"][0] > 0.0 else ()

    def beta(self, group: Group) -> float:
        return float(group["betas"][1])

    def model_beta(self, group: Group) -> float:
        return float(group["betas"][0])

    def decays_first(self, group: Group) -> bool:
        return True

    def decays_in_model(self, group: Group) -> bool:
        return True

    def measure(self, group: Group, tensors: GroupTensors, averaging: Averaging, kernel: Kernel) -> Measured:
        sums = kernel.measure_sign(
            *tensors.columns(self.state_names(group)),
            grad_weight=averaging.grad_weight,
            dtype=averaging.bias_correction.dtype,
            batch_slope=wants_batch_slope(group),
        )
        return Measured(sums, made=kernel)

    def commit(
        self, group: Group, tensors: GroupTensors, averaging: Averaging, made: Any, lr: Tensor, skip: Tensor
    ) -> None:
        columns = tensors.columns(self.state_names(group))
        if not columns[0]:
            return
        kernel: Kernel = made
        beta1, beta2 = averaging.model_beta, averaging.beta
        left = kernel.update_sign(*columns, betas=(beta1, beta2), lr=lr, skip=skip)
        # torch's fused SGD reads the rate on the device and writes nothing in a skipped step.
        sgd = partial(
            torch._fused_sgd_,
            weight_decay=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
            found_inf=skip.float(),
        )

        def lion(*columns: list[Tensor]) -> None:
            for params, grads, *exp_avg in batches_of(columns, piece_size(columns[0][0].device)):
                averaged = torch._foreach_mul(exp_avg[0], beta1) if exp_avg else grads
                if exp_avg:
                    torch._foreach_add_(averaged, grads, alpha=1.0 - beta1)
                signs = torch._foreach_sign(averaged)
                sgd(params, signs, [], momentum=0.0, lr=lr, dampening=0.0)
                if exp_avg:
                    # At rate 0 it updates the average alone. The signs stand in for parameters, which it would read.
                    sgd(signs, grads, exp_avg[0], momentum=beta2, lr=0.0, dampening=beta2)

        apply_fused(lion, [pick(column, left) for column in columns], read_only=(1,), widen_on_cpu=True)


class MomoLion(MomoOptimizer):
    r"""Lion whose step size is worked out from the loss.

    Every element moves by the step size, against the sign of an average of its gradients. The step size is what
    minimises a model of the loss made of running averages, cut off at ``lower_bound``, over the box of radius ``lr``
    around the parameters: while the cap ``lr`` is binding this *is* Lion. Source of the base method: Chen et al.,
    "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023 (arXiv 2302.06675). With equal betas it is Signum
    (Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018, arXiv 1802.04434), and
    with betas of 0 signSGD, which keeps no average. MoMo's step size for them is this package's own.

    The lower bound cannot be estimated: the estimate rests on a quadratic metric.

    Args:
        params: Parameters or parameter groups. Groups may differ in ``lr`` and ``weight_decay`` and are solved
            jointly.
        lr: Cap on the step size, in [0, inf): the largest change of an element in one step. A good rate for Lion is 3
            to 10 times smaller than for AdamW, such as 1e-4; the default cap is ten times that, as MomoAdam's is ten
            times Adam's.
        betas: Weights of the past, each in [0, 1): in the average whose sign is taken, and in the average that is kept
            for the next step.
        weight_decay: Decoupled weight decay (``param * (1 - lr * weight_decay)`` before the step), in [0, inf). For
            the decay of AdamW it is to be as many times larger as ``lr`` is smaller.
        lower_bound: Lower bound of the loss, in units of the loss. 0 is right for a cross-entropy without label
            smoothing.
        slope: ``"direction"``, or ``"batch"`` to use the l1 norms of the gradients of single batches where they are
            larger. This option and the next two are not from MoMo's paper.
        gap: ``"bound"``, or ``"progress"`` to use the decrease of the loss over the last octave of training in place
            of the distance to ``lower_bound``.
        caution: Factor of the slope, in (0, inf): steps below the cap are shorter by it.
        kernel: How the inner products are computed: ``"eager"`` (torch operations), ``"compiled"`` (CPU, needs a C
            compiler; it takes the step too), ``"triton"`` (GPU, needs triton), or ``"auto"``, which takes the fastest
            at the first step.
        process_group: The ranks that train the model together: ``None`` for all ranks of the job, a
            ``torch.distributed.ProcessGroup``, or ``"self"`` for an optimizer on one rank that is not data-parallel.
        sharded: Whether plain parameters are pieces of a partition, held by one rank each (FSDP1's flat parameters,
            ZeRO's partitions). The integrations set it; DTensors (FSDP2, tensor parallelism) say it themselves.

    Raises:
        ValueError: If an argument is out of range, parameters are complex or on several devices, or groups disagree in
            what they must share.
        TypeError: If an argument is not a number, or ``adapt_lower_bound`` is passed.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
        >>> optimizer = MomoLion([weight], lr=1.0)
        >>> loss = weight.square().sum()
        >>> loss.backward()
        >>> _ = optimizer.step(loss=loss)
        >>> weight.data  # the cap was binding: 25 / ||grad||_1 is larger than 1
        tensor([ 2., -3.])
    """

    direction = LionDirection()

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        lower_bound: float = 0.0,
        slope: str = "direction",
        gap: str = "bound",
        caution: float = 1.0,
        kernel: str = "auto",
        process_group: ProcessGroup = None,
        sharded: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "lower_bound": lower_bound,
            "slope": slope,
            "gap": gap,
            "caution": caution,
            "kernel": kernel,
        }
        super().__init__(params, defaults, process_group=process_group, sharded=sharded)
