"""Log loss and area under the ROC curve over the rows of all processes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from sklearn.metrics import roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits

from click_through.batches import LogSteps


@dataclass(frozen=True)
class Scores:
    """The scores of the predictions for a log.

    Attributes:
        loss: The log loss (mean negative log-likelihood) in nats.
        auc: The probability that a row with a click is scored above a row without; ``None`` where all rows have the
            same label or a score is not finite.
        rows: The number of rows.
        click_rate: The share of rows with a click.
        constant_loss: The log loss of predicting that share for every row, which a model has to beat.
    """

    loss: float
    auc: float | None
    rows: int
    click_rate: float
    constant_loss: float

    def metrics(self, prefix: str) -> dict[str, float | int | None]:
        """Return the scores under their names in all_results.json, e.g. ``eval_loss`` and ``eval_auc``."""
        return {f"{prefix}_loss": self.loss, f"{prefix}_auc": self.auc, f"{prefix}_samples": self.rows}


def evaluate(model: Any, steps: LogSteps, accelerator: Accelerator) -> Scores:
    """Return the scores of a log, the same on all processes; each process computes its share of the rows.

    Args:
        model: A prepared ``DLRM``; its training mode is restored.
        steps: The steps of this process.
        accelerator: The accelerator that prepared the model.
    """
    was_training = model.training
    model.eval()
    logits: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    with torch.no_grad():
        for step in steps:
            for batch in step.micro_batches:
                inputs = send_to_device({name: batch[name] for name in ("dense", "categories")}, accelerator.device)
                logits.append(model(**inputs).logits.float().cpu())
                labels.append(batch["labels"])
    model.train(was_training)
    # gather needs equally many rows on every process; the rows that pad the last batch are dropped afterwards.
    gathered = [accelerator.gather(torch.cat(each).to(accelerator.device)).cpu() for each in (logits, labels)]
    counted = gathered[1] >= 0
    return score(gathered[0][counted], gathered[1][counted])


def score(logits: torch.Tensor, labels: torch.Tensor) -> Scores:
    """Return the scores of predictions.

    Args:
        logits: The log-odds, shape ``(rows,)``.
        labels: 0 or 1, shape ``(rows,)``.
    """
    logits, labels = logits.double(), labels.double()
    rate = labels.mean()
    auc = None
    if 0 < rate < 1 and bool(logits.isfinite().all()):
        auc = float(roc_auc_score(labels.numpy().astype(np.int8), logits.numpy()))
    return Scores(
        loss=float(binary_cross_entropy_with_logits(logits, labels)),
        auc=auc,
        rows=len(labels),
        click_rate=float(rate),
        constant_loss=float(binary_cross_entropy_with_logits(torch.logit(rate).expand_as(labels), labels))
        if 0 < rate < 1
        else 0.0,
    )
