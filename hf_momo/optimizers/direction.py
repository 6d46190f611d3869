"""The seam for any method: which way to go, apart from how far.

A direction knows the running averages of a base method, measures what the rule in ``step_size.py`` needs, and commits
the update that the base method would make, at the rate that the rule found. ``MomoOptimizer.step`` is written once for
all of them. A new method is one file with a direction and its optimizer, one row of the registry, and one row of the
tests' table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from hf_momo.kernels import Kernel
from hf_momo.optimizers.group_tensors import GroupTensors
from hf_momo.optimizers.options import Option, choice, flag, number
from hf_momo.step_size import Averaging

Group = Mapping[str, Any]


def wants_batch_slope(group: Group) -> bool:
    """Return whether ``Direction.measure`` must add the slope of the batch to its sums."""
    return bool(group.get("slope") == "batch")


class Measured(NamedTuple):
    """Result of measuring."""

    sums: Tensor
    """Shape ``(3,)``: ``<d, x>``, ``<g, x>``, ``<d, u>``; with ``slope="batch"`` also the slope of this batch (see
    ``step_size.GroupSums``), so shape ``(4,)``."""
    made: Any = None
    """Results that committing needs again, such as orthogonalised matrices."""


class Direction(ABC):
    """A base method as MoMo sees it. Directions hold no state: everything stands in the optimizer."""

    options: ClassVar[Mapping[str, Option]] = {}
    """Options of a parameter group beside those in ``COMMON_OPTIONS``, by name."""

    kernels: ClassVar[tuple[str, ...]] = ("auto", "eager", "compiled", "triton")
    """Legal values of ``kernel=``."""

    whole_tensors: ClassVar[bool] = False
    """Whether the method depends on the shape of a tensor, so that flat pieces of it (FSDP1, ZeRO) are no use.

    Every rank then measures and commits every tensor, its empty shards included, in the same order, so that ranks can
    exchange what they need.
    """

    base_cls: ClassVar[str | None] = None
    """The optimizer of ``torch.optim`` that keeps the same averages, so that each can start from the other's state."""

    base_state: ClassVar[Mapping[str, str]] = {}
    """The names that it gives the averages, where they are others."""

    batch_slope: ClassVar[Literal["metric", "dual norm"] | None] = None
    """How the slope of a batch is measured, the fourth number of ``measure`` (see ``step_size.GroupSums``): in the
    quadratic metric of the method, or as a dual norm of the gradient. ``None`` where there is neither."""

    @abstractmethod
    def state_names(self, group: Group) -> tuple[str, ...]:
        """Return the names of the running averages that have the shape of their parameter."""

    def new_state(self, group: Group, param: Tensor) -> dict[str, Tensor]:
        """Return the running averages of a parameter at zero; on the meta device where only shapes are wanted."""
        return {name: torch.zeros_like(param, memory_format=torch.preserve_format) for name in self.state_names(group)}

    def filled(self, tensors: GroupTensors) -> GroupTensors:
        """Return the tensors that are measured and committed on this rank."""
        return tensors if self.whole_tensors else tensors.not_empty

    @abstractmethod
    def beta(self, group: Group) -> float:
        """Return the weight of the past in the averages of loss and gradient."""

    def model_beta(self, group: Group) -> float:
        """Return the weight of the past in the direction of one step, for methods that look ahead."""
        return self.beta(group)

    def starts_at_first_sample(self, group: Group) -> bool:
        """Return whether the averages start at the first sample instead of at zero."""
        return False

    def decays_first(self, group: Group) -> bool:
        """Return whether parameters are decayed before the step, by ``1 - lr * weight_decay``."""
        return False

    def decays_in_model(self, group: Group) -> bool:
        """Return whether the model is taken at the decayed parameters, as it must be without a quadratic metric."""
        return False

    def base_options(self, group: Group) -> Mapping[str, Any]:
        """Return the options, beside those in ``group``, with which a group of ``base_cls`` goes on as this one."""
        return {}

    @abstractmethod
    def measure(self, group: Group, tensors: GroupTensors, averaging: Averaging, kernel: Kernel) -> Measured:
        """Measure the inner products over tensors of a group, at least one, see ``filled``. Writes nothing."""

    @abstractmethod
    def commit(
        self, group: Group, tensors: GroupTensors, averaging: Averaging, made: Any, lr: Tensor, skip: Tensor
    ) -> None:
        """Update averages and parameters as the base method would at rate ``lr``, without weight decay.

        Args:
            group: The parameter group.
            tensors: The tensors that were measured, with step counters that count this step.
            averaging: Weights of the running averages in this step.
            made: ``Measured.made``.
            lr: 0-d, float64 on a CPU and float32 on an accelerator.
            skip: 0-d; where it is 1.0 nothing may be written.
        """


COMMON_OPTIONS: Mapping[str, Option] = {
    "lr": number(at_least=0.0, tensor=True),
    "weight_decay": number(at_least=0.0),
    "initial_lower_bound": number(shared=True, shown="lower_bound"),
    "adapt_lower_bound": flag(shared=True),
    "slope": choice("direction", "batch", shared=True),
    "gap": choice("bound", "progress", shared=True),
    "caution": number(positive=True, shared=True),
}
"""Options of the groups of every optimizer; ``adapt_lower_bound`` only where the method has a quadratic metric."""


def check_estimates(group: Group, direction: Direction) -> None:
    """Check that the options which replace parts of the rule fit the method and each other.

    Raises:
        ValueError: If ``slope="batch"`` cannot be measured, or the bound is estimated from a rule that an option
            replaces.
    """
    if wants_batch_slope(group) and direction.batch_slope is None:
        raise ValueError(
            "slope: got 'batch', which measures the gradient of each batch in the metric of the method or by a dual"
            " norm, and this method measures neither; leave it 'direction'"
        )
    replaced = {"slope": "direction", "gap": "bound", "caution": 1.0}
    for name, default in replaced.items():
        if group.get("adapt_lower_bound") and group.get(name, default) != default:
            raise ValueError(
                f"{name}: got {group[name]!r} with adapt_lower_bound=True, whose estimate rests on the step that"
                f" {name}={default!r} gives; use one of the two"
            )
