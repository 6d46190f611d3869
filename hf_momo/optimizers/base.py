"""The step of every optimizer, written as the algorithm, and the state that survives every checkpoint.

A step measures first and writes afterwards. Until the loss and every inner product are known to be finite, on the
device, nothing of the model or the optimizer has changed, so a bad batch leaves no trace but a count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import ParamsT

from hf_momo.estimates import Progress, SlopeAverage
from hf_momo.kernels import Kernel, KernelChoice
from hf_momo.optimizers import checkpoints, scalars
from hf_momo.optimizers.checks import (
    check_has_estimate,
    check_params,
    check_sample_weight,
    check_sharded,
    given_loss,
    loss_and_excess,
)
from hf_momo.optimizers.direction import COMMON_OPTIONS, Direction, check_estimates, wants_batch_slope
from hf_momo.optimizers.group_tensors import Block, collect, exact_dtype
from hf_momo.optimizers.options import Option, check_options, check_shared, choice
from hf_momo.optimizers.records import LastStep
from hf_momo.sharding import ProcessGroup, Ranks, check_process_group
from hf_momo.step_size import Averaging, GroupSettings, GroupSums, LossModel, Step, averaging, take_step


class MomoOptimizer(torch.optim.Optimizer):
    """Base of the optimizers with MoMo's step size: the step, and the state of the model of the loss."""

    direction: ClassVar[Direction]
    """The base method."""

    option_keys: ClassVar[Mapping[str, str]] = {}
    """Names of constructor arguments whose keys in the parameter groups are others, with these keys."""

    def __init_subclass__(cls) -> None:
        # Python 3.10 shows the signature of an inherited ``__new__`` in place of that of an inherited ``__init__``.
        cls.__init__ = cls.__init__  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **options: Any) -> MomoOptimizer:
        # Python's own error for an unknown argument gives no reason.
        check_has_estimate(cls, options)
        return super().__new__(cls)

    def __init__(
        self, params: ParamsT, defaults: dict[str, Any], *, process_group: ProcessGroup, sharded: bool
    ) -> None:
        choice(*self.direction.kernels).check("kernel", defaults["kernel"])
        self._kernel_choice = KernelChoice(defaults["kernel"])
        self._ranks = Ranks(check_process_group(process_group))
        self.sharded = sharded
        super().__init__(params, defaults)

    @property
    def process_group(self) -> ProcessGroup:
        """The ranks that train the model together: ``None`` for all, a group, or ``"self"``."""
        return self._ranks.process_group

    @property
    def sharded(self) -> bool:
        """Whether plain parameters are pieces of a partition (FSDP1, ZeRO), held by one rank each.

        Set by the integration, which knows how the model was prepared; DTensors describe themselves.
        """
        return self._ranks.sharded

    @sharded.setter
    def sharded(self, value: bool) -> None:
        check_sharded(type(self), value)
        self._ranks.sharded = value

    @property
    def per_group_options(self) -> tuple[str, ...]:
        """Names of the options that parameter groups may differ in."""
        return tuple(name for name, option in self._options.items() if not option.shared and name in self.defaults)

    def direction_of(self, group: Mapping[str, Any]) -> Direction:
        """Return the base method of a parameter group."""
        return self.direction

    @property
    def entries(self) -> Sequence[MutableMapping[str, Any]]:
        """Entries of each parameter group, with those of the model of the loss."""
        return self.param_groups

    @property
    def setting_names(self) -> tuple[str, ...]:
        """Keys in ``entries`` that the constructor set."""
        return tuple(self.defaults)

    @property
    def _options(self) -> Mapping[str, Option]:
        return {**COMMON_OPTIONS, **self.direction.options}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_ranks": self._ranks, "_kernel_choice": self._kernel_choice}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # torch's load_state_dict ends here, after its hooks and before anything has changed.
        if "_ranks" not in state:
            checkpoints.check(self, state)
        super().__setstate__(state)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as ``torch.optim.Optimizer`` does; tensors in the groups are copies."""
        return checkpoints.with_copied_entries(self.param_groups, super().state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict as ``torch.optim.Optimizer`` does; every running average keeps its precision."""
        with checkpoints.keeping_precision(self):
            super().load_state_dict(state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, also during training: it joins the model of the loss as it stands.

        Args:
            param_group: ``{"params": ..., option: value}``; options left out take the optimizer's defaults.

        Raises:
            ValueError: If an option is out of range, or one that all groups share differs from the others'.
        """
        check_has_estimate(type(self), param_group)
        if not self.option_keys.keys().isdisjoint(param_group):
            param_group = {self.option_keys.get(name, name): value for name, value in param_group.items()}
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        # Which kernel runs is a matter of this machine, and a checkpoint restores the entries of the groups.
        group.pop("kernel", None)
        try:
            group["initial_lower_bound"] = group["lower_bound"]
            check_options(group, self._options)
            check_estimates(group, self.direction_of(group))
            check_params(group["params"])
            check_shared(self.param_groups, self._options)
            group["initial_lower_bound"] = float(group["initial_lower_bound"])
            scalars.device_of(self.param_groups)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        scalars.join(self.param_groups)

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
        lower_bound: Tensor | float | None = None,
    ) -> Any:
        """Take one step.

        Args:
            closure: Computes the loss, calls ``backward`` on it and returns it. Give this or ``loss``. Beside ``loss``
                it must return ``None``, as the closure that PyTorch Lightning passes does.
            loss: The loss whose gradients stand in ``param.grad``, a real scalar: the sum of what was back-propagated
                since the gradients were last set to zero.
            sample_weight: Factor in (0, 1] by which the gradients were scaled after ``backward`` while ``loss`` was
                not, as gradient clipping does: ``min(1, max_norm / norm)``. Without it clipping makes MoMo *more*
                aggressive, because the loss seems too large for its gradient.
            lower_bound: Lower bound of the loss of this batch, a real scalar on any device and in units of ``loss``,
                such as the loss of a teacher on it. The step uses the running average of these bounds, weighted as the
                losses are. ``None`` is the bound that the optimizer was made with.

        Returns:
            The loss as it was given.

        Raises:
            ValueError: If no loss is given, or it is not a scalar, or both ``closure`` and ``loss`` give one, or
                ``sample_weight`` is out of range, or ``lower_bound`` is given with ``adapt_lower_bound=True``, or
                parameters are on several devices or were resized.
            TypeError: If the loss, the sample weight or the bound is not a real number.
            RuntimeError: If a gradient is sparse or complex.
        """
        loss = given_loss(closure, loss)
        check_shared(self.param_groups, self._options)
        blocks = self._blocks()
        if loss is None and all(float(group["lr"]) == 0.0 for group in self.param_groups):
            # torch's distributed checkpoint calls a bare step() at lr 0 to have the state that it loads into.
            return None
        scalars.place(self.entries)

        # loss -> measure -> reduce -> rule -> commit
        values = loss_and_excess(loss, lower_bound, self.entries[0])
        weights = self._averaging()
        values, sums = self._ranks.sum(values, torch.stack([self._measure(block, weights) for block in blocks]))
        step = self._rule(values, sums, [block.settings for block in blocks], weights, sample_weight)
        self._commit(step, blocks, weights)
        return loss

    @property
    def last_step(self) -> LastStep:
        """Results of the last committed step (waits for the device)."""
        return LastStep.of(self.entries)

    def _blocks(self) -> list[Block]:
        blocks = []
        for group in self.param_groups:
            direction = self.direction_of(group)
            trained, frozen = collect(group, self.state, partial(direction.new_state, group), self._ranks)
            decoupled = direction.decays_in_model(group)
            lr, weight_decay = scalars.zero_dim(group["lr"]), group["weight_decay"]
            dual_norm = direction.batch_slope == "dual norm"
            blocks.append(Block(group, GroupSettings(lr, weight_decay, decoupled, dual_norm), trained, []))
            if frozen:
                blocks.append(Block(group, GroupSettings(0.0, 0.0, decoupled, dual_norm), frozen, []))
        return blocks

    def _averaging(self) -> Averaging:
        direction = self.direction_of(group := self.entries[0])
        return averaging(
            self._scalar("num_steps"),
            direction.beta(group),
            model_beta=direction.model_beta(group),
            start_at_first_sample=direction.starts_at_first_sample(group),
        )

    @property
    def _kernel(self) -> Kernel:
        params = (param for group in self.param_groups for param in group["params"])
        return self._kernel_choice.get(self._scalar("num_steps").device, params)

    def _measure(self, block: Block, weights: Averaging) -> Tensor:
        """Return this rank's share of the sums of a block: each piece's over the number of ranks that hold it."""
        direction, shares = self.direction_of(block.group), []
        for replicas, tensors in block.parts:
            filled = direction.filled(tensors)
            if filled.params:
                sums, made = direction.measure(block.group, filled, weights, self._kernel)
                shares.append(sums / replicas)
            block.made.append(made if filled.params else None)
        if not shares:
            return self._scalar("num_steps").new_zeros(4 if wants_batch_slope(block.group) else 3)
        return shares[0] if len(shares) == 1 else torch.stack(shares).sum(dim=0)

    def _rule(
        self,
        values: Tensor,
        sums: Tensor,
        settings: list[GroupSettings],
        weights: Averaging,
        sample_weight: Tensor | float,
    ) -> Step:
        first, (loss, excess) = self.entries[0], values.unbind()
        if isinstance(sample_weight, Tensor):
            sample_weight = sample_weight.detach().reshape(()).to(loss)
        else:
            check_sample_weight(sample_weight)
        return take_step(
            scalars.read(first, LossModel),
            loss,
            GroupSums(*sums.unbind(dim=1)),
            settings,
            weights,
            sample_weight=sample_weight,
            initial_lower_bound=first["initial_lower_bound"],
            adapt_lower_bound=first.get("adapt_lower_bound", False),
            bound_excess=excess,
            slope_average=scalars.read(first, SlopeAverage) if wants_batch_slope(first) else None,
            progress=scalars.read(first, Progress) if first.get("gap") == "progress" else None,
            caution=first.get("caution", 1.0),
        )

    def _commit(self, step: Step, blocks: list[Block], weights: Averaging) -> None:
        skip = torch.where(step.finite, 0.0, 1.0)
        scale = step.scale.to(exact_dtype(skip.device))
        for block in blocks:
            direction, (lr, weight_decay, *_) = self.direction_of(block.group), block.settings
            decays_first = direction.decays_first(block.group)
            keep = 1.0 - lr * weight_decay if decays_first else block.settings.shrinkage
            decays = isinstance(weight_decay, Tensor) or weight_decay != 0.0
            for (_, tensors), made in zip(block.parts, block.made, strict=True):
                if not tensors.params:
                    continue
                if decays and decays_first:
                    tensors.shrink(keep, step.finite)
                # Without alpha the 0-d tensor would be taken for a Python number: a read that waits for the device.
                torch._foreach_add_([state["step"] for state in tensors.states], 1.0 - skip, alpha=1)
                direction.commit(block.group, direction.filled(tensors), weights, made, scale * lr, skip)
                if decays and not decays_first:
                    tensors.shrink(keep, step.finite)
        scalars.write(self.entries, step)

    def _scalar(self, name: str) -> Tensor:
        value: Tensor = self.entries[0][name]
        return value
