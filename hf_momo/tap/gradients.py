"""Facts about an optimizer's gradients that need no computation with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hf_momo.sharding import local_tensor


def params_of(optimizer: torch.optim.Optimizer) -> Iterable[Tensor]:
    """Return the parameters, looked up anew each time, because accelerate swaps them (FSDP2)."""
    return (param for group in optimizer.param_groups for param in group["params"])


def are_gone(optimizer: torch.optim.Optimizer, *, or_zero: bool) -> bool:
    """Whether no parameter has a gradient, or, if ``or_zero``, one that is not zero (waits for the device)."""
    return all(param.grad is None or (or_zero and not param.grad.any()) for param in params_of(optimizer))


def versions(optimizer: torch.optim.Optimizer) -> list[tuple[int, int, int] | None]:
    """Return a key for each gradient that changes whenever the gradient is written to or replaced."""
    return list(map(_version, params_of(optimizer)))


def first_version(optimizer: torch.optim.Optimizer) -> tuple[int, int, int] | None:
    """Return the key of the first gradient, ``None`` if there are no gradients."""
    return next(filter(None, map(_version, params_of(optimizer))), None)


def leaves(loss: Tensor) -> set[int]:
    """Return the ids of the tensors in which ``loss.backward()`` would accumulate gradients."""
    found, seen, stack = set(), set(), [loss.grad_fn]
    while stack:
        node: Any = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        stack += [parent for parent, _ in node.next_functions]
    return found


def _version(param: Tensor) -> tuple[int, int, int] | None:
    if param.grad is None:
        return None
    with torch.no_grad():
        return id(param), id(param.grad), local_tensor(param.grad)._version
