"""The backends of accelerate, one object each.

MoMo models the loss of all parameters together, so one call of ``step()`` needs every inner product.
DistributedDataParallel and FSDP2 allow that as they are. FSDP1 and DeepSpeed ZeRO hand the optimizer flat pieces of
the parameters; ZeRO also clips the gradients itself and calls ``step()`` once per parameter group inside ``backward``.

No other module compares the name of a backend.
"""

from __future__ import annotations

from typing import Any

from hf_momo.tap.backends.base import Backend
from hf_momo.tap.backends.deepspeed import DeepSpeed
from hf_momo.tap.backends.fsdp import FSDP

__all__ = ["Backend", "backend_of"]

_REPLICATED = ("CPU", "GPU", "XPU", "HPU", "NPU", "MLU", "MUSA", "SDAA")
_BACKENDS: dict[str, type[Backend]] = {
    "NO": Backend,
    **{f"MULTI_{device}": Backend for device in _REPLICATED},
    "FSDP": FSDP,
    "DEEPSPEED": DeepSpeed,
}


def backend_of(accelerator: Any) -> Backend:
    """Return the backend of an ``accelerate.Accelerator``.

    Raises:
        NotImplementedError: If the backend is not supported.
    """
    kind = accelerator.distributed_type
    name = str(getattr(kind, "value", kind))
    if name not in _BACKENDS:
        raise NotImplementedError(
            f"accelerator: distributed_type is {name}, whose optimizer parameters MoMo cannot take inner products of;"
            " use one process, DistributedDataParallel, FSDP2 or DeepSpeed ZeRO"
        )
    return _BACKENDS[name](accelerator)
