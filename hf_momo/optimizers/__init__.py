"""The optimizers: SGD with momentum and Adam, each with MoMo's step size."""

from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.conversion import adamw_state_dict, load_adamw_state_dict
from hf_momo.optimizers.momo import Momo
from hf_momo.optimizers.momo_adam import MomoAdam
from hf_momo.optimizers.records import LastStep

__all__ = ["LastStep", "Momo", "MomoAdam", "MomoOptimizer", "adamw_state_dict", "load_adamw_state_dict"]
