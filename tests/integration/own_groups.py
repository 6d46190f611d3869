"""A training script whose Trainer makes its own parameter groups, like sentence-transformers.

The loss has parameters that the model does not have, and layers have their own learning rates. As a script,
``python own_groups.py --output_dir OUT --optim momo_adam ...`` writes how far training moved them.
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn
from transformers import HfArgumentParser, Trainer, TrainerCallback, TrainingArguments, set_seed

FEATURES, CLASSES = 5, 4
HEAD_RATE, FROZEN_RATE = 0.5, 0.0


class SoftmaxLoss(nn.Module):
    """Loss with an encoder, and a head that belongs to the loss alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(8, CLASSES)

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(self.head(self.model(features)), labels)


def groups_of(loss):
    """Return groups with the first layer at rate 0, the second at the Trainer's rate, the head at its own."""
    return [
        {"params": list(loss.model[0].parameters()), "lr": FROZEN_RATE},
        {"params": list(loss.model[2].parameters())},
        {"params": list(loss.head.parameters()), "lr": HEAD_RATE},
    ]


class ClearGradients(TrainerCallback):
    """Callback that clears the gradients of the loss, since the Trainer clears only those of its model."""

    def on_step_end(self, args, state, control, optimizer=None, **kwargs):
        optimizer.zero_grad()


class LossTrainer(Trainer):
    """Trainer that trains the parameters of its loss. Subclasses make the groups."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss = SoftmaxLoss(self.model)
        self.add_callback(ClearGradients())

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        loss = self.loss(inputs["features"], inputs["labels"])
        return (loss, {"logits": loss}) if return_outputs else loss


class InstanceMethod(LossTrainer):
    def get_optimizer_cls_and_kwargs(self, args, model=None):
        optimizer_cls, options = super().get_optimizer_cls_and_kwargs(args, self.loss)
        return optimizer_cls, {**options, "optimizer_dict": groups_of(self.loss)}


class ClassMethod(LossTrainer):
    def create_optimizer(self, model=None):
        type(self).current_loss = self.loss
        return super().create_optimizer()

    @classmethod
    def get_optimizer_cls_and_kwargs(cls, args, model=None):
        optimizer_cls, options = super().get_optimizer_cls_and_kwargs(args, model)
        return optimizer_cls, {**options, "params": groups_of(cls.current_loss)}


class StaticMethod(LossTrainer):
    def create_optimizer(self, model=None):
        StaticMethod.current_loss = self.loss
        return super().create_optimizer()

    @staticmethod
    def get_optimizer_cls_and_kwargs(args, model=None):
        optimizer_cls, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
        return optimizer_cls, {**options, "optimizer_dict": groups_of(StaticMethod.current_loss)}


class OwnOptimizer(LossTrainer):
    """Trainer like LLaVA's, which asks the stock class by name and never calls the stock ``create_optimizer``."""

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            optimizer_cls, options = Trainer.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = optimizer_cls(groups_of(self.loss), **options)
        return self.optimizer


def examples(count=32):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(count, FEATURES, generator=generator)
    labels = (features @ torch.randn(FEATURES, CLASSES, generator=generator)).argmax(dim=-1)
    return [{"features": x, "labels": y} for x, y in zip(features, labels, strict=True)]


def encoder():
    set_seed(1)
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())


def train(trainer):
    """Train; return how far each layer moved, and the rates of the groups."""
    parts = {"first": trainer.model[0], "second": trainer.model[2], "head": trainer.loss.head}
    before = {name: part.weight.detach().clone() for name, part in parts.items()}
    trainer.train()
    moved = {name: float((part.weight.detach() - before[name]).norm()) for name, part in parts.items()}
    return {"moved": moved, "rates": [group["lr"] for group in trainer.optimizer.param_groups]}


def main():
    (args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
    trainer = InstanceMethod(model=encoder(), args=args, train_dataset=examples())
    result = train(trainer)
    result["logs"] = [entry for entry in trainer.state.log_history if "loss" in entry]
    result["type"] = "stock" if type(trainer) is InstanceMethod else "mixed"
    Path(args.output_dir, "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
