"""The stock trainers with MoMo, its model cards, its checkpoints and its pushing."""

from __future__ import annotations

from transformers import Seq2SeqTrainer, Trainer

from hf_momo.trainer.cards import ModelCardMixin
from hf_momo.trainer.checkpoints import CheckpointMixin
from hf_momo.trainer.mixin import MomoTrainerMixin
from hf_momo.trainer.pushing import PushMixin


class MomoTrainer(MomoTrainerMixin, ModelCardMixin, CheckpointMixin, PushMixin, Trainer):
    """The stock ``Trainer`` with MoMo. It takes the stock arguments.

    ``MomoTrainerMixin`` brings the loss to the optimizer, ``ModelCardMixin`` writes cards that describe the run,
    ``CheckpointMixin`` resumes only from complete checkpoints, and ``PushMixin`` keeps a run alive when the Hub fails.
    """


class MomoSeq2SeqTrainer(MomoTrainerMixin, ModelCardMixin, CheckpointMixin, PushMixin, Seq2SeqTrainer):
    """The stock ``Seq2SeqTrainer`` with the same additions as ``MomoTrainer``."""
