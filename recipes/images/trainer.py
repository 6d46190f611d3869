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
    """`MomoTrainer` whose `--optim sgd` has momentum, and which evaluates every image.

    Takes `ImageTrainingArguments`.
    """

    @classmethod
    def get_optimizer_cls_and_kwargs(cls, args: Any, model: Any = None) -> tuple[Any, Any]:
        """SGD with the momentum of the recipe's settings; every other optimizer as in `MomoTrainer`."""
        optimizer_cls, options = super().get_optimizer_cls_and_kwargs(args, model)
        if optimizer_cls is torch.optim.SGD:
            options = {"momentum": args.sgd_momentum, "dampening": args.sgd_dampening, **options}
        return optimizer_cls, options

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """Of all images: `--dataloader_drop_last` is about training."""
        with self._dropping_nothing():
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """Of all images."""
        with self._dropping_nothing():
            return super().get_test_dataloader(*args, **kwargs)

    @contextmanager
    def _dropping_nothing(self) -> Iterator[None]:
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = False
        try:
            yield
        finally:
            self.args.dataloader_drop_last = drop_last


class EpochCallback(TrainerCallback):
    """Lets every epoch, also the one in which a resumed run goes on, draw its own augmentation."""

    def __init__(self, augmentation: Augmentation) -> None:
        self._augmentation = augmentation

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the first batch of the epoch is fetched."""
        self._augmentation.set_epoch(int(state.epoch or 0))


def predicted_classes(logits: Any, labels: Tensor) -> Tensor:
    """The likeliest class of each image, so that evaluation need not keep all logits."""
    scores = logits[0] if isinstance(logits, tuple) else logits
    classes: Tensor = scores.argmax(dim=-1)
    return classes


def accuracy(evaluated: EvalPrediction) -> dict[str, float]:
    """Share of the images that were classified right."""
    predictions: Any = evaluated.predictions
    return {"accuracy": float((predictions == evaluated.label_ids).mean())}
