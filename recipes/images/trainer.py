"""The Trainer of the image classification recipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import EvalPrediction, TrainerCallback

from hf_momo import MomoTrainer
from images.augmentation import Augmentation


class ImageTrainer(MomoTrainer):
    """``MomoTrainer`` for ``ImageTrainingArguments``: SGD has momentum, and every image is evaluated."""

    @classmethod
    def get_optimizer_cls_and_kwargs(cls, args: Any, model: Any = None) -> tuple[Any, Any]:
        """Return the optimizer, with the momentum of the settings if it is SGD."""
        optimizer_cls, options = super().get_optimizer_cls_and_kwargs(args, model)
        if optimizer_cls is torch.optim.SGD:
            options = {"momentum": args.sgd_momentum, "dampening": args.sgd_dampening, **options}
        return optimizer_cls, options

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """Return a data loader of all images; ``--dataloader_drop_last`` is for training only."""
        with self._keep_last_batch():
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """Return a data loader of all images."""
        with self._keep_last_batch():
            return super().get_test_dataloader(*args, **kwargs)

    @contextmanager
    def _keep_last_batch(self) -> Iterator[None]:
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = False
        try:
            yield
        finally:
            self.args.dataloader_drop_last = drop_last


class EpochCallback(TrainerCallback):
    """Callback that sets the epoch of the augmentation, also when a run is resumed."""

    def __init__(self, augmentation: Augmentation) -> None:
        self._augmentation = augmentation

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the epoch before its first batch is fetched."""
        self._augmentation.set_epoch(int(state.epoch or 0))


def predicted_classes(logits: Any, labels: Tensor) -> Tensor:
    """Return the most likely class of each image, so that the evaluation keeps no logits."""
    scores = logits[0] if isinstance(logits, tuple) else logits
    classes: Tensor = scores.argmax(dim=-1)
    return classes


def accuracy(evaluated: EvalPrediction) -> dict[str, float]:
    """Return the share of images that are classified correctly."""
    predictions: Any = evaluated.predictions
    return {"accuracy": float((predictions == evaluated.label_ids).mean())}
