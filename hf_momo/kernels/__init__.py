"""Kernels that measure the inner products of a step, and their choice by name.

A kernel is a module with some of the functions of ``eager.py``. It gets lists of local tensors and knows nothing of
ranks, groups or the step-size rule.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from hf_momo.kernels.compiler import NoCompilerError, load_library

logger = logging.getLogger(__name__)

KERNELS = ("auto", "eager", "compiled", "triton")
"""Legal values of ``kernel=``."""

# From here on "auto" has the C kernel built, which takes half a second once a machine. A call of the eager kernel
# costs as much as some thousand elements, so many small tensors are worth it too (step_time.py: 1.3 against 6.3).
COMPILED_FROM_ELEMENTS = 1_000_000
ELEMENTS_OF_A_TENSOR = 4_000


class Kernel(Protocol):
    """Interface of a kernel. See ``eager.py`` for shapes and meaning."""

    def measure_identity(
        self, *columns: Sequence[Tensor], grad_weight: Tensor, dtype: torch.dtype, batch_slope: bool = False
    ) -> Tensor:
        """Return the inner products in the identity metric."""

    def measure_sign(
        self, *columns: Sequence[Tensor], grad_weight: Tensor, dtype: torch.dtype, batch_slope: bool = False
    ) -> Tensor:
        """Return the inner products for a sign method."""

    def update_sign(
        self, *columns: Sequence[Tensor], betas: tuple[float, float], lr: Tensor, skip: Tensor
    ) -> Sequence[int]:
        """Take the step of a sign method; return the indices of the tensors that are left to the caller."""

    def measure_adam(
        self,
        *columns: Sequence[Tensor],
        betas: tuple[float, float],
        eps: float,
        bias_corrections: tuple[Tensor, Tensor],
        dtype: torch.dtype,
        batch_slope: bool = False,
    ) -> Tensor:
        """Return the inner products in Adam's metric."""


def check_kernel(name: str) -> None:
    """Check the name of a kernel, before the tensors are known.

    Raises:
        ValueError: If there is no such kernel, or its package is not installed.
    """
    if name not in KERNELS:
        raise ValueError(f"kernel: got {name!r}, must be one of {', '.join(map(repr, KERNELS))}")
    if name == "triton" and importlib.util.find_spec("triton") is None:
        raise ValueError(
            "kernel: got 'triton', but the package triton is not installed; pip install triton, or leave it 'auto'"
        )


def get_kernel(name: str, device: torch.device, num_elements: int, num_tensors: int = 1) -> Kernel:
    """Return the kernel to measure with.

    ``"auto"`` takes what the records in ``recipes/benchmarks/results`` show to be the fastest: the compiled kernel on
    a CPU, where there is a C compiler and the model is worth compiling for; elsewhere the eager one, as the Triton
    kernel has not been timed on a GPU yet.

    Args:
        name: One of ``KERNELS``.
        device: Device of the tensors.
        num_elements: Number of elements of all parameters.
        num_tensors: Number of parameters.

    Raises:
        ValueError: If there is no such kernel, or it does not run on ``device``.
        NoCompilerError: If ``"compiled"`` was asked for and there is no C compiler.
    """
    check_kernel(name)
    chosen = name if name != "auto" else _fastest(device.type, num_elements + ELEMENTS_OF_A_TENSOR * num_tensors)
    runs_on = {"compiled": ("cpu",), "triton": ("cuda", "cpu") if _interpreted() else ("cuda",)}
    if device.type not in runs_on.get(chosen, (device.type,)):
        raise ValueError(
            f"kernel: got {chosen!r}, which runs on {runs_on[chosen][0]} and not on the parameters' device {device};"
            " leave it 'auto'"
        )
    if chosen == "compiled":
        try:
            load_library()
        except NoCompilerError as error:
            raise NoCompilerError(
                f"kernel: got 'compiled', but {error}; install a C compiler, or leave it 'auto'"
            ) from error
    _log_once(f"kernel: {chosen!r} for {num_elements:,} parameters on {device.type} (asked for: {name!r})")
    return cast("Kernel", importlib.import_module(f"{__name__}.{chosen}"))


class KernelChoice:
    """The kernel of one optimizer, chosen when the device of the parameters is known. Copies and pickles choose anew.

    Args:
        name: One of ``KERNELS``.

    Raises:
        ValueError: If there is no such kernel, or its package is not installed.
    """

    def __init__(self, name: str) -> None:
        check_kernel(name)
        self.name = name
        self.chosen: tuple[torch.device, Kernel] | None = None

    def get(self, device: torch.device, params: Iterable[Tensor]) -> Kernel:
        """Return the kernel for parameters on ``device``; see ``get_kernel``."""
        if self.chosen is None or self.chosen[0] != device:
            sizes = [param.numel() for param in params]
            self.chosen = device, get_kernel(self.name, device, sum(sizes), len(sizes))
        return self.chosen[1]

    def __reduce__(self) -> tuple[type[KernelChoice], tuple[str]]:
        return KernelChoice, (self.name,)


def _fastest(device_type: str, work: int) -> str:
    if device_type != "cpu" or work < COMPILED_FROM_ELEMENTS:
        return "eager"
    try:
        load_library()
    except NoCompilerError as error:
        _log_once(f"kernel: 'eager' instead of the faster 'compiled': {error}", logging.WARNING)
        return "eager"
    return "compiled"


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.lru_cache(maxsize=256)
def _log_once(message: str, level: int = logging.INFO) -> None:
    logger.log(level, message)
