"""Which examples a rank gets when, and what each item weighs in the loss of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from invariants.configurations import BATCH
from torch import Tensor

# Sizes of the micro-batches of a window in the order of the loader, which deals them out to the ranks by turns.
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
    """The micro-batches of every step; the last batch and the last window are shorter where examples run out."""
    sizes, at, result = LAYOUTS[layout](ranks), 0, []
    while at < examples:
        window = []
        for size in sizes:
            window.append(list(range(at, min(at + size, examples))))
            at += size
        result.append([batch for batch in window if batch])
    return result


def item_weights(window: Window, kept: Sequence[Tensor], normalize: str, *, ranks: int, accumulation: int) -> Tensor:
    """Weight of every item in the loss of the window.

    Args:
        window: The micro-batches.
        kept: For every example which positions have a label.
        normalize: See ``Setting``.
        ranks: Number of processes.
        accumulation: What a training loop divides by, whether or not the window is full.

    Returns:
        Shape ``(examples of the window, positions)``.
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
