"""The optimizers: SGD with momentum and Adam, each with MoMo's step size."""

from hf_momo.optimizers.base import LastStep, MomoOptimizer
from hf_momo.optimizers.momo import Momo
from hf_momo.optimizers.momo_adam import MomoAdam

__all__ = ["LastStep", "Momo", "MomoAdam", "MomoOptimizer"]
