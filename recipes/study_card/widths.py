"""How far the learning rate of each optimizer may be off: widths around the scores of base optimizers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hf_momo.hub.cards.words import table
from hf_momo.sweep.grid import format_rate
from study_card.cells import Cell, format_score

_TOLERANCES = (0.01, 0.05)
_TIMES = (3, 10)
_EXPLAINED = """\
A width is the number of decades between the ends of the longest run of neighbouring rates whose scores are at most \
1% or 5% worse than the best score of the base; 0.0 is a single rate. The last columns are the change of the score at \
three and at ten times the best rate, or at a rate within 12% of that."""


def widths_table(cells: Sequence[Cell], record: Mapping[str, Any]) -> str:
    """Return the table of the widths around the best scores of the record's ``bases``, with its explanation."""
    sign = 1 if record.get("greater_is_better", True) else -1
    rows: dict[str, list[Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.optimizer, []).append(cell)
    best = {name: max(own, key=lambda cell: sign * cell.mean) for name, own in rows.items()}
    limits = [best[base].mean for base in record["bases"]]
    shown = [
        f"`{base}` ({format_score(limit, None, record)})" for base, limit in zip(record["bases"], limits, strict=True)
    ]
    header = ["optimizer", "best", "at", *(f"within 1% / 5% of {base}" for base in shown)]
    header += [f"{times} times the rate" for times in _TIMES]
    body = []
    for name, own in rows.items():
        reached = [" / ".join(_width(own, limit, each, sign) for each in _TOLERANCES) for limit in limits]
        costs = [_cost(own, best[name], times) for times in _TIMES]
        score, rate = format_score(best[name].mean, None, record), format_rate(best[name].learning_rate)
        body.append([f"`{name}`", score, rate, *reached, *costs])
    return f"## Widths\n\n{table(header, body)}\n\n{_EXPLAINED}"


def _width(cells: Sequence[Cell], limit: float, tolerance: float, sign: int) -> str:
    longest, start = -1.0, None
    for cell in sorted(cells, key=lambda cell: cell.learning_rate):
        if sign * (limit - cell.mean) > (tolerance + 1e-9) * abs(limit):
            start = None
            continue
        start = cell.learning_rate if start is None else start
        longest = max(longest, math.log10(cell.learning_rate / start))
    return "none" if longest < 0 else f"{longest:.1f}"


def _cost(cells: Sequence[Cell], best: Cell, times: int) -> str:
    """Return the relative change of the score at about so many times the best learning rate, if it was run."""
    for cell in cells:
        # Half-decades: 3e-3 to 1e-2 is a factor of 3.3.
        if math.isclose(cell.learning_rate, times * best.learning_rate, rel_tol=0.12):
            return f"{(cell.mean - best.mean) / abs(best.mean):+.1%}"
    return "not run"
