"""Orthogonalising a matrix by Newton-Schulz iteration, which needs matrix products alone.

Source: Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024
(https://kellerjordan.github.io/posts/muon/): the iteration, its coefficients and the smallest norm. The operations and
their order are those of ``torch.optim.Muon``, so the results are equal to the bit in the same dtype.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic polynomial. Five steps bring singular values to about 0.7 to 1.2, not exactly to 1."""

SMALLEST_NORM = 1e-7
"""Lower limit of the norm that a matrix is divided by."""

# Milliseconds of five steps on a core of a Xeon with AMX, torch 2.13, in float32 and bfloat16: 64x64 0.12 and 0.93,
# 8x768 0.08 and 0.73, 64x512 1.0 and 1.4, 128x128 1.3 and 1.7, 96x384 1.6 and 1.7, 128x512 5.1 and 2.7, 256x1024 24.5
# and 5.3, 768x3072 594 and 110. A CPU without AMX has no bfloat16 products that are faster than those of float32.
_BFLOAT16_FROM_COST = 4_000_000


def orthogonalized(matrix: Tensor, *, steps: int, dtype: torch.dtype) -> Tensor:
    """Return approximately ``U V^T`` of the singular value decomposition ``U S V^T``, in ``dtype``.

    Args:
        matrix: A matrix, or a batch of matrices in its last two dimensions. Not empty, read only.
        steps: Number of steps.
        dtype: Dtype of the iteration and the result.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.size(-2) > matrix.size(-1)
    x = matrix.to(dtype)
    x = x.mT if is_tall else x
    # The norm of a single matrix as torch.optim.Muon takes it: a norm along dimensions may round differently.
    norm = x.norm() if x.ndim == 2 else x.flatten(-2).norm(dim=-1)[..., None, None]
    x = x / norm.clamp(min=SMALLEST_NORM)
    multiply_add = torch.addmm if x.ndim == 2 else torch.baddbmm
    for _ in range(steps):
        gram = x @ x.mT
        x = multiply_add(x, multiply_add(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT.contiguous() if is_tall else x


def cost(shape: torch.Size) -> int:
    """Return a number proportional to the operations of a step on a matrix, or a batch of them, of ``shape``."""
    small, large = sorted(shape[-2:])
    return small * small * large * shape[:-2].numel()


def working_dtype(name: str, param: Tensor, cost: int) -> torch.dtype:
    """Return the dtype to orthogonalize a parameter in.

    Args:
        name: ``"bfloat16"``, ``"float32"``, or ``"auto"``: float64 for float64, bfloat16 on accelerators, and on a CPU
            the faster of the two.
        param: The parameter, of which dtype and device are read.
        cost: ``cost(shape)``.
    """
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if param.dtype == torch.float64:
        return torch.float64
    if param.device.type != "cpu":
        return torch.bfloat16
    return torch.bfloat16 if cost >= _BFLOAT16_FROM_COST and _has_fast_bfloat16() else torch.float32


@functools.cache
def _has_fast_bfloat16() -> bool:
    # Older releases of torch do not tell.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))
