"""The Hugging Face Trainer with MoMo."""

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
