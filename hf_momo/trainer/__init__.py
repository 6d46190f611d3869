"""The Hugging Face Trainer with MoMo."""

from hf_momo.trainer.mixin import (
    MomoArgumentsMixin,
    MomoSeq2SeqTrainer,
    MomoSeq2SeqTrainingArguments,
    MomoTrainer,
    MomoTrainerMixin,
    MomoTrainingArguments,
    is_momo,
    momo_cls_and_kwargs,
)

__all__ = [
    "MomoArgumentsMixin",
    "MomoSeq2SeqTrainer",
    "MomoSeq2SeqTrainingArguments",
    "MomoTrainer",
    "MomoTrainerMixin",
    "MomoTrainingArguments",
    "is_momo",
    "momo_cls_and_kwargs",
]
