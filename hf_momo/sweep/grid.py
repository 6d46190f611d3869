"""The grid of a sweep: optimizers, learning rates, seeds and other arguments as one ``Run`` for every combination."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from hf_momo.utils.errors import UsageError

_RATES = "numbers above 0 (1e-3,1e-2) or a range: 1e-4:1:decades, 1e-4:1:half-decades or 1e-4:1:N for N points"
_POINTS_PER_DECADE = {"decades": 1, "half-decades": 2}
# Arguments of the script that the sweep sets, besides those of ``--grid``.
RESERVED = {"optim", "learning_rate", "seed", "output_dir", "resume_from_checkpoint"}
# The longest name of a file or folder on the usual file systems, in bytes.
_LONGEST_NAME = 255

_OPTIM = r"[A-Za-z0-9][\w.-]*"

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Run:
    """One run of the script; that of a search has a ``number``, and NaN for a learning rate until one is drawn."""

    optim: str
    options: Mapping[str, str]
    learning_rate: float
    seed: int
    number: int | None = None

    @property
    def name(self) -> str:
        """The optimizer and its options, which are compared in tables and pictures."""
        return ", ".join([self.optim, *(f"{name}={value}" for name, value in self.options.items())])

    @property
    def folder(self) -> Path:
        """Its folder in the folder of the sweep, e.g. ``momo_adam/lr_1e-03/seed_0``; no two runs share one."""
        options = [re.sub(r"[^\w.+=-]+", "_", f"{name}_{value}") for name, value in self.options.items()]
        point = f"lr_{format_rate(self.learning_rate)}" if self.number is None else f"trial_{self.number}"
        return Path(self.optim, *options, point, f"seed_{self.seed}")

    @property
    def arguments(self) -> list[str]:
        """The arguments that the script gets for this run."""
        swept = {"optim": self.optim, "learning_rate": repr(self.learning_rate), "seed": str(self.seed)}
        return [word for name, value in {**swept, **self.options}.items() for word in (f"--{name}", value)]


@dataclass(frozen=True)
class Grid:
    """The combinations of a sweep, as JSON has them.

    ``variants`` are ``optim`` and ``options`` of a ``Run``. With a number of ``trials`` it is a search, which makes so
    many runs of every variant and seed between two ``learning_rates``.
    """

    variants: list[dict[str, Any]]
    learning_rates: dict[str, list[float]]
    seeds: list[int]
    trials: int | None = None

    @property
    def runs(self) -> list[Run]:
        """All runs in the order in which they start: a grid completes its first seed before the second."""
        numbers = [None] if self.trials is None else range(self.trials)
        return [
            Run(variant["optim"], dict(variant["options"]), rate, seed, number)
            for number, seed, variant in product(numbers, self.seeds, self.variants)
            for rate in (self.learning_rates[variant["optim"]] if number is None else [math.nan])
        ]


def parse_grid(
    optim: str, learning_rates: Sequence[str], seeds: str, others: Sequence[str], trials: int | None = None
) -> Grid:
    """Parse ``--optim``, ``--learning_rate``, ``--seed``, ``--grid`` and ``--trials``.

    Example:
        >>> grid = parse_grid("momo_adam,adamw_torch", ["1e-3:1e-2:decades", "adamw_torch=1e-4"], "0,1", [])
        >>> [str(run.folder) for run in grid.runs if run.seed == 1]
        ['momo_adam/lr_1e-03/seed_1', 'momo_adam/lr_1e-02/seed_1', 'adamw_torch/lr_1e-04/seed_1']
    """
    names = _values("--optim", optim, "names of optimizers separated by commas: momo_adam,adamw_torch", str, _OPTIM)
    combinations = _combinations(others)
    variants: list[Any] = [{"optim": name, "options": options} for name in names for options in combinations]
    known: set[Path] = set()
    for variant in variants:
        folder = Run(**variant, learning_rate=1.0, seed=0).folder.parents[1]
        if folder in known:
            raise UsageError(f"--grid: got {' '.join(others)}, in which two values give one folder: {folder}")
        known.add(folder)
        if longest := next((part for part in folder.parts if len(part.encode()) > _LONGEST_NAME), None):
            raise UsageError(
                f"{'--optim' if longest in names else '--grid'}: the folder {longest[:40]}... would have a name of"
                f" {len(longest.encode())} bytes; a file system takes at most {_LONGEST_NAME}, so give a shorter value"
            )
    legal = "whole numbers from 0 on, separated by commas: 0,1,2"
    seeds_read = _values("--seed", seeds, legal, lambda text: int(text) if int(text) < 2**32 else None, r"\d+")
    return Grid(variants, _rates_by_optimizer(learning_rates, names, trials), seeds_read, trials)


def parse_rates(text: str, argument: str = "--learning_rate") -> list[float]:
    """Return the learning rates of a list ``a,b,c`` or of a range ``a:b:SPACING``, ascending.

    A range includes both ends. SPACING is ``decades`` (a, 10a, ... up to b), ``half-decades`` or a number of points,
    which are evenly spaced on a log axis and rounded to three digits.

    Example:
        >>> parse_rates("1e-3:1e-2:half-decades")
        [0.001, 0.00316, 0.01]
    """
    parts = text.split(":")
    if len(parts) != 3:
        return sorted(_values(argument, text, _RATES, _rate))
    first, last = _ends(parts[:2], argument, text)
    decades, per_decade = math.log10(last / first), _POINTS_PER_DECADE.get(parts[2])
    if per_decade is not None:
        steps = round(decades * per_decade)
        if abs(decades * per_decade - steps) > 0.01:
            raise UsageError(
                f"{argument}: got {text!r}, but {first:g} to {last:g} is no whole number of {parts[2]};"
                " give other ends, a number of points, or list the values"
            )
    elif parts[2].isdecimal() and 2 <= int(parts[2]) <= 10_000:
        steps = int(parts[2]) - 1
    else:
        raise UsageError(f"{argument}: got {text!r}, must end in decades, half-decades or a number of points")
    inner = [first * 10 ** (decades * number / steps) for number in range(1, steps)]
    rounded = [first, *(float(f"{rate:.3g}") for rate in inner), last]
    # Rounding must not make two close points equal.
    return rounded if sorted(set(rounded)) == rounded else [first, *inner, last]


def format_rate(rate: float) -> str:
    """Return a learning rate for paths and tables; different rates give different texts.

    Example:
        >>> format_rate(0.001), format_rate(0.00316), format_rate(20)
        ('1e-03', '3.16e-03', '2e+01')
    """
    digits, _, power = f"{Decimal(repr(float(rate))).normalize():e}".partition("e")
    return f"{digits}e{int(power):+03d}"


def parse_own_arguments(texts: Sequence[str], optims: Sequence[str]) -> list[tuple[str, str]]:
    """Parse ``--set`` for optimizers among ``optims``.

    Example:
        >>> parse_own_arguments(["momo_adam:optim_args=lower_bound=auto"], ["momo_adam", "sgd"])
        [('momo_adam', '--optim_args=lower_bound=auto')]
    """
    pairs = []
    for text in texts:
        match = re.fullmatch(r"([^:=]+):\s*([^=]+)=(.*)", text, re.DOTALL)
        if match is None or not (name := argument_name(match[2])).isidentifier():
            raise UsageError(f"--set: got {text!r}, must be OPTIM:NAME=VALUE, where NAME is an argument of the script")
        if (optim := match[1].strip()) not in optims:
            raise UsageError(f"--set: got {text!r}, but {optim!r} is not among the optimizers {', '.join(optims)}")
        pairs.append((optim, f"--{name}={match[3]}"))
    return pairs


def argument_name(text: str) -> str:
    """Return the name of an argument that is given as ``--some-name=value``, here ``some_name``."""
    return text.partition("=")[0].strip().lstrip("-").replace("-", "_")


def _rates_by_optimizer(texts: Sequence[str], names: Sequence[str], trials: int | None) -> dict[str, list[float]]:
    # Those for all optimizers have the name "".
    given: dict[str, str] = {}
    for text in texts:
        name, rates = text.split("=", 1) if "=" in text else ("", text)
        if name and name not in names:
            raise UsageError(f"--learning_rate: got {text!r}, but {name!r} is not among --optim {','.join(names)}")
        if name in given:
            raise UsageError(
                f"--learning_rate: got {given[name]!r} and {rates!r} for {name or 'all optimizers'}; give one list or"
                " range, or OPTIM=... for each optimizer"
            )
        given[name] = rates
    missing = [name for name in names if name not in given]
    if missing and "" not in given:
        raise UsageError(f"--learning_rate: nothing was given for {', '.join(missing)}; must be {_RATES}")
    parse = parse_rates if trials is None else _search_range
    return {
        name: parse(given.get(name, given.get("", "")), f"--learning_rate{f' {name}' if name in given else ''}")
        for name in names
    }


def _search_range(text: str, argument: str) -> list[float]:
    parts = text.split(":")
    if len(parts) != 2:
        raise UsageError(f"{argument}: got {text!r}, must be the range LOW:HIGH of a search, e.g. 1e-5:1")
    return _ends(parts, argument, text)


def _ends(parts: Sequence[str], argument: str, text: str) -> list[float]:
    first, last = (_rate(part) or math.nan for part in parts)
    if not first < last:
        raise UsageError(f"{argument}: got {text!r}, a range must go up from a number above 0 to a larger one")
    return [first, last]


def _combinations(texts: Sequence[str]) -> list[dict[str, str]]:
    values_by_name: dict[str, list[str]] = {}
    for text in texts:
        name = argument_name(text)
        if "=" not in text or not name.isidentifier():
            raise UsageError(f"--grid: got {text!r}, must be NAME=v1,v2, where NAME is an argument of the script")
        if name in RESERVED or name in values_by_name:
            raise UsageError(f"--grid: got {text!r}, but {name} is already given or has a flag of its own")
        values_by_name[name] = _values(f"--grid {name}", text.partition("=")[2], "values separated by commas", str)
    return [dict(zip(values_by_name, values, strict=True)) for values in product(*values_by_name.values())]


def _values(
    argument: str, text: str, legal: str, read: Callable[[str], _Value | None], pattern: str = ".+"
) -> list[_Value]:
    values: list[_Value] = []
    for part in (each.strip() for each in text.split(",")):
        value = read(part) if re.fullmatch(pattern, part) else None
        if value is None:
            where = "" if part == text else f", in which {part!r} is wrong"
            raise UsageError(f"{argument}: got {text!r}{where}; must be {legal}")
        if value in values:
            raise UsageError(f"{argument}: got {text!r}, in which a value stands twice")
        values.append(value)
    return values


def _rate(text: str) -> float | None:
    with suppress(ValueError):
        return rate if 0 < (rate := float(text)) < math.inf else None
    return None
