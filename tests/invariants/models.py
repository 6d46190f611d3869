"""The models of the table and their data, the same in the launched processes and in the plain loop."""

from __future__ import annotations

from typing import Any

import torch
from invariants.configurations import Setting
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from trainer.tiny import CLASSES, FEATURES, Examples, LinearLossOverWindow, gpt2, score_examples, text_examples


class Layer(nn.Module):
    """A layer that FSDP wraps separately."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return torch.tanh(self.linear(features))


class Net(nn.Module):
    """Two layers. Sharded over two ranks, one shard is empty (``scale``) and one is uneven (three rows)."""

    _no_split_modules = ("Layer",)

    def __init__(self) -> None:
        super().__init__()
        self.hidden = Layer(FEATURES, 12)
        self.narrow = Layer(12, 3)
        self.output = nn.Linear(3, CLASSES)
        self.scale = nn.Parameter(torch.ones(1))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for param in self.parameters():
                param.copy_(0.7 * torch.randn(param.shape, generator=generator))
            self.scale.fill_(1.5)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"logits": self.output(self.narrow(self.hidden(features))) * self.scale}


class Scores(LinearLossOverWindow):
    """A model linear in its weights, also with an empty shard."""

    _no_split_modules = ()

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.full((1,), 0.25))

    def forward(self, features: Tensor, labels: Tensor | None = None, **kwargs: Any) -> dict[str, Tensor]:
        outputs = self._outputs(features, labels, kwargs.get("num_items_in_batch"))
        outputs["logits"] = outputs["logits"] + self.offset
        if labels is None:
            return outputs
        kept = (labels != -100).sum()
        share = kept / kwargs.get("num_items_in_batch", kept)
        return outputs | {"loss": outputs["loss"] + share * self.offset.squeeze()}


def exact_causal_loss(
    logits: Tensor, labels: Tensor, vocab_size: int, num_items_in_batch: Tensor | None = None, **kwargs: Any
) -> Tensor:
    """Return the loss of transformers' causal language models, without rounding the logits to float32."""
    targets = labels[..., 1:]
    total = item_losses(logits[..., :-1, :], targets).sum()
    return total / ((targets != -100).sum() if num_items_in_batch is None else num_items_in_batch)


def build(way: str, setting: Setting, *, euler: bool, dtype: torch.dtype) -> nn.Module:
    """Return the model of a row, with the same weights in every process."""
    if euler:
        model: nn.Module = Scores()
    elif way == "trainer":
        model = gpt2()
        model.loss_function = exact_causal_loss
    else:
        model = Net()
    if setting.precision == "autocast":
        # ZeRO-3 makes its float32 master weights from bfloat16 ones.
        model.to(torch.bfloat16)
    return model.to(dtype)


def examples(way: str, setting: Setting, *, euler: bool, dtype: torch.dtype) -> Examples:
    """Return the examples of a row; each has a different number of labels."""
    if way == "trainer" and not euler:
        texts = text_examples(setting.examples)
        for text in texts.examples:
            # The first label is never a target, but releases of transformers differ in whether they count it.
            text["labels"][0] = -100
        return texts
    rows = score_examples(setting.examples).examples
    return Examples([{"features": row["features"].to(dtype), "labels": row["labels"]} for row in rows])


def item_losses(logits: Tensor, labels: Tensor, *, euler: bool = False) -> Tensor:
    """Return the loss of every item, 0 where there is no label; same shape as ``labels``."""
    if euler:
        return logits.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1) * (labels != -100)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none").view(labels.shape)
