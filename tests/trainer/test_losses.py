"""The lowest value of a smoothed cross-entropy, and the models whose loss the Trainer would inflate."""

import math
from types import SimpleNamespace

import pytest
import torch
from optimizers.test_registry import small_models
from torch import nn

from hf_momo.trainer.losses import automatic_lower_bound, ignores_num_items


def classifier(classes):
    return SimpleNamespace(config=SimpleNamespace(num_labels=classes))


@pytest.mark.parametrize(("classes", "nats"), [(10152, 1.25), (32000, 1.36)])
def test_values_of_the_design(classes, nats):
    assert round(automatic_lower_bound(0.1, classifier(classes)), 2) == nats


@pytest.mark.parametrize(("smoothing", "classes"), [(0.1, 5), (0.3, 2), (0.01, 100), (0.9, 4)])
def test_is_the_minimum_of_the_cross_entropy(smoothing, classes):
    """Logits fitted to a smoothed target reach the bound, and so do the logits of the target itself."""
    bound = automatic_lower_bound(smoothing, classifier(classes))
    label = torch.tensor([1])
    target = torch.full((1, classes), smoothing / classes, dtype=torch.float64)
    target[0, 1] += 1 - smoothing

    def loss_of(logits):
        return nn.functional.cross_entropy(logits, label, label_smoothing=smoothing)

    assert float(loss_of(target.log())) == pytest.approx(bound, rel=1e-12)
    logits = torch.zeros(1, classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = loss_of(logits)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert float(loss_of(logits.detach())) == pytest.approx(bound, rel=1e-9)
    assert float(loss_of(logits.detach() + 0.01 * torch.randn(classes))) > bound


def test_no_smoothing_needs_no_model():
    assert automatic_lower_bound(0.0) == 0.0


def test_vocabulary_of_a_language_model():
    """The size comes from the output embeddings with their padding, since the softmax includes it."""
    bound = automatic_lower_bound(0.1, small_models()["marian"]())
    assert bound == pytest.approx(automatic_lower_bound(0.1, classifier(20)), rel=1e-12)


def test_number_of_classes_of_a_classifier():
    """Without output embeddings the number is ``config.num_labels``."""
    bound = automatic_lower_bound(0.1, small_models()["bert"]())
    on, off = 0.95, 0.05
    assert bound == pytest.approx(-on * math.log(on) - off * math.log(off), rel=1e-12)


@pytest.mark.parametrize("model", [None, nn.Linear(2, 2)])
def test_unknown_number_of_classes(model):
    with pytest.raises(ValueError, match=r"lower_bound: got 'auto' with label smoothing, but .* pass the bound"):
        automatic_lower_bound(0.1, model)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("marian", True), ("bart", True), ("t5", True), ("gpt2", False), ("llama", False), ("bert", True)],
)
def test_ignores_num_items(name, expected):
    """The encoder-decoders and BERT of transformers 5 average their own cross-entropy and accept any keyword.

    Causal language models use the shared loss function, which divides by the count. In transformers 4 the former take
    no ``**kwargs``, and the Trainer scales their loss correctly.
    """
    transformers = pytest.importorskip("transformers")
    if expected and int(transformers.__version__.split(".")[0]) < 5:
        expected = False
    assert ignores_num_items(small_models()[name]()) is expected


class TakesNothing(nn.Module):
    def forward(self, x):
        return nn.CrossEntropyLoss()(x, x)


class UsesTheCount(nn.Module):
    def forward(self, x, **kwargs):
        return nn.CrossEntropyLoss(reduction="sum")(x, x) / kwargs["num_items_in_batch"]


class NamesTheCount(nn.Module):
    def forward(self, x, num_items_in_batch=None, **kwargs):
        return nn.CrossEntropyLoss(reduction="sum")(x, x) / num_items_in_batch


class AveragesItself(nn.Module):
    def forward(self, x, **kwargs):
        return nn.CrossEntropyLoss()(x, x)


class NoLoss(nn.Module):
    def forward(self, x, **kwargs):
        return x


@pytest.mark.parametrize(
    ("model", "expected"),
    [(TakesNothing, False), (UsesTheCount, False), (NamesTheCount, False), (AveragesItself, True), (NoLoss, False)],
)
def test_ignores_num_items_of_own_models(model, expected):
    assert ignores_num_items(model()) is expected
