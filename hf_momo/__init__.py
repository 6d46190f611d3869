"""MoMo's adaptive learning rates for PyTorch and the Hugging Face stack.

``import hf_momo`` needs torch alone; transformers and accelerate are loaded when one of their names is touched.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hf_momo.optimizers import (
    LastStep,
    adamw_state_dict,
    base_state_dict,
    load_adamw_state_dict,
    load_base_state_dict,
    registry,
)
from hf_momo.optimizers.registry import *  # noqa: F403 (the optimizers, and the functions that list them)
from hf_momo.tap.accelerator import connect
from hf_momo.tap.factory import create_optimizer
from hf_momo.tap.loss_tap import LossTap

if TYPE_CHECKING:
    from hf_momo.trainer import (
        MomoArgumentsMixin,
        MomoSeq2SeqTrainer,
        MomoSeq2SeqTrainingArguments,
        MomoTrainer,
        MomoTrainerMixin,
        MomoTrainingArguments,
    )
    from hf_momo.trainer.checkpoints import last_complete_checkpoint
    from hf_momo.trainer.stock import integrate

__version__ = "0.1.0"

_LAZY = {
    "integrate": "hf_momo.trainer.stock",
    "MomoArgumentsMixin": "hf_momo.trainer",
    "MomoSeq2SeqTrainer": "hf_momo.trainer",
    "MomoSeq2SeqTrainingArguments": "hf_momo.trainer",
    "MomoTrainer": "hf_momo.trainer",
    "MomoTrainerMixin": "hf_momo.trainer",
    "MomoTrainingArguments": "hf_momo.trainer",
    "last_complete_checkpoint": "hf_momo.trainer.checkpoints",
}

__all__ = [
    "LastStep",
    "LossTap",
    "MomoArgumentsMixin",
    "MomoSeq2SeqTrainer",
    "MomoSeq2SeqTrainingArguments",
    "MomoTrainer",
    "MomoTrainerMixin",
    "MomoTrainingArguments",
    "adamw_state_dict",
    "base_state_dict",
    "connect",
    "create_optimizer",
    "integrate",
    "last_complete_checkpoint",
    "load_adamw_state_dict",
    "load_base_state_dict",
]
__all__ += registry.__all__


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
