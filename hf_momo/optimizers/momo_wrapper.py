"""MomoWrapper: MoMo's adaptive step size on any torch optimizer."""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from hf_momo.kernels import KernelChoice
from hf_momo.optimizers import base_step, scalars, wrapper_state
from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.bases import (
    beta_of,
    check_base,
    settings_in_units_of_a_step,
    weight_decay_form,
)
from hf_momo.optimizers.checks import check_params, given_loss, loss_and_excess
from hf_momo.optimizers.group_tensors import Block, collect
from hf_momo.sharding import ProcessGroup, Ranks, check_process_group
from hf_momo.step_size import Averaging, GroupSettings


class MomoWrapper(MomoOptimizer):
    r"""Any torch optimizer whose step size is worked out from the loss.

    ``base`` takes its step at its own rate. Then the parameters go back along that step, to where a model of the loss
    made of running averages reaches ``lower_bound``: ``lr`` of the base is the cap, and while the cap is binding this
    *is* the base, to the bit. The parameter groups are those of ``base`` itself, so schedulers, ``add_param_group``
    and changes of ``lr`` reach both.

    It costs a running average of the gradients, a temporary copy of the parameters, and one wait for the device in a
    step: ``base`` cannot be told to skip, so its step begins only when the loss and the gradients are known to be
    finite. A method that this package has itself (``MomoAdam`` for AdamW, ``Momo`` for SGD) is cheaper there.

    MoMo's step size for an arbitrary base is this package's own. It is exact for bases that step along a running
    average of the gradients with weight ``beta``, in any metric or norm.

    Args:
        base: The optimizer. Schedule-free and sharpness-aware methods, LBFGS, and those that update during
            ``backward`` are refused.
        beta: Weight of the past in the running averages, in [0, 1). ``None`` takes the base's momentum or first beta,
            or 0.9 if it has neither.
        lower_bound: Lower bound of the loss, in units of the loss.
        bias_correction: Whether the averages start at zero, corrected for it, instead of at the first sample. ``None``
            takes the start of the base: the first sample for ``torch.optim.SGD``, zero for all others.
        weight_decay_form: How the base decays weights. ``"adamw"``: by ``1 - lr * weight_decay``, with the model of
            ``MomoAdam(weight_decay_form="adamw")``. ``"decoupled"``: the same, with the model taken at the decayed
            parameters. Both leave the decay as it is and scale the rest of the step. ``"coupled"``: the decay is a
            part of the base's update, and scaled with it. ``"auto"`` takes what is known of the class of the base, and
            ``"coupled"`` for a class that is not known.
        kernel: How the inner products are computed, as in the other optimizers.
        process_group: The ranks that train the model together: ``None`` for all ranks of the job, a
            ``torch.distributed.ProcessGroup``, or ``"self"`` for an optimizer on one rank that is not data-parallel.

    Raises:
        ValueError: If an argument is out of range, or parameters are complex or on several devices.
        TypeError: If ``base`` is not an optimizer whose step can be scaled, or an argument is not a number.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> optimizer = MomoWrapper(torch.optim.SGD([weight], lr=1.0))
        >>> loss = weight.square().sum()
        >>> loss.backward()
        >>> _ = optimizer.step(loss=loss)
        >>> weight.data  # the Polyak step, loss / ||grad||^2 = 25 / 100, was below the cap
        tensor([1.5000, 2.0000])
    """

    direction = base_step.AveragedGradient()

    def __init__(
        self,
        base: torch.optim.Optimizer,
        *,
        beta: float | None = None,
        lower_bound: float = 0.0,
        bias_correction: bool | None = None,
        weight_decay_form: str = "auto",
        kernel: str = "auto",
        process_group: ProcessGroup = None,
    ) -> None:
        check_base(base)
        settings = {
            "beta": beta_of(base) if beta is None else beta,
            "bias_correction": type(base) is not torch.optim.SGD if bias_correction is None else bias_correction,
            "weight_decay_form": weight_decay_form,
            "initial_lower_bound": lower_bound,
        }
        for name, option in self.direction.options.items():
            option.check(option.shown or name, settings[name])
        self.base = base
        self._own: list[dict[str, Any]] = [{**settings, "initial_lower_bound": float(lower_bound)}]
        self._kernel_choice = KernelChoice(kernel)
        self._ranks = Ranks(check_process_group(process_group))
        # Sets up the hooks, as torch.optim.Optimizer.__init__ does, which would make groups of its own.
        torch.optim.Optimizer.__setstate__(self, {"state": defaultdict(dict), "defaults": dict(base.defaults)})
        for group in self.param_groups:
            check_params(group["params"])
        self._own[0] |= {name: torch.zeros(()) for name in (*scalars.SCALARS, "uphill_steps")}
        self._own[0]["lower_bound"] = torch.tensor(float(lower_bound), dtype=torch.float64)
        scalars.place(self.entries)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of the base, the same objects."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.base.param_groups = groups

    @property
    def entries(self) -> Sequence[MutableMapping[str, Any]]:
        """Entries of each parameter group of the base, with the wrapper's own before them."""
        return [ChainMap(own, group) for own, group in zip(self.own_entries, self.param_groups, strict=True)]

    @property
    def own_entries(self) -> Sequence[dict[str, Any]]:
        """The wrapper's own part of each parameter group: its options, and the model of the loss."""
        # Groups may have been added to the base behind the wrapper's back.
        for _ in range(len(self._own), len(self.param_groups)):
            self._own.append({k: v.clone() if isinstance(v, Tensor) else v for k, v in self._own[0].items()})
        return self._own

    @property
    def setting_names(self) -> tuple[str, ...]:
        own = ("beta", "lower_bound", "bias_correction", "weight_decay_form")
        return (*own, *(name for name in self.base.defaults if name not in own))

    @property
    def sharded(self) -> bool:
        """Always ``False``."""
        return False

    @sharded.setter
    def sharded(self, value: bool) -> None:
        if value:
            raise NotImplementedError(
                f"MomoWrapper: FSDP version 1 and DeepSpeed ZeRO hand {type(self.base).__name__} flat pieces of the"
                " parameters, in which an arbitrary optimizer may not find the matrices and layers that it needs, and"
                " save its state in formats of their own; use FSDP2 (fsdp_version: 2) or DistributedDataParallel"
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group to the base, also during training: it joins the model of the loss as it stands."""
        self.base.add_param_group(param_group)
        try:
            check_params(self.param_groups[-1]["params"])
            scalars.device_of(self.param_groups)
        except ValueError:
            self.param_groups.pop()
            raise

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
        """Take one step; see ``MomoOptimizer.step``."""
        loss = given_loss(closure, loss)
        blocks = self._blocks()
        if loss is None and all(float(group["lr"]) == 0.0 for group in self.param_groups):
            # torch's distributed checkpoint calls a bare step() at lr 0 to have the state made before it loads into
            # it.
            self.base.step()
            return None
        scalars.place(self.entries)

        # loss -> measure -> reduce -> step of the base -> measure and reduce its slope -> rule -> go back
        values = loss_and_excess(loss, lower_bound, self.entries[0])
        weights = self._averaging()
        values, sums = self._ranks.sum(values, torch.stack([self._measure(block, weights) for block in blocks]))
        # The one wait for the device: the base cannot be told later that its step is to be skipped.
        if not bool(torch.isfinite(torch.cat([values, sums.flatten()])).all()):
            scalars.count_skipped(self.entries)
            return loss
        self._average(blocks, weights)
        before = [base_step.copied(block) for block in blocks[::2]]
        self.base.step()
        moved = list(zip(blocks[::2], before, strict=True))
        slopes = torch.stack([base_step.measured(*each, like=values[0]) for each in moved])
        _, slopes = self._ranks.sum(torch.zeros_like(values[0]), slopes)
        # The blocks of parameters that the base did not move come second in each group.
        sums[0::2, 2], sums[1::2, 2] = slopes[:, 0], 0.0
        step = self._rule(values, sums, [block.settings for block in blocks], weights, sample_weight)
        # The model leads up, and so no step was taken, although the base would have moved.
        uphill = (step.scale <= 0) & (slopes[:, 1].sum() > 0) & ~step.below_bound
        for each in moved:
            base_step.go_back(*each, step)
        for entry in self.entries:
            entry["uphill_steps"] = entry["uphill_steps"].to(values) + (uphill & step.finite)
        scalars.write(self.entries, step._replace(below_bound=step.below_bound | uphill))
        return loss

    def _blocks(self) -> list[Block]:
        """Return two blocks for each group: the parameters that the base will move, and the others with state."""
        blocks = []
        for group in self.entries:
            trained, frozen = collect(group, self.state, partial(self.direction.new_state, group), self._ranks)
            form = group["weight_decay_form"]
            form = weight_decay_form(self.base, group) if form == "auto" else form
            moved = settings_in_units_of_a_step(group, form)
            for settings, has_grad in ((moved, True), (GroupSettings(0.0, 0.0, True), False)):
                parts = [
                    (replicas, base_step.with_grad(tensors, has_grad)) for replicas, tensors in (*trained, *frozen)
                ]
                blocks.append(Block({**group}, settings, parts, []))
        return blocks

    def _average(self, blocks: list[Block], weights: Averaging) -> None:
        for block in blocks:
            for _, tensors in block.parts:
                if tensors.params:
                    torch._foreach_add_([state["step"] for state in tensors.states], 1.0)
                    unused = weights.bias_correction
                    self.direction.commit(block.group, tensors, weights, None, unused, unused)

    def state_dict(self) -> dict[str, Any]:
        """Return the state: that of the base in its own form, and beside each of its parts the wrapper's.

        ``state[i]["base"]`` is what the base keeps for a parameter, ``param_groups[i]["momo"]`` the model of the loss,
        and ``base`` holds what else the base's ``state_dict()`` has.
        """

        def nest(optimizer: torch.optim.Optimizer, own: dict[str, Any]) -> dict[str, Any]:
            return wrapper_state.nested(self, own)

        # A hook, so that the hooks of others get the nested form.
        handle = self.register_state_dict_post_hook(nest, prepend=True)
        try:
            return super().state_dict()
        finally:
            handle.remove()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load ``state_dict()``.

        Raises:
            ValueError: If it is not that of a ``MomoWrapper``, or its parameters have other shapes.
        """

        def split(optimizer: torch.optim.Optimizer, nested: dict[str, Any]) -> dict[str, Any]:
            own, base = wrapper_state.split(self, nested)
            self.base.load_state_dict(base)
            return own

        handle = self.register_load_state_dict_pre_hook(split)
        try:
            super().load_state_dict(dict(state_dict))
        finally:
            handle.remove()

    def __getstate__(self) -> dict[str, Any]:
        names = ("defaults", "state", "base", "_own", "_ranks", "_kernel_choice")
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "base" not in state:
            # The end of torch's load_state_dict; the base has loaded its groups already.
            self._own = [dict(group["momo"]) for group in state["param_groups"]]
            state = {"state": state["state"]}
        torch.optim.Optimizer.__setstate__(self, state)
