"""Momo: SGD with momentum and MoMo's adaptive step size (the paper's Algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from hf_momo.kernels import Kernel
from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.direction import Direction, Group, Measured, wants_batch_slope
from hf_momo.optimizers.fused import apply_fused
from hf_momo.optimizers.group_tensors import GroupTensors
from hf_momo.optimizers.options import flag, number
from hf_momo.sharding import ProcessGroup
from hf_momo.step_size import Averaging


class MomentumDirection(Direction):
    """The averaged gradient, in the identity metric."""

    options: ClassVar = {
        "momentum": number(at_least=0.0, below=1.0, shared=True, shown="beta"),
        "bias_correction": flag(shared=True),
    }

    batch_slope = "metric"
    base_cls = "SGD"
    base_state: ClassVar = {"exp_avg": "momentum_buffer"}

    def base_options(self, group: Group) -> Mapping[str, Any]:
        return {"dampening": group["momentum"]}

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg",) if group["momentum"] > 0.0 else ()

    def beta(self, group: Group) -> float:
        return float(group["momentum"])

    def starts_at_first_sample(self, group: Group) -> bool:
        return not group["bias_correction"]

    def measure(self, group: Group, tensors: GroupTensors, averaging: Averaging, kernel: Kernel) -> Measured:
        sums = kernel.measure_identity(
            *tensors.columns(self.state_names(group)),
            grad_weight=averaging.grad_weight,
            dtype=averaging.bias_correction.dtype,
            batch_slope=wants_batch_slope(group),
        )
        return Measured(torch.cat([sums[:2], sums[2:] / averaging.bias_correction]))

    def commit(
        self, group: Group, tensors: GroupTensors, averaging: Averaging, made: Any, lr: Tensor, skip: Tensor
    ) -> None:
        beta, lr = averaging.beta, lr / averaging.bias_correction

        def sgd(columns: Sequence[list[Tensor]], first: bool, skip: Tensor) -> None:
            params, grads, *buffers = columns
            torch._fused_sgd_(
                params,
                grads,
                buffers[0] if buffers else [],
                weight_decay=0.0,
                momentum=beta,
                lr=lr,
                dampening=beta,
                nesterov=False,
                maximize=False,
                is_first_step=first,
                found_inf=skip.float(),
            )

        # Which of the two starts applies is known on the device alone (an earlier first step may have been skipped),
        # so both are launched, each skipping itself where it does not apply.
        starts = [(False, skip)]
        if beta > 0.0 and averaging.is_first is not None:
            is_first = averaging.is_first
            starts = [(True, torch.where(is_first, skip, 1.0)), (False, torch.where(is_first, 1.0, skip))]

        def update(*columns: list[Tensor]) -> None:
            for first, each_skip in starts:
                sgd(columns, first, each_skip)

        # torch's fused SGD for CPUs leaves 16-bit parameters as they are (pytorch issue 191763, up to torch 2.13).
        apply_fused(update, tensors.columns(self.state_names(group)), read_only=(1,), widen_on_cpu=True)


class Momo(MomoOptimizer):
    r"""SGD with momentum whose step size is worked out from the loss.

    The direction is that of ``torch.optim.SGD(momentum=beta, dampening=beta)``. The step size is what minimises a
    model of the loss made of running averages, cut off at ``lower_bound``, and never more than ``lr``. Source: Schaipp
    et al., ICML 2024 (arXiv 2305.07583), Algorithm 1; with ``adapt_lower_bound`` its section 4.

    Args:
        params: Parameters or parameter groups. Groups may differ in ``lr`` and ``weight_decay`` and are solved
            jointly.
        lr: Cap on the step size, in [0, inf).
        beta: Weight of the past in the running averages, in [0, 1). With 0 this is the capped Polyak step.
        weight_decay: Proximal weight decay (``param / (1 + lr * weight_decay)`` after the step), in [0, inf).
        lower_bound: Lower bound of the loss, in units of the loss. 0 is right for most losses.
        adapt_lower_bound: Estimate the bound on the fly (the paper's MoMo*); ``lower_bound`` is then its floor.
        bias_correction: Start the averages at zero and correct for it, as Adam does, instead of at the first sample.
        slope: ``"direction"``, or ``"batch"`` to use the slope of the gradients of single batches where it is larger.
            This option and the next two are not in the paper.
        gap: ``"bound"``, or ``"progress"`` to use the decrease of the loss over the last octave of training in place
            of the distance to ``lower_bound``.
        caution: Factor of the slope, in (0, inf): steps below the cap are shorter by it.
        kernel: How the inner products are computed: ``"eager"`` (torch operations), ``"compiled"`` (CPU, needs a C
            compiler), ``"triton"`` (GPU, needs triton), or ``"auto"``, which takes the fastest at the first step.
        process_group: The ranks that train the model together: ``None`` for all ranks of the job, a
            ``torch.distributed.ProcessGroup``, or ``"self"`` for an optimizer on one rank that is not data-parallel.
        sharded: Whether plain parameters are pieces of a partition, held by one rank each (FSDP1's flat parameters,
            ZeRO's partitions). The integrations set it; DTensors (FSDP2, tensor parallelism) say it themselves.

    Raises:
        ValueError: If an argument is out of range, parameters are complex or on several devices, or groups disagree in
            what they must share.
        TypeError: If an argument is not a number.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> optimizer = Momo([weight], lr=1.0)
        >>> loss = weight.square().sum()
        >>> loss.backward()
        >>> _ = optimizer.step(loss=loss)
        >>> weight.data  # the Polyak step, loss / ||grad||^2 = 25 / 100, was below the cap
        tensor([1.5000, 2.0000])
    """

    direction = MomentumDirection()
    option_keys: ClassVar = {"beta": "momentum"}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        *,
        beta: float = 0.9,
        weight_decay: float = 0.0,
        lower_bound: float = 0.0,
        adapt_lower_bound: bool = False,
        bias_correction: bool = False,
        slope: str = "direction",
        gap: str = "bound",
        caution: float = 1.0,
        kernel: str = "auto",
        process_group: ProcessGroup = None,
        sharded: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            # The key under which torch's schedulers that cycle the momentum look for it.
            "momentum": beta,
            "weight_decay": weight_decay,
            "lower_bound": lower_bound,
            "adapt_lower_bound": adapt_lower_bound,
            "bias_correction": bias_correction,
            "slope": slope,
            "gap": gap,
            "caution": caution,
            "kernel": kernel,
        }
        super().__init__(params, defaults, process_group=process_group, sharded=sharded)
