"""Options of parameter groups: legal values, and whether all groups must agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Option:
    """One option of a parameter group.

    Attributes:
        check: Takes name and value; raises ``ValueError`` or ``TypeError``.
        shared: Whether all groups must have the same value, since one model of the loss spans them.
        shown: Name in messages, where it differs from the key in the group.
    """

    check: Callable[[str, Any], None]
    shared: bool = False
    shown: str | None = None


def number(
    *,
    at_least: float = -math.inf,
    below: float = math.inf,
    positive: bool = False,
    tensor: bool = False,
    shared: bool = False,
    shown: str | None = None,
) -> Option:
    """Return an option that is a finite number in ``[at_least, below)``, with ``tensor`` also as a tensor."""

    def check(name: str, value: Any) -> None:
        check_number(name, value, at_least=at_least, below=below, positive=positive, tensor=tensor)

    return Option(check, shared, shown)


def flag(*, shared: bool = False) -> Option:
    """Return an option that is ``True`` or ``False``."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"{name}: got {value!r}, must be True or False")

    return Option(check, shared)


def choice(*values: str, shared: bool = False) -> Option:
    """Return an option that is one of ``values``."""

    def check(name: str, value: Any) -> None:
        if value not in values:
            raise ValueError(f"{name}: got {value!r}, must be one of {', '.join(map(repr, values))}")

    return Option(check, shared)


def betas(example: tuple[float, float]) -> Option:
    """Return an option that is two numbers in [0, 1), shared by all groups."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, Sequence) or len(value) != 2:
            raise ValueError(f"{name}: got {value!r}, must be two numbers in [0, 1), such as {example}")
        for index, beta in enumerate(value):
            check_number(f"{name}[{index}]", beta, at_least=0.0, below=1.0)

    return Option(check, shared=True)


def check_options(group: Mapping[str, Any], options: Mapping[str, Option]) -> None:
    """Check the options of one parameter group.

    Raises:
        ValueError: If one is out of range.
        TypeError: If one has the wrong type.
    """
    for name, option in options.items():
        if name in group:
            option.check(option.shown or name, group[name])


def check_shared(groups: Sequence[Mapping[str, Any]], options: Mapping[str, Option]) -> None:
    """Check that shared options agree in all groups, which a scheduler or a loaded checkpoint may have changed.

    Raises:
        ValueError: If they do not.
    """
    first, *others = groups
    if not others:
        return
    for name, option in options.items():
        if option.shared and any(group.get(name) != first.get(name) for group in others):
            values = ", ".join(str(group.get(name)) for group in groups)
            free = ", ".join(other for other, each in options.items() if not each.shared)
            raise ValueError(
                f"{option.shown or name}: got {values} in the parameter groups, must be the same in all of them,"
                f" because one model of the loss spans all groups; only {free} may differ"
            )


def check_number(
    name: str,
    value: Any,
    *,
    at_least: float = -math.inf,
    below: float = math.inf,
    positive: bool = False,
    tensor: bool = False,
) -> None:
    """Check that ``value`` is a finite number in ``[at_least, below)``, and above 0 if it must be ``positive``.

    Raises:
        ValueError: If it is out of range, or a tensor of several elements.
        TypeError: If it is not a number.
    """
    legal = f"in [{at_least:g}, {below:g})" if math.isfinite(at_least) else "a finite number"
    legal = f"in (0, {below:g})" if positive else legal
    if isinstance(value, Tensor) and tensor:
        if value.numel() != 1:
            raise ValueError(f"{name}: got a tensor of {value.numel()} elements; a tensor {name} must have 1 element")
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: got {value!r}, must be a number {legal}")
    if not (math.isfinite(value) and at_least <= float(value) < below) or (positive and value <= 0):
        raise ValueError(f"{name}: got {value!r}, must be {legal}")
