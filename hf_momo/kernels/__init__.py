"""Kernels that measure the inner products of a step, and their choice by name.

A kernel is a module with the two functions of ``eager.py``. It sees lists of local tensors and knows nothing of ranks,
groups or the step-size rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from hf_momo.kernels import eager

KERNELS = ("auto", "eager")
"""Legal values of ``kernel=``."""


class Kernel(Protocol):
    """What an optimizer needs of a kernel. See ``eager.py`` for shapes and meaning."""

    def measure_identity(
        self,
        params: Sequence[Tensor],
        grads: Sequence[Tensor],
        exp_avgs: Sequence[Tensor] | None,
        *,
        grad_weight: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        """Inner products for the identity metric."""

    def measure_adam(
        self,
        params: Sequence[Tensor],
        grads: Sequence[Tensor],
        exp_avgs: Sequence[Tensor],
        exp_avg_sqs: Sequence[Tensor],
        *,
        betas: tuple[float, float],
        eps: float,
        bias_corrections: tuple[Tensor, Tensor],
        dtype: torch.dtype,
    ) -> Tensor:
        """Inner products for Adam's metric."""


def get_kernel(name: str) -> Kernel:
    """Return the kernel called ``name``.

    Args:
        name: One of ``KERNELS``; ``"auto"`` takes the fastest that runs here, which so far is ``"eager"``.

    Raises:
        ValueError: If there is no such kernel.
    """
    if name not in KERNELS:
        raise ValueError(f"kernel: got {name!r}, must be one of {', '.join(map(repr, KERNELS))}")
    return cast("Kernel", eager)
