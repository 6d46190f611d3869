"""Records by hooks what an optimizer was handed at every step, and its scalars afterwards."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.scalars import names_of


class Recorder:
    """Hooks around ``optimizer.step``, attached after the tap's.

    Args:
        kind: The kind of the parameters, see ``Backend``. By it ``<gradient, weights>`` is summed over ranks here,
            without the code under test.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.steps: list[dict[str, Any]] = []

    def attach(self, optimizer: MomoOptimizer) -> None:
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    def _before(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: dict[str, Any]) -> None:
        loss = kwargs.get("loss")
        self.steps.append(
            {
                "loss": float("nan") if loss is None else float(loss),
                "sample_weight": float(kwargs.get("sample_weight", 1.0)),
                "product": self._grad_dot_param(optimizer),
            }
        )

    def _after(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: dict[str, Any]) -> None:
        self.steps[-1]["scalars"] = scalars_of(optimizer)

    @torch.no_grad()
    def _grad_dot_param(self, optimizer: torch.optim.Optimizer) -> float:
        total = torch.zeros((), dtype=torch.float64, device=optimizer.param_groups[0]["params"][0].device)
        for group in optimizer.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    total += (whole(param).double() * whole(param.grad).double()).sum()
        if self.kind == "shards":
            dist.all_reduce(total)
        return float(total)


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor of a DTensor; a plain tensor as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def scalars_of(optimizer: Any) -> list[dict[str, float]]:
    """Return the scalars of every group; JSON keeps a float to the bit."""
    return [{name: float(group[name]) for name in names_of(group)} for group in optimizer.entries]
