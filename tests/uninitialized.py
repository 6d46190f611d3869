"""Memory that nobody has written to, made to show."""

from __future__ import annotations

import functools
from typing import Any

import torch

# DeepSpeed reserves gigabytes that are never touched; to fill them is to need them.
LARGEST = 1 << 20


def fill_with_nan() -> None:
    """From now on, in this process, uninitialized tensors of floating-point numbers that Python asks for hold NaN.

    What is read before it is written then goes wrong at every run, and not by chance where the memory happens to hold
    something else than zeros. ``torch.utils.deterministic.fill_uninitialized_memory`` does the same to
    tensors of any size.
    """
    for owner, name in (
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (torch.Tensor, "new_empty"),
        (torch.Tensor, "new_empty_strided"),
    ):
        setattr(owner, name, _filled(getattr(owner, name)))


def _filled(function: Any) -> Any:
    @functools.wraps(function)
    def filled(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if result.is_floating_point() and result.numel() <= LARGEST and not result.is_meta:
            result.detach().fill_(float("nan"))
        return result

    return filled
