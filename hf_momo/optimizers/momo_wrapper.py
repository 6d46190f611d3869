"""MomoWrapper: MoMo's adaptive step size on any torch optimizer."""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from hf_momo import sharding
from hf_momo.kernels import Kernel, KernelChoice
from hf_momo.kernels.slices import blocks_of, flat_pieces, piece_size
from hf_momo.optimizers import checkpoints, scalars
from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.bases import WEIGHT_DECAY_FORMS, check_base, settings_in_units_of_a_step, weight_decay_form
from hf_momo.optimizers.checks import check_params, given_loss, resolve_loss
from hf_momo.optimizers.direction import Direction, Group, Measured
from hf_momo.optimizers.group_tensors import Block, GroupTensors, collect
from hf_momo.optimizers.options import choice, flag, number
from hf_momo.sharding import ProcessGroup, Ranks, check_process_group
from hf_momo.step_size import Averaging, GroupSettings, Step

_SETTINGS = ("beta", "bias_correction", "weight_decay_form", "initial_lower_bound")


class AveragedGradient(Direction):
    """The running average of the gradients that the model of the loss is made of. The base makes the update."""

    options: ClassVar = {
        "beta": number(at_least=0.0, below=1.0),
        "bias_correction": flag(),
        "weight_decay_form": choice(*WEIGHT_DECAY_FORMS),
        "initial_lower_bound": number(shown="lower_bound"),
    }

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg",)

    def beta(self, group: Group) -> float:
        return float(group["beta"])

    def starts_at_first_sample(self, group: Group) -> bool:
        return not group["bias_correction"]

    def measure(self, group: Group, tensors: GroupTensors, averaging: Averaging, kernel: Kernel) -> Measured:
        return Measured(
            kernel.measure_identity(
                *tensors.columns(self.state_names(group)),
                grad_weight=averaging.grad_weight,
                dtype=averaging.bias_correction.dtype,
            )
        )

    def commit(
        self, group: Group, tensors: GroupTensors, averaging: Averaging, made: Any, lr: Tensor, skip: Tensor
    ) -> None:
        # The step has waited for the device already, so the weight may be read.
        torch._foreach_lerp_(tensors.state("exp_avg"), tensors.grads, float(averaging.grad_weight))


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

    direction = AveragedGradient()

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
            "beta": _beta_of(base) if beta is None else beta,
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
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The parameter groups of the base, the same objects."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.base.param_groups = groups

    @property
    def entries(self) -> Sequence[MutableMapping[str, Any]]:
        """Entries of each parameter group of the base, with the wrapper's own before them."""
        # Groups may have been added to the base behind the wrapper's back.
        for _ in range(len(self._own), len(self.param_groups)):
            self._own.append({k: v.clone() if isinstance(v, Tensor) else v for k, v in self._own[0].items()})
        return [ChainMap(own, group) for own, group in zip(self._own, self.param_groups, strict=True)]

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
        value = resolve_loss(loss, like=self._scalar("loss_avg"))
        weights = self._averaging()
        value, sums = self._ranks.sum(value, torch.stack([self._measure(block, weights) for block in blocks]))
        # The one wait for the device: the base cannot be told later that its step is to be skipped.
        if not bool(torch.isfinite(torch.cat([value.reshape(1), sums.flatten()])).all()):
            scalars.count_skipped(self.entries)
            return loss
        self._average(blocks, weights)
        before = [[[param.clone() for param in tensors.params] for _, tensors in block.parts] for block in blocks[::2]]
        self.base.step()
        slopes = torch.stack([self._measure_step(*moved) for moved in zip(blocks[::2], before, strict=True)])
        _, slopes = self._ranks.sum(torch.zeros_like(value), slopes)
        # The blocks of parameters that the base did not move come second in each group.
        sums[0::2, 2], sums[1::2, 2] = slopes[:, 0], 0.0
        step = self._rule(value, sums, [block.settings for block in blocks], weights, sample_weight)
        # The model leads up, and so no step was taken, although the base would have moved.
        uphill = (step.scale <= 0) & (slopes[:, 1].sum() > 0) & ~step.below_bound
        for moved in zip(blocks[::2], before, strict=True):
            _go_back(*moved, step)
        for entry in self.entries:
            entry["uphill_steps"] = entry["uphill_steps"].to(value) + (uphill & step.finite)
        scalars.write(self.entries, step._replace(below_bound=step.below_bound | uphill))
        return loss

    def _blocks(self) -> list[Block]:
        """Return two blocks for each group: the parameters that the base will move, and the others with state."""
        blocks = []
        for group in self.entries:
            trained, frozen = collect(group, self.state, self.direction.state_names(group), self._ranks)
            form = group["weight_decay_form"]
            form = weight_decay_form(self.base, group) if form == "auto" else form
            moved = settings_in_units_of_a_step(group, form)
            for settings, has_grad in ((moved, True), (GroupSettings(0.0, 0.0, True), False)):
                parts = [(replicas, _with_grad(tensors, has_grad)) for replicas, tensors in (*trained, *frozen)]
                blocks.append(Block({**group}, settings, parts, []))
        return blocks

    def _average(self, blocks: list[Block], weights: Averaging) -> None:
        for block in blocks:
            for _, tensors in block.parts:
                if tensors.params:
                    torch._foreach_add_([state["step"] for state in tensors.states], 1.0)
                    unused = weights.bias_correction
                    self.direction.commit(block.group, tensors, weights, None, unused, unused)

    def _measure_step(self, block: Block, before: list[list[Tensor]]) -> Tensor:
        """Return this rank's share of ``<d, u>`` and ``<u, u>``, with the step ``u`` that the base has made."""
        dtype = self._scalar("num_steps").dtype
        total = self._scalar("num_steps").new_zeros(2)
        for (replicas, tensors), starts in zip(block.parts, before, strict=True):
            sums = []
            for row in zip(starts, _local(tensors), tensors.state("exp_avg"), strict=True):
                for pieces in flat_pieces(row, piece_size(row[0].device)):
                    start, end, averaged = (piece.to(dtype) for piece in pieces)
                    update = start * (1.0 - block.settings.weight_decay) - end
                    sums.append(torch.stack([torch.dot(averaged, update), torch.dot(update, update)]))
            if sums:
                total += torch.stack(sums).sum(dim=0) / replicas
        return total

    def state_dict(self) -> dict[str, Any]:
        """Return the state: that of the base in its own form, and beside each of its parts the wrapper's.

        ``state[i]["base"]`` is what the base keeps for a parameter, ``param_groups[i]["momo"]`` the model of the loss,
        and ``base`` holds what else the base's ``state_dict()`` has.
        """

        def nest(optimizer: torch.optim.Optimizer, own: dict[str, Any]) -> dict[str, Any]:
            return self._nested(own)

        # A hook, so that the hooks of others get the nested form.
        handle = self.register_state_dict_post_hook(nest, prepend=True)
        try:
            return super().state_dict()
        finally:
            handle.remove()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # type: ignore[override]
        """Load ``state_dict()``.

        Raises:
            ValueError: If it is not that of a ``MomoWrapper``, or its parameters have other shapes.
        """

        def split(optimizer: torch.optim.Optimizer, nested: dict[str, Any]) -> dict[str, Any]:
            own, base = self._split(nested)
            self.base.load_state_dict(base)
            return own

        handle = self.register_load_state_dict_pre_hook(split)
        try:
            super().load_state_dict(dict(state_dict))
        finally:
            handle.remove()

    def _nested(self, own: dict[str, Any]) -> dict[str, Any]:
        rest = dict(self.base.state_dict())
        base_state, base_groups = dict(rest.pop("state", {})), rest.pop("param_groups", own["param_groups"])
        state = {}
        for index in range(sum(len(group["params"]) for group in self.param_groups)):
            parts = {**own["state"].get(index, {})}
            if index in base_state:
                parts["base"] = base_state.pop(index)
            if parts:
                state[index] = parts
        if base_state:
            rest["state"] = base_state
        model = [{k: v.clone() if isinstance(v, Tensor) else v for k, v in each.items()} for each in self._own]
        _ = self.entries
        groups = [{**group, "momo": entry} for group, entry in zip(base_groups, model, strict=True)]
        return {"state": state, "param_groups": groups, **({"base": rest} if rest else {})}

    def _split(self, nested: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the wrapper's part of a state dict, and the base's."""
        groups, state = nested["param_groups"], nested["state"]
        required = {*scalars.SCALARS, *_SETTINGS}
        if not all(required <= group.get("momo", {}).keys() for group in groups):
            raise ValueError(
                f"state_dict: is not that of a MomoWrapper. To go on from a checkpoint of"
                f" {type(self.base).__name__} itself, load it into the base before the first step"
                " (wrapper.base.load_state_dict(state_dict)): the model of the loss then starts anew"
            )
        base = dict(nested.get("base", {}))
        base["param_groups"] = [{k: v for k, v in group.items() if k != "momo"} for group in groups]
        base["state"] = {**base.get("state", {}), **{k: v["base"] for k, v in state.items() if "base" in v}}
        own = {
            "state": {k: {name: v[name] for name in ("step", "exp_avg")} for k, v in state.items() if "exp_avg" in v},
            "param_groups": [{"params": group["params"], "momo": group["momo"]} for group in groups],
        }
        params = [param for group in self.param_groups for param in group["params"]]
        keys = [key for group in groups for key in group["params"]]
        for key, param in zip(keys, params, strict=False):
            checkpoints.check_shape("exp_avg", own["state"].get(key, {}).get("exp_avg", param), param)
        return own, base

    def __getstate__(self) -> dict[str, Any]:
        names = ("defaults", "state", "base", "_own", "_ranks", "_kernel_choice")
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "base" not in state:
            # The end of torch's load_state_dict; the base has loaded its groups already.
            self._own = [dict(group["momo"]) for group in state["param_groups"]]
            state = {"state": state["state"]}
        torch.optim.Optimizer.__setstate__(self, state)


def wrapper_cls(base_cls: Callable[..., torch.optim.Optimizer]) -> type[MomoWrapper]:
    """Return a ``MomoWrapper`` that is made from parameters: ``cls(params, momo={...}, **options of the base)``.

    Args:
        base_cls: A class of optimizers, or another callable that makes one.
    """

    class Wrapper(MomoWrapper):
        def __init__(self, params: Any, *, momo: Mapping[str, Any] = MappingProxyType({}), **options: Any) -> None:
            super().__init__(base_cls(params, **options), **momo)

    Wrapper.__name__ = MomoWrapper.__name__
    # The Trainer looks for "bitsandbytes" in str(cls), and keeps embeddings in 32 bits there.
    base = f"{base_cls.__module__}.{getattr(base_cls, '__qualname__', type(base_cls).__name__)}"
    Wrapper.__qualname__ = f"{MomoWrapper.__name__}[{base}]"
    return Wrapper


def _beta_of(base: torch.optim.Optimizer) -> float:
    group = base.param_groups[0]
    if "betas" in group:
        return float(group["betas"][0])
    return float(group.get("momentum", 0.9))


def _with_grad(tensors: GroupTensors, has_grad: bool) -> GroupTensors:
    return tensors.where([(owner.grad is not None) is has_grad for owner in tensors.owners])


def _local(tensors: GroupTensors) -> list[Tensor]:
    """Return the tensors as they are now: some optimizers give a parameter new memory."""
    return [
        owner if type(owner) is torch.nn.Parameter else sharding.local_tensor(owner.detach())
        for owner in tensors.owners
    ]


def _go_back(block: Block, before: list[list[Tensor]], step: Step) -> None:
    """Move the parameters to the share ``step.scale`` of the step of the base; in a step not finite, back."""
    on_cpu = step.scale.device.type == "cpu"
    if on_cpu and bool(step.finite & (step.scale >= 1.0)):
        return
    keep = 1.0 - block.settings.weight_decay
    shrinks = isinstance(keep, Tensor) or keep != 1.0
    for (_, tensors), starts in zip(block.parts, before, strict=True):
        for start, end in zip(starts, _local(tensors), strict=True):
            dtype = torch.promote_types(start.dtype, torch.float32)
            scale = step.scale.to(dtype)
            for old, new in blocks_of((start, end), piece_size(start.device)):
                decayed = old.to(dtype) * keep if shrinks else old.to(dtype)
                # lerp is exact at both ends. A step that was not finite may have left no number to reckon with.
                moved = torch.lerp(decayed, new.to(dtype), scale)
                new.copy_(torch.where(step.finite, moved, old.to(dtype)))
