"""The Hugging Face Trainer with MoMo.

The names are loaded when they are touched: ``hf_momo.trainer.stock`` must not load the Trainer.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_momo.trainer.arguments import (
        MomoArgumentsMixin,
        MomoSeq2SeqTrainingArguments,
        MomoTrainingArguments,
        is_momo,
        momo_cls_and_kwargs,
    )
    from hf_momo.trainer.cards import ModelCardMixin
    from hf_momo.trainer.checkpoints import CheckpointMixin
    from hf_momo.trainer.mixin import MomoTrainerMixin
    from hf_momo.trainer.pushing import PushMixin
    from hf_momo.trainer.trainers import MomoSeq2SeqTrainer, MomoTrainer

_LAZY = {
    "CheckpointMixin": "checkpoints",
    "ModelCardMixin": "cards",
    "MomoArgumentsMixin": "arguments",
    "MomoSeq2SeqTrainer": "trainers",
    "MomoSeq2SeqTrainingArguments": "arguments",
    "MomoTrainer": "trainers",
    "MomoTrainerMixin": "mixin",
    "MomoTrainingArguments": "arguments",
    "PushMixin": "pushing",
    "is_momo": "arguments",
    "momo_cls_and_kwargs": "arguments",
}

__all__ = [
    "CheckpointMixin",
    "ModelCardMixin",
    "MomoArgumentsMixin",
    "MomoSeq2SeqTrainer",
    "MomoSeq2SeqTrainingArguments",
    "MomoTrainer",
    "MomoTrainerMixin",
    "MomoTrainingArguments",
    "PushMixin",
    "is_momo",
    "momo_cls_and_kwargs",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
