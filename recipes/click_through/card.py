"""The click-through rate task: its scores, and the texts of its model card."""

from common.tasks import Task
from hf_momo.hub.cards.task import Record, Score, article_and_type, size
from hf_momo.hub.cards.words import count

_USAGE = """\
```python
import torch
from transformers import AutoModel

model = AutoModel.from_pretrained("{repository}", trust_remote_code=True).eval()
counts = torch.zeros(1, model.config.num_dense_features)
codes = torch.zeros(1, len(model.config.hash_sizes), dtype=torch.int64)
print(model(dense=torch.log1p(counts), categories=codes).logits.sigmoid())
```

The output is the probability of a click. `dense` takes the logarithm of 1 + each count, `categories` the hexadecimal
codes of the log as integers; `recipes/click_through/criteo.py` of hf_momo reads both from the log.
`trust_remote_code` lets transformers load the code of the model from the repository."""


class _ClickThroughRate(Task):
    name = "click-through-rate"
    # The Hub's name for predicting a column of a table from the others.
    pipeline_tag = "tabular-classification"
    scores = (Score("auc", "AUC", "roc_auc", 4), Score("loss", "log loss", "log_loss", 4))
    score_label = "area under the ROC curve"
    highest_score = 1.0
    loss_unit = "nats per row"
    parts = {"max_train_rows": None, "max_eval_rows": None}  # noqa: RUF012

    def description(self, record: Record) -> str:
        return f"{article_and_type(record)} model with {size(record)} that predicts the probability of a click"

    def trained_on(self, record: Record) -> str:
        passes = f", {record['epochs']:g} passes over the log" if record["epochs"] > 1 else ""
        name = record["data"].get("name") or "a log in the format of Criteo"
        return f"{count(record['rows'], 'row')} ({name}{passes})"

    def evaluated_on(self, record: Record, split: str) -> str:
        scores = record["metrics"][split]
        return (
            f"{count(scores['rows'], 'row')} of {split}, of which {scores['click_rate']:.1%} are clicks; predicting "
            f"that rate for every row has a log loss of {scores['constant_loss']:.4f}"
        )

    def usage(self, record: Record) -> str:
        return _USAGE


CLICK_THROUGH_RATE = _ClickThroughRate()
