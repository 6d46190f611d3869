"""MomoSignum: Signum (the sign of the averaged gradient) with MoMo's adaptive step size."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from hf_momo.kernels import Kernel, eager
from hf_momo.kernels.slices import flat_pieces, piece_size
from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.direction import Direction, Group, Measured, wants_batch_slope
from hf_momo.optimizers.fused import apply_fused
from hf_momo.optimizers.group_tensors import GroupTensors
from hf_momo.optimizers.options import number
from hf_momo.sharding import ProcessGroup
from hf_momo.step_size import Averaging


class SignumDirection(Direction):
    """The sign of the averaged gradient. The slope is its l1 norm, the dual of the norm that bounds the step."""

    options: ClassVar = {"momentum": number(at_least=0.0, below=1.0, shared=True)}
    kernels = ("auto", "eager")

    batch_slope = "dual norm"

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg",) if group["momentum"] > 0.0 else ()

    def beta(self, group: Group) -> float:
        return float(group["momentum"])

    def decays_first(self, group: Group) -> bool:
        return True

    def decays_in_model(self, group: Group) -> bool:
        return True

    def measure(self, group: Group, tensors: GroupTensors, averaging: Averaging, kernel: Kernel) -> Measured:
        scratch = eager.Scratch(tensors.params, averaging.bias_correction.dtype)

        def direction(row: int, param: Tensor, grad: Tensor, *exp_avg: Tensor) -> tuple[Tensor, ...]:
            norm = (torch.linalg.vector_norm(grad, 1),) if wants_batch_slope(group) else ()
            averaged = torch.lerp(exp_avg[0], grad, averaging.grad_weight) if exp_avg else grad
            return averaged, torch.sign(averaged, out=scratch.first(grad.numel())), *norm

        return Measured(eager.measure_direction(tensors.columns(self.state_names(group)), direction, scratch))

    def commit(
        self, group: Group, tensors: GroupTensors, averaging: Averaging, made: Any, lr: Tensor, skip: Tensor
    ) -> None:
        def signum(params: list[Tensor], grads: list[Tensor], *averages: list[Tensor]) -> None:
            if averages:
                # torch's fused SGD at rate 0 updates the average, and leaves it alone in a skipped step.
                torch._fused_sgd_(
                    params,
                    grads,
                    *averages,
                    weight_decay=0.0,
                    momentum=averaging.beta,
                    lr=0.0,
                    dampening=averaging.beta,
                    nesterov=False,
                    maximize=False,
                    is_first_step=False,
                    found_inf=skip.float(),
                )
            for row in zip(params, averages[0] if averages else grads, strict=True):
                # Views, since these tensors share a dense layout.
                for param, averaged in flat_pieces(row, piece_size(row[0].device)):
                    param.sub_(torch.where(skip > 0, 0.0, averaged.sign() * lr))

        apply_fused(signum, tensors.columns(self.state_names(group)), read_only=(1,), widen_on_cpu=True)


class MomoSignum(MomoOptimizer):
    r"""Signum whose step size is worked out from the loss.

    Every coordinate moves by the step size, against the sign of its averaged gradient. The step size minimises a model
    of the loss made of running averages, cut off at ``lower_bound``, over the box of radius ``lr`` around the
    parameters: while the cap ``lr`` is binding this *is* Signum. Source of the base method: Bernstein, Wang,
    Azizzadenesheli, Anandkumar, "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018
    (arXiv 1802.04434). MoMo's step size for it is this package's own.

    Args:
        params: Parameters or parameter groups. Groups may differ in ``lr`` and ``weight_decay`` and are solved
            jointly.
        lr: Cap on the step size, in [0, inf): the largest change of a coordinate in one step.
        momentum: Weight of the past in the running averages, in [0, 1).
        weight_decay: Decoupled weight decay (``param * (1 - lr * weight_decay)`` before the step), in [0, inf).
        lower_bound: Lower bound of the loss, in units of the loss.
        slope: ``"direction"``, or ``"batch"`` to use the l1 norms of the gradients of single batches where they are
            larger. This option and the next two are not in the paper.
        gap: ``"bound"``, or ``"progress"`` to use the decrease of the loss over the last octave of training in place
            of the distance to ``lower_bound``.
        caution: Factor of the slope, in (0, inf): steps below the cap are shorter by it.
        kernel: ``"auto"`` or ``"eager"`` (torch operations), which are the same here.
        process_group: The ranks that train the model together: ``None`` for all ranks of the job, a
            ``torch.distributed.ProcessGroup``, or ``"self"`` for an optimizer on one rank that is not data-parallel.
        sharded: Whether plain parameters are pieces of a partition, held by one rank each (FSDP1, ZeRO). The
            integrations set it.

    Raises:
        ValueError: If an argument is out of range, parameters are complex or on several devices, or groups disagree in
            an option that they must share.
        TypeError: If an argument is not a number.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
        >>> optimizer = MomoSignum([weight], lr=1.0)
        >>> loss = weight.square().sum()
        >>> loss.backward()
        >>> _ = optimizer.step(loss=loss)
        >>> weight.data  # the cap was binding: 25 / ||grad||_1 is larger than 1
        tensor([ 2., -3.])
    """

    direction = SignumDirection()

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        *,
        momentum: float = 0.9,
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
            "momentum": momentum,
            "weight_decay": weight_decay,
            "lower_bound": lower_bound,
            "slope": slope,
            "gap": gap,
            "caution": caution,
            "kernel": kernel,
        }
        super().__init__(params, defaults, process_group=process_group, sharded=sharded)
