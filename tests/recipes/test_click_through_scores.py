"""DLRM compared with its formula, and its scores with those of scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from models.dlrm import DLRM, DLRMConfig
from sklearn.metrics import log_loss, roc_auc_score

from click_through.batches import IGNORED
from click_through.evaluation import score


def test_scores_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, generator=generator)
    labels = (torch.rand(500, generator=generator) < torch.sigmoid(logits)).float()
    scores = score(logits, labels)
    probabilities = torch.sigmoid(logits.double()).numpy()
    assert scores.loss == pytest.approx(log_loss(labels.numpy(), probabilities), rel=1e-9)
    assert scores.auc == pytest.approx(roc_auc_score(labels.numpy(), probabilities), rel=1e-9)
    rate = scores.click_rate
    assert rate == pytest.approx(float(labels.mean()))
    assert scores.constant_loss == pytest.approx(-rate * math.log(rate) - (1 - rate) * math.log(1 - rate), rel=1e-9)
    assert score(logits, torch.zeros(500)).auc is None
    assert score(logits * math.nan, labels).auc is None
    # Logits whose probability in single precision is 0 or 1.
    assert score(torch.tensor([-200.0, 300.0]), torch.tensor([1.0, 1.0])).loss == pytest.approx(100.0)


def test_dlrm_is_its_formula() -> None:
    config = DLRMConfig(3, [5, 4], embedding_size=2, bottom_hidden_sizes=[6], top_hidden_sizes=[7])
    model = DLRM(config).double()
    dense = torch.rand(4, 3, dtype=torch.float64)
    categories = torch.tensor([[0, 3], [7, 4], [3, 2**32 - 2], [9, 0]])
    labels = torch.tensor([1.0, 0.0, IGNORED, 1.0])
    table, logits = model.embedding.weight, []
    for numbers, (first, second) in zip(dense, categories.tolist(), strict=True):
        bottom = model.bottom(numbers)
        one, two = table[first % 5], table[5 + second % 4]
        products = torch.stack([one @ bottom, two @ bottom, two @ one])
        logits.append(model.top(torch.cat([bottom, products]))[0].detach())
    output = model(dense, categories, labels)
    torch.testing.assert_close(output.logits.detach(), torch.stack(logits))
    expected = [-math.log(torch.sigmoid(sign * logits[row])) for row, sign in ((0, 1), (1, -1), (3, 1))]
    assert output.loss.item() == pytest.approx(sum(expected) / 3, rel=1e-6)
    assert model(dense, categories, labels, num_items_in_batch=12).loss.item() == pytest.approx(sum(expected) / 12)
    # A row without a label has no gradient: only the third one has looked up 3 and 5 + 2.
    output.loss.backward()
    touched = model.embedding.weight.grad.abs().sum(dim=1) > 0
    assert touched.nonzero().flatten().tolist() == [0, 2, 4, 5, 8]
