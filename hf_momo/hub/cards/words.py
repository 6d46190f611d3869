"""Numbers and settings as a card writes them."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

# With what may stand beside a number in a table: a deviation, a percent sign, the parts of a share.
_NUMBER = re.compile(r"[-+]?\d[\d.,e+-]*%?( ± [\d.]+)?( \(.*\))?$")


def cell(value: Any) -> str:
    """A value in a cell of a table."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(each)}" for name, each in value.items() if each is not None)
    if isinstance(value, list | tuple) and len(set(map(str, value))) == 1:
        return cell(value[0])
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())


def count(number: int, singular: str, plural: str | None = None) -> str:
    """`1 step`, `1,200 steps`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, numbers to the right, without the columns in which every row is empty."""
    columns = {number: [row[number] for row in rows if row[number]] for number in range(len(header))}
    kept = {number: all(map(_NUMBER.match, cells)) for number, cells in columns.items() if cells}
    lines = [[header[number] for number in kept], ["---:" if right else "---" for right in kept.values()]]
    lines += [[row[number] for number in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def finite(values: Sequence[Any]) -> list[float]:
    """The numbers among them that are finite."""
    return [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]


def number(value: Any, digits: int) -> str:
    """A score; empty where there is none, and said to be none where it is not finite."""
    if not isinstance(value, int | float):
        return ""
    return f"{value:.{digits}f}" if math.isfinite(value) else str(value)


def from_to(values: Sequence[float]) -> str:
    """`from 0.1 to 0.2`, or `0.1 throughout`."""
    if not values:
        return "not finite"
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return f"{low} throughout" if low == high else f"from {low} to {high}"
