"""What Momo and MomoAdam share: one step, written as the algorithm, and the state that survives every checkpoint.

A step measures first and writes afterwards. Until the loss and every inner product are known to be finite, on the
device, nothing of the model or the optimizer has changed, so a bad batch leaves no trace but a count.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import ParamsT

from hf_momo import sharding
from hf_momo.kernels import Kernel, check_kernel, get_kernel
from hf_momo.optimizers import scalars
from hf_momo.optimizers.checks import (
    check_group,
    check_same_in_all_groups,
    check_sample_weight,
    resolve_loss,
)
from hf_momo.optimizers.group_tensors import GroupTensors, local_tensors, make_state
from hf_momo.optimizers.records import LastStep
from hf_momo.sharding import ProcessGroup
from hf_momo.step_size import GroupSettings, GroupSums, LossModel, Step, take_step


class MomoOptimizer(torch.optim.Optimizer):
    """Base of the optimizers with MoMo's step size; see ``Momo`` and ``MomoAdam``."""

    _shared_options: tuple[str, ...] = ("initial_lower_bound", "adapt_lower_bound")
    """Group entries that must agree across groups, since there is one model of the loss."""

    # Facts of this job and not of a checkpoint, so they stand outside of the parameter groups.
    _process_group: ProcessGroup = None
    _sharded = False
    # Of the first step, when the parameters' device is known. Copies and pickles choose anew.
    _chosen_kernel: tuple[torch.device, Kernel] | None = None

    def __init__(
        self, params: ParamsT, defaults: dict[str, Any], *, process_group: ProcessGroup, sharded: bool
    ) -> None:
        check_kernel(defaults["kernel"])
        self._process_group = sharding.check_process_group(process_group)
        self.sharded = sharded
        self._chosen_kernel = None
        super().__init__(params, defaults)

    @property
    def process_group(self) -> ProcessGroup:
        """The ranks that train the model together: ``None`` for all, a group, or ``"self"``."""
        return self._process_group

    @property
    def sharded(self) -> bool:
        """Whether plain parameters are pieces of a partition (FSDP1, ZeRO), held by one rank each.

        Set by the integration, which knows how the model was prepared; DTensors need no saying.
        """
        return self._sharded

    @sharded.setter
    def sharded(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"sharded: got {value!r}, must be True or False")
        self._sharded = value

    def __getstate__(self) -> dict[str, Any]:
        if not (self._process_group is None or isinstance(self._process_group, str)):
            raise TypeError(
                "process_group: an optimizer with a process group of its own cannot be copied or pickled, because the"
                " group belongs to this process; save optimizer.state_dict() instead"
            )
        own = {"_process_group": self._process_group, "_sharded": self._sharded}
        return {**super().__getstate__(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` gave.

        Raises:
            RuntimeError: If the model of the loss is there but every running average is missing, as in a sharded
                optimizer checkpoint of FSDP1.
            ValueError: If the parameter groups do not fit.
        """
        steps = max((float(group.get("num_steps", 0.0)) for group in state_dict["param_groups"]), default=0.0)
        if steps > 0 and not state_dict["state"] and any(len(group["params"]) for group in self.param_groups):
            raise RuntimeError(
                f"state_dict: holds {steps:g} steps but no running averages (exp_avg), so training would go on from"
                " nothing. FSDP version 1 saves no optimizer state in sharded checkpoints: use FSDP2"
                " (fsdp_version: 2), or start anew from the saved weights"
            )
        super().load_state_dict(state_dict)

    @property
    def _kernel(self) -> Kernel:
        device = self._scalar("num_steps").device
        if self._chosen_kernel is None or self._chosen_kernel[0] != device:
            sizes = [param.numel() for group in self.param_groups for param in group["params"]]
            self._chosen_kernel = device, get_kernel(self.defaults["kernel"], device, sum(sizes), len(sizes))
        return self._chosen_kernel[1]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, also during training: it joins the model of the loss as it stands.

        Args:
            param_group: ``{"params": ..., option: value}``; options left out take the optimizer's defaults.

        Raises:
            ValueError: If an option is out of range, or one that all groups share differs from the others'.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        # Which kernel runs is a matter of this machine and not of a checkpoint, which restores what stands in the
        # groups.
        group.pop("kernel", None)
        try:
            group["initial_lower_bound"] = group["lower_bound"]
            check_group(group)
            check_same_in_all_groups(self.param_groups, self._shared_options)
            group["initial_lower_bound"] = float(group["initial_lower_bound"])
            scalars.device_of(self.param_groups)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        for name in scalars.SCALARS:
            model = self.param_groups[0].get(name, 0.0) if len(self.param_groups) > 1 else 0.0
            group[name] = torch.as_tensor(model).detach().clone()
        if len(self.param_groups) == 1:
            group["lower_bound"] = torch.tensor(group["initial_lower_bound"], dtype=torch.float64)
        scalars.place(self.param_groups)

    # In a compiled training loop the step is one call out of the graph, as torch's fused kernels are. Traced, it would
    # fall into nine graphs. This is what torch.optim marks its own methods with; it loads nothing until it is called.
    @_disable_dynamo
    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        loss: Tensor | float | None = None,
        sample_weight: Tensor | float = 1.0,
    ) -> Any:
        """Take one step.

        Args:
            closure: Computes the loss, calls ``backward`` on it and returns it. Give this or ``loss``.
            loss: The loss whose gradients stand in ``param.grad``, a real scalar: the sum of what was back-propagated
                since the gradients were last set to zero.
            sample_weight: Factor in (0, 1] by which the gradients were scaled after ``backward`` while ``loss`` was
                not, as gradient clipping does: ``min(1, max_norm / norm)``. Without it clipping makes MoMo *more*
                aggressive, because the loss seems too large for its gradient.

        Returns:
            The loss as it was given.

        Raises:
            ValueError: If no loss is given, or it is not a scalar, or both ``closure`` and ``loss`` are given, or
                ``sample_weight`` is out of range, or parameters are on several devices.
            TypeError: If the loss or the sample weight is not a real number.
            RuntimeError: If a gradient is sparse or complex.
        """
        if closure is not None and loss is not None:
            raise ValueError("loss: got a loss and a closure; give one of them")
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        tensors = [self._group_tensors(group) for group in self.param_groups]
        if loss is None and all(float(group["lr"]) == 0.0 for group in self.param_groups):
            # torch's distributed checkpoint calls a bare step() at lr 0 to have the state made before it loads into
            # it.
            return None
        scalars.place(self.param_groups)

        # loss -> measure -> reduce -> rule -> commit
        value = resolve_loss(loss, like=self._scalar("loss_avg"))
        shares = [self._measure_share(group, local) for group, local in zip(self.param_groups, tensors, strict=True)]
        value, sums = sharding.sum_over_ranks(value, torch.stack(shares), self._process_group)
        step = self._rule(value, sums, sample_weight)
        self._commit(step, tensors)
        return loss

    @property
    def last_step(self) -> LastStep:
        """What the last committed step did (waits for the device)."""
        group = self.param_groups[0]
        return LastStep(
            step_size=tuple(float(each["step_size"]) for each in self.param_groups),
            capped=float(group["step_scale"]) >= 1.0,
            loss_avg=float(group["loss_avg"]),
            lower_bound=float(group["lower_bound"]),
            num_steps=int(group["num_steps"]),
            capped_steps=int(group["capped_steps"]),
            skipped_steps=int(group["skipped_steps"]),
            zero_steps=int(group.get("zero_steps", 0)),
        )

    # The parts of the step that differ between the optimizers.

    @abstractmethod
    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Names of the per-parameter averages."""

    @abstractmethod
    def _beta(self, group: dict[str, Any]) -> float:
        """Weight of the past in the averages of loss and gradient."""

    @abstractmethod
    def _starts_at_first_sample(self, group: dict[str, Any]) -> bool:
        """Whether the averages start at the first sample instead of at zero."""

    @abstractmethod
    def _measure(self, group: dict[str, Any], tensors: GroupTensors) -> Tensor:
        """``<d, x>``, ``<g, x>`` and the squared norm of the direction over the group, shape ``(3,)``."""

    @abstractmethod
    def _update(
        self, group: dict[str, Any], tensors: GroupTensors, lr: Tensor, bias_correction: Tensor, skip: Tensor
    ) -> None:
        """Update averages and parameters by a step of ``lr / bias_correction`` with torch's fused kernel.

        Where ``skip`` is 1.0, nothing may be written.
        """

    def _shrinks_first(self, group: dict[str, Any]) -> bool:
        """Whether the weight decay comes before the step (``"adamw"``) instead of after it (``"proximal"``)."""
        return False

    # What they share.

    def _measure_share(self, group: dict[str, Any], tensors: GroupTensors) -> Tensor:
        """This rank's share of the sums of a group: each piece's over the number of ranks that hold it."""
        shares = [self._measure(group, part) / replicas for replicas, part in tensors.by_replicas().items()]
        return shares[0] if len(shares) == 1 else torch.stack(shares).sum(dim=0)

    def _group_tensors(self, group: dict[str, Any]) -> GroupTensors:
        params = [param for param in group["params"] if param.grad is not None or self.state.get(param)]
        local, grads = local_tensors(params, group)
        names = self._state_names(group)
        states = [make_state(self.state[param], param, names) for param in params]
        replicas = sharding.num_replicas(params, self._process_group, sharded=self._sharded)
        return GroupTensors(local, grads, states, replicas)

    def _rule(self, loss: Tensor, sums: Tensor, sample_weight: Tensor | float) -> Step:
        first = self.param_groups[0]
        if isinstance(sample_weight, Tensor):
            sample_weight = sample_weight.detach().reshape(()).to(loss)
        else:
            check_sample_weight(sample_weight)
        model = LossModel(*(self._scalar(name) for name in LossModel._fields))
        settings = [GroupSettings(group["lr"], group["weight_decay"]) for group in self.param_groups]
        return take_step(
            model,
            loss,
            GroupSums(*sums.unbind(dim=1)),
            settings,
            beta=self._beta(first),
            sample_weight=sample_weight,
            start_at_first_sample=self._starts_at_first_sample(first),
            initial_lower_bound=first["initial_lower_bound"],
            adapt_lower_bound=first["adapt_lower_bound"],
        )

    def _commit(self, step: Step, tensors: list[GroupTensors]) -> None:
        skip = torch.where(step.finite, 0.0, 1.0)
        for group, local in zip(self.param_groups, tensors, strict=True):
            keep = GroupSettings(group["lr"], group["weight_decay"]).shrinkage
            if self._shrinks_first(group):
                keep = 1.0 - group["lr"] * group["weight_decay"]
                self._shrink(group, local, keep, step.finite)
            if local.params:
                # Without alpha the 0-d tensor would be taken for a Python number: a read that waits for the device.
                torch._foreach_add_([state["step"] for state in local.states], 1.0 - skip, alpha=1)
                lr = step.scale.to(self._exact_dtype(skip.device)) * group["lr"]
                self._update(group, local, lr, step.bias_correction, skip)
            if not self._shrinks_first(group):
                self._shrink(group, local, keep, step.finite)
        scalars.write(self.param_groups, step)

    @staticmethod
    def _exact_dtype(device: torch.device) -> torch.dtype:
        # In float64 a capped step has exactly the user's lr, so it is torch's Adam or SGD to the bit. Accelerators'
        # fused kernels read a float32 lr.
        return torch.float64 if device.type == "cpu" else torch.float32

    def _shrink(self, group: dict[str, Any], tensors: GroupTensors, keep: float | Tensor, finite: Tensor) -> None:
        if not tensors.params or (not isinstance(group["weight_decay"], Tensor) and group["weight_decay"] == 0.0):
            return
        # Filled on the device: a copy from the host would wait for it.
        factor = torch.ones((), dtype=self._exact_dtype(finite.device), device=finite.device) * keep
        # The overload by name: torch._foreach_mul_ would read a 0-d tensor as a Python number and wait for the device.
        torch.ops.aten._foreach_mul_.Tensor(tensors.params, torch.where(finite, factor, 1.0))

    def _scalar(self, name: str) -> Tensor:
        value: Tensor = self.param_groups[0][name]
        return value
