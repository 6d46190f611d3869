"""Momo: SGD with momentum and MoMo's adaptive step size (the paper's Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.fused import apply_fused
from hf_momo.optimizers.group_tensors import GroupTensors
from hf_momo.sharding import ProcessGroup
from hf_momo.step_size import bias_correction as correction_of


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

    _shared_options = (*MomoOptimizer._shared_options, "beta", "bias_correction")

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
        kernel: str = "auto",
        process_group: ProcessGroup = None,
        sharded: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta": beta,
            "weight_decay": weight_decay,
            "lower_bound": lower_bound,
            "adapt_lower_bound": adapt_lower_bound,
            "bias_correction": bias_correction,
            "kernel": kernel,
        }
        super().__init__(params, defaults, process_group=process_group, sharded=sharded)

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg",) if group["beta"] > 0.0 else ()

    def _beta(self, group: dict[str, Any]) -> float:
        return float(group["beta"])

    def _starts_at_first_sample(self, group: dict[str, Any]) -> bool:
        return not group["bias_correction"]

    def _measure(self, group: dict[str, Any], tensors: GroupTensors) -> Tensor:
        num_steps, beta = self._scalar("num_steps"), self._beta(group)
        tensors = tensors.without_empty()
        if not tensors.params:
            return num_steps.new_zeros(3)
        weight = torch.full_like(num_steps, 1.0 - beta)
        rho = correction_of(beta, num_steps + 1)
        if self._starts_at_first_sample(group):
            weight = torch.where(num_steps == 0, 1.0, weight)
            rho = torch.ones_like(rho)
        sums = self._kernel.measure_identity(
            tensors.params,
            tensors.grads,
            tensors.state("exp_avg") if beta > 0.0 else None,
            grad_weight=weight,
            dtype=num_steps.dtype,
        )
        return torch.cat([sums[:2], (sums[2] / rho).reshape(1)])

    def _update(
        self, group: dict[str, Any], tensors: GroupTensors, lr: Tensor, bias_correction: Tensor, skip: Tensor
    ) -> None:
        beta, lr = self._beta(group), lr / bias_correction

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
        started = self._scalar("num_steps") > 0
        starts = [(False, skip)]
        if beta > 0.0 and self._starts_at_first_sample(group):
            starts = [(True, torch.where(started, 1.0, skip)), (False, torch.where(started, skip, 1.0))]

        def update(*columns: list[Tensor]) -> None:
            for first, each_skip in starts:
                sgd(columns, first, each_skip)

        buffers = [tensors.state("exp_avg")] if beta > 0.0 else []
        # torch's fused SGD for CPUs leaves 16-bit parameters as they are (pytorch issue 191763, up to torch 2.13).
        apply_fused(update, (tensors.params, tensors.grads, *buffers), read_only=(1,), widen_on_cpu=True)
