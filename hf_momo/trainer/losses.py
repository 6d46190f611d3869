"""What a training loss is worth: its least value under label smoothing, and whether the Trainer scales it rightly."""

from __future__ import annotations

import inspect
import logging
import math
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)


def automatic_lower_bound(label_smoothing: float, model: Any = None) -> float:
    """Least value that a cross-entropy can take: the entropy of its smoothed target.

    Args:
        label_smoothing: In [0, 1): ``epsilon`` of a target ``1 - epsilon + epsilon / V`` on the label and
            ``epsilon / V`` on the other classes.
        model: Its number of classes ``V`` is taken from the output embeddings, or else from ``config.num_labels``.
            Only needed with smoothing.

    Returns:
        The bound in nats; 0 without smoothing.

    Raises:
        ValueError: If the number of classes cannot be found.

    Example:
        >>> model = type("Model", (), {"config": type("Config", (), {"num_labels": 10152})})
        >>> round(automatic_lower_bound(0.1, model), 2)
        1.25
    """
    if label_smoothing == 0.0:
        return 0.0
    classes = _number_of_classes(model)
    off = label_smoothing / classes
    on = 1.0 - label_smoothing + off
    return -on * math.log(on) - (classes - 1) * off * math.log(off)


def _number_of_classes(model: Any) -> int:
    embeddings = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if embeddings is not None:
        # Not first the shape of the weight: FSDP1 and ZeRO-3 leave a piece of it, or nothing, on each rank.
        return int(getattr(embeddings, "out_features", 0) or embeddings.weight.shape[0])
    classes = getattr(getattr(model, "config", None), "num_labels", None)
    if classes is None:
        raise ValueError(
            "lower_bound: got 'auto' with label smoothing, but the model shows neither output embeddings nor"
            " config.num_labels; pass the bound as a number (the entropy of the smoothed target)"
        )
    return int(classes)


def correct_loss_scale(trainer: Any) -> None:
    """Keep the Trainer from inflating the loss of models that ignore ``num_items_in_batch``.

    In transformers 5, T5, BART, Marian and their kin take ``**kwargs``, so the Trainer believes that they divide their
    loss by the number of tokens of the whole window, and neither divides by the accumulation steps nor leaves out the
    factor of the number of processes (transformers issue 47688). The loss and its gradient are then too large by
    accumulation steps times processes: Adam does not notice, a lower bound and the logs do.

    Sets ``accepts_loss_kwargs = False`` on such a model, saying so once, where it is the model that computes the loss.
    """
    computed_elsewhere = trainer.compute_loss_func is not None or trainer.label_smoother is not None
    if computed_elsewhere or not getattr(trainer, "model_accepts_loss_kwargs", False):
        return
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    if ignores_num_items(model):
        model.accepts_loss_kwargs = False
        trainer.model_accepts_loss_kwargs = False
        logger.warning(
            "%s ignores num_items_in_batch, which would inflate its loss by gradient accumulation steps times"
            " processes (transformers issue 47688); set accepts_loss_kwargs = False on it",
            type(model).__name__,
        )


def ignores_num_items(model: nn.Module) -> bool:
    """Whether ``forward`` takes ``**kwargs`` but averages its own cross-entropy without ``num_items_in_batch``.

    Args:
        model: Any module. The names that its ``forward`` uses decide: a cross-entropy module of its own, and neither
            the shared loss function of transformers nor ``num_items_in_batch``.
    """
    forward = inspect.unwrap(type(model).forward)
    code = getattr(forward, "__code__", None)
    if code is None or not any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in inspect.signature(forward).parameters.values()
    ):
        return False
    normalizes = "loss_function" in code.co_names or "num_items_in_batch" in code.co_varnames + code.co_consts
    return "CrossEntropyLoss" in code.co_names and not normalizes
