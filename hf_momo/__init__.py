"""MoMo's adaptive learning rates for PyTorch and the Hugging Face stack.

``import hf_momo`` needs torch alone; transformers and accelerate are loaded when one of their names is touched.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hf_momo.accelerator import connect
from hf_momo.factory import create_optimizer
from hf_momo.loss_tap import LossTap
from hf_momo.optimizers import LastStep, Momo, MomoAdam, adamw_state_dict, load_adamw_state_dict
from hf_momo.registry import OptimizerInfo, get_optimizer_info, list_optimizers

if TYPE_CHECKING:
    from hf_momo.checkpoints import last_complete_checkpoint
    from hf_momo.integration import integrate
    from hf_momo.trainer import (
        MomoArgumentsMixin,
        MomoSeq2SeqTrainer,
        MomoSeq2SeqTrainingArguments,
        MomoTrainer,
        MomoTrainerMixin,
        MomoTrainingArguments,
    )

__version__ = "0.1.0"

_LAZY = {
    "integrate": "hf_momo.integration",
    "MomoArgumentsMixin": "hf_momo.trainer",
    "MomoSeq2SeqTrainer": "hf_momo.trainer",
    "MomoSeq2SeqTrainingArguments": "hf_momo.trainer",
    "MomoTrainer": "hf_momo.trainer",
    "MomoTrainerMixin": "hf_momo.trainer",
    "MomoTrainingArguments": "hf_momo.trainer",
    "last_complete_checkpoint": "hf_momo.checkpoints",
}

__all__ = [
    "LastStep",
    "LossTap",
    "Momo",
    "MomoAdam",
    "MomoArgumentsMixin",
    "MomoSeq2SeqTrainer",
    "MomoSeq2SeqTrainingArguments",
    "MomoTrainer",
    "MomoTrainerMixin",
    "MomoTrainingArguments",
    "OptimizerInfo",
    "adamw_state_dict",
    "connect",
    "create_optimizer",
    "get_optimizer_info",
    "integrate",
    "last_complete_checkpoint",
    "list_optimizers",
    "load_adamw_state_dict",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_LAZY[name]), name)
    except ImportError as error:
        raise ImportError(
            f"hf_momo.{name} needs transformers and accelerate ({error}); install them with:"
            " pip install 'hf_momo[trainer]'"
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
