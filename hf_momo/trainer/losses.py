"""The lowest loss that label smoothing allows, and a correction of losses that the Trainer scales wrongly."""

from __future__ import annotations

import inspect
import logging
import math
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)


def automatic_lower_bound(label_smoothing: float, model: Any = None) -> float:
    """Return the lowest value of a cross-entropy in nats: the entropy of the smoothed target, 0 without smoothing.

    Args:
        label_smoothing: ``epsilon`` in [0, 1). The target is ``1 - epsilon + epsilon / V`` on the label and
            ``epsilon / V`` on the other classes.
        model: The model. The number of classes ``V`` is read from its output embeddings, or from
            ``config.num_labels``. Needed only with smoothing.

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
        # The shape of the weight comes second: under FSDP1 and ZeRO-3 each rank has only a piece of it, or nothing.
        return int(getattr(embeddings, "out_features", 0) or embeddings.weight.shape[0])
    classes = getattr(getattr(model, "config", None), "num_labels", None)
    if classes is None:
        raise ValueError(
            "lower_bound: got 'auto' with label smoothing, but the model has neither output embeddings nor"
            " config.num_labels; pass the bound as a number (the entropy of the smoothed target)"
        )
    return int(classes)


def correct_loss_scale(trainer: Any) -> None:
    """Prevent the Trainer from inflating the loss of models that ignore ``num_items_in_batch``.

    In transformers 5 the ``forward`` of T5, BART, Marian and similar models takes ``**kwargs``. The Trainer concludes
    that these models divide their loss by the number of tokens of the whole window, so it does not divide by the
    accumulation steps and multiplies by the number of processes (transformers issue 47688). Loss and gradient are then
    too large by accumulation steps times processes. Adam is not affected, but the lower bound and the logs are.

    If such a model computes the loss itself, this function sets ``accepts_loss_kwargs = False`` on it and warns once.

    Args:
        trainer: The Trainer, after its constructor.
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
            "%s ignores num_items_in_batch, so the Trainer would inflate its loss by gradient accumulation steps"
            " times processes (transformers issue 47688). Its accepts_loss_kwargs is now False",
            type(model).__name__,
        )


def ignores_num_items(model: nn.Module) -> bool:
    """Return whether ``forward`` takes ``**kwargs`` but averages its cross-entropy without ``num_items_in_batch``.

    The names that ``forward`` uses decide: it has its own cross-entropy module, and uses neither the shared loss
    function of transformers nor ``num_items_in_batch``.

    Args:
        model: Any module.
    """
    forward = inspect.unwrap(type(model).forward)
    code = getattr(forward, "__code__", None)
    if code is None or not any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in inspect.signature(forward).parameters.values()
    ):
        return False
    normalizes = "loss_function" in code.co_names or "num_items_in_batch" in code.co_varnames + code.co_consts
    return "CrossEntropyLoss" in code.co_names and not normalizes
