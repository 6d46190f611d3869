"""Optimizers: a base method each, with MoMo's step size."""

from hf_momo.optimizers import registry
from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.conversion import (
    adamw_state_dict,
    base_state_dict,
    load_adamw_state_dict,
    load_base_state_dict,
)
from hf_momo.optimizers.records import LastStep
from hf_momo.optimizers.registry import *  # noqa: F403 (the classes of all rows)

__all__ = [
    "LastStep",
    "MomoOptimizer",
    "adamw_state_dict",
    "base_state_dict",
    "load_adamw_state_dict",
    "load_base_state_dict",
]
__all__ += registry.__all__
