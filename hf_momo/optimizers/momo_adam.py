"""MomoAdam: Adam with MoMo's adaptive step size (the paper's Algorithm 2)."""

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
from hf_momo.optimizers.options import betas, choice, number
from hf_momo.sharding import ProcessGroup
from hf_momo.step_size import Averaging, bias_correction


class AdamDirection(Direction):
    """The averaged gradient in Adam's metric ``sqrt(exp_avg_sq / bias_correction2) + eps``.

    Every parameter corrects for the steps since its own first gradient, as in ``torch.optim.Adam``.
    """

    options: ClassVar = {
        "betas": betas((0.9, 0.999)),
        "eps": number(at_least=0.0),
        "weight_decay_form": choice("proximal", "adamw", shared=True),
    }

    batch_slope = "metric"
    base_cls: ClassVar[str | None] = "AdamW"

    def base_options(self, group: Group) -> Mapping[str, Any]:
        # torch's fused kernel is ours too.
        return {"fused": True}

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def beta(self, group: Group) -> float:
        return float(group["betas"][0])

    def decays_first(self, group: Group) -> bool:
        return bool(group["weight_decay_form"] == "adamw")

    def measure(self, group: Group, tensors: GroupTensors, averaging: Averaging, kernel: Kernel) -> Measured:
        dtype = averaging.bias_correction.dtype
        num_steps = torch.stack(tensors.state("step")).to(dtype) + 1
        beta1, beta2 = group["betas"]
        return Measured(
            kernel.measure_adam(
                *tensors.columns(self.state_names(group)),
                betas=(beta1, beta2),
                eps=group["eps"],
                bias_corrections=(bias_correction(beta1, num_steps), bias_correction(beta2, num_steps)),
                dtype=dtype,
                batch_slope=wants_batch_slope(group),
            )
        )

    def commit(
        self, group: Group, tensors: GroupTensors, averaging: Averaging, made: Any, lr: Tensor, skip: Tensor
    ) -> None:
        columns, counters = tensors.columns(self.state_names(group)), tensors.state("step")
        fused_adam(columns, counters, betas=group["betas"], eps=group["eps"], lr=lr, skip=skip)


def fused_adam(
    columns: Sequence[Sequence[Tensor]],
    counters: Sequence[Tensor],
    *,
    betas: tuple[float, float],
    eps: float,
    lr: Tensor,
    skip: Tensor,
) -> None:
    """Update parameters and both averages by torch's fused Adam kernel, unless the step is skipped.

    Args:
        columns: Lists of parameters, gradients (read only), ``exp_avg`` and ``exp_avg_sq``.
        counters: Number of steps of each parameter, this one included.
        betas: Weights of the past in the averages.
        eps: Added to the root of the second moment.
        lr: 0-d, the rate.
        skip: 0-d; where it is 1.0 nothing is written.
    """

    def adam(
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        torch._fused_adam_(
            params,
            grads,
            exp_avgs,
            exp_avg_sqs,
            [],
            steps,
            lr=lr,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=0.0,
            eps=eps,
            amsgrad=False,
            maximize=False,
            found_inf=skip.float(),
        )

    apply_fused(adam, columns, read_only=(1,), counters=counters)


class MomoAdam(MomoOptimizer):
    r"""Adam whose step size is worked out from the loss.

    The direction is that of ``torch.optim.Adam``. The step size is what minimises, in Adam's metric, a model of the
    loss made of running averages, cut off at ``lower_bound``, and never more than ``lr``: while that cap is binding
    this *is* Adam. Source: Schaipp et al., ICML 2024 (arXiv 2305.07583), Algorithm 2; with ``adapt_lower_bound`` its
    section 4.

    A parameter that gets its first gradient later than others has its own bias correction, as in ``torch.optim.Adam``.

    Args:
        params: Parameters or parameter groups. Groups may differ in ``lr``, ``weight_decay`` and ``eps`` and are
            solved jointly.
        lr: Cap on the step size, in [0, inf), in the unit of Adam's learning rate.
        betas: Weights of the past in the averages of loss and gradient, and of the squared gradient, each in [0, 1).
        eps: Added to the root of the second moment, in [0, inf).
        weight_decay: Coefficient of the weight decay, in [0, inf).
        weight_decay_form: ``"proximal"`` (``param / (1 + lr * weight_decay)`` after the step) or ``"adamw"``
            (``param * (1 - lr * weight_decay)`` before it).
        lower_bound: Lower bound of the loss, in units of the loss. 0 is right for a cross-entropy without label
            smoothing.
        adapt_lower_bound: Estimate the bound on the fly (the paper's MoMo-Adam*); ``lower_bound`` is then its floor.
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
        >>> layer = torch.nn.Linear(4, 1)
        >>> optimizer = MomoAdam(layer.parameters(), lr=1e-2)
        >>> loss = layer(torch.ones(2, 4)).square().mean()
        >>> loss.backward()
        >>> _ = optimizer.step(loss=loss)
        >>> optimizer.last_step.num_steps
        1
    """

    direction = AdamDirection()

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        weight_decay_form: str = "proximal",
        lower_bound: float = 0.0,
        adapt_lower_bound: bool = False,
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
            "eps": eps,
            "weight_decay": weight_decay,
            "weight_decay_form": weight_decay_form,
            "lower_bound": lower_bound,
            "adapt_lower_bound": adapt_lower_bound,
            "slope": slope,
            "gap": gap,
            "caution": caution,
            "kernel": kernel,
        }
        super().__init__(params, defaults, process_group=process_group, sharded=sharded)
