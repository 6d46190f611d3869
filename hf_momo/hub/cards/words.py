"""Numbers and settings as a card writes them."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

# A number in a table, with a percent sign, a deviation or parts in parentheses behind it.
_NUMBER = re.compile(r"[-+]?\d[\d.,e+-]*%?( ± [\d.]+)?( \(.*\))?$")


def cell(value: Any) -> str:
    """Return a value as the text of a table's cell."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(each)}" for name, each in value.items() if each is not None)
    if isinstance(value, list | tuple) and len(set(map(str, value))) == 1:
        return cell(value[0])
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Return ``1 step``, ``1,200 steps``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, numbers right-aligned, without the columns that are empty in every row."""
    columns = {number: [row[number] for row in rows if row[number]] for number in range(len(header))}
    kept = {number: all(map(_NUMBER.match, cells)) for number, cells in columns.items() if cells}
    lines = [[header[number] for number in kept], ["---:" if right else "---" for right in kept.values()]]
    lines += [[row[number] for number in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def finite(values: Sequence[Any]) -> list[float]:
    """Return the finite numbers among the values."""
    return [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]


def number(value: Any, digits: int) -> str:
    """Return a score as text: empty for a missing one, ``nan`` or ``inf`` for one that is not finite."""
    if not isinstance(value, int | float):
        return ""
    return f"{value:.{digits}f}" if math.isfinite(value) else str(value)


def between(values: Sequence[float]) -> str:
    """Return ``between 0.1 and 0.2``, or ``0.1 throughout``."""
    if not values:
        return "not finite"
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return f"{low} throughout" if low == high else f"between {low} and {high}"
