"""The examples of each micro-batch, and the weight of each item in the loss of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from invariants.configurations import BATCH
from torch import Tensor

# Sizes of the micro-batches of a window in the order of the loader, which deals them to the ranks in turn.
LAYOUTS: dict[str, Callable[[int], list[int]]] = {
    "whole": lambda ranks: [BATCH // ranks] * ranks,
    "accumulated": lambda ranks: [1] * BATCH,
    "pairs": lambda ranks: [2] * (BATCH // 2),
    "unequal": lambda ranks: [BATCH] if ranks == 1 else [3, BATCH - 3],
}

Window = list[list[int]]
"""Micro-batches of a window, of all ranks, in the order of the loader: indices of examples."""


def accumulation_steps(layout: str, ranks: int) -> int:
    return len(LAYOUTS[layout](ranks)) // ranks


def windows(layout: str, examples: int, ranks: int) -> list[Window]:
    """Return the micro-batches of every step; the last ones are shorter if there are not enough examples."""
    sizes, at, result = LAYOUTS[layout](ranks), 0, []
    while at < examples:
        window = []
        for size in sizes:
            window.append(list(range(at, min(at + size, examples))))
            at += size
        result.append([batch for batch in window if batch])
    return result


def item_weights(window: Window, kept: Sequence[Tensor], normalize: str, *, ranks: int, accumulation: int) -> Tensor:
    """Return the weight of every item in the loss of the window, shape ``(examples of the window, positions)``.

    Args:
        window: The micro-batches.
        kept: For every example, which positions have a label.
        normalize: See ``Setting``.
        ranks: Number of processes.
        accumulation: The number by which a training loop divides, even if the window is not full.
    """
    counts = [sum(int(kept[index].sum()) for index in batch) for batch in window]
    rows = []
    for at, batch in enumerate(window):
        if normalize == "items":
            divisor = sum(counts)
        elif normalize == "rank items":
            divisor = ranks * sum(counts[at % ranks :: ranks])
        elif normalize == "examples":
            divisor = sum(len(each) for each in window)
        else:
            divisor = ranks * accumulation * counts[at]
        rows += [kept[index].double() / divisor for index in batch]
    return torch.stack(rows)
