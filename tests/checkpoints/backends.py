"""Selects a backend of accelerate in a running process, by the environment that its launcher would set."""

from __future__ import annotations

import importlib
import os
from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from torch import Tensor

_FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "Linear",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_SYNC_MODULE_STATES": "false",
}
_ZERO = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false"}
ENVIRONMENTS = {
    "fsdp1": _FSDP | {"FSDP_VERSION": "1", "FSDP_USE_ORIG_PARAMS": "true"},
    "fsdp2": _FSDP | {"FSDP_VERSION": "2"},
    "zero2": _ZERO | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "zero3": _ZERO | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
}


def use(backend: str | None) -> dict[str, Any]:
    """Set this process up for a backend of several ranks, or for none, on the CPU.

    Returns:
        The training arguments that the backend needs.
    """
    if "RANK" not in os.environ:
        return {}
    if backend is None:
        return {"ddp_backend": "gloo"}
    os.environ.pop("ACCELERATE_USE_CPU", None)
    os.environ |= ENVIRONMENTS[backend]
    # Make accelerate run FSDP and DeepSpeed on the CPU, which it does on GPUs only.
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *args: ("gloo", DistributedType.MULTI_GPU)
    if backend.startswith("zero"):
        # DeepSpeed would compile its all-reduce through shared memory, for minutes; gloo does without. By
        # import_module, because the attribute deepspeed.comm.torch is PyTorch.
        importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None
    return {"use_cpu": False}


def whole(tensor: Any) -> Tensor:
    """Return the whole tensor of a DTensor; a plain tensor as a copy."""
    with torch.no_grad():
        return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach().clone()
