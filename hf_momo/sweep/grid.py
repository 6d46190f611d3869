"""The grid of a sweep: what stands on the command line, read into one `Run` for every combination."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from hf_momo.utils.errors import UsageError

_RATES_HELP = "numbers above 0 (1e-3,1e-2) or a range: 1e-4:1:decades, 1e-4:1:half-decades or 1e-4:1:N for N points"
# Points a decade.
_SPACINGS = {"decades": 1, "half-decades": 2}
# Besides what the sweep sets by arguments of its own.
_RESERVED = {"optim", "learning_rate", "seed", "output_dir", "resume_from_checkpoint"}


@dataclass(frozen=True)
class Variant:
    """What is compared: an optimizer, with the values of ``--grid`` if there are any.

    Attributes:
        optim: The optimizer's name.
        options: Name and value of every swept argument besides learning rate and seed.
    """

    optim: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """What tables and legends call it."""
        return ", ".join([self.optim, *(f"{name}={value}" for name, value in self.options)])


@dataclass(frozen=True)
class Run:
    """One run of the script.

    Attributes:
        variant: The optimizer and what else is swept.
        learning_rate: Above 0.
        seed: Of the script.
    """

    variant: Variant
    learning_rate: float
    seed: int

    @property
    def folder(self) -> Path:
        """Where it lies in the folder of the sweep, e.g. ``momo_adam/lr_1e-03/seed_0``."""
        options = [_file_name(f"{name}_{value}") for name, value in self.variant.options]
        return Path(self.variant.optim, *options, f"lr_{format_rate(self.learning_rate)}", f"seed_{self.seed}")

    @property
    def arguments(self) -> list[str]:
        """What the script is given for it."""
        swept = [("optim", self.variant.optim), ("learning_rate", repr(self.learning_rate)), ("seed", str(self.seed))]
        return [word for name, value in [*swept, *self.variant.options] for word in (f"--{name}", value)]


@dataclass(frozen=True)
class Grid:
    """The combinations of a sweep.

    Attributes:
        variants: What is compared.
        learning_rates: Those of each optimizer, ascending.
        seeds: The same for all.
    """

    variants: tuple[Variant, ...]
    learning_rates: Mapping[str, tuple[float, ...]]
    seeds: tuple[int, ...]

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order in which they are made: a whole picture of the first seed comes first."""
        return [
            Run(variant, rate, seed)
            for seed in self.seeds
            for variant in self.variants
            for rate in self.learning_rates[variant.optim]
        ]

    def to_json(self) -> dict[str, Any]:
        """As plain lists and dicts."""
        variants = [{"optim": variant.optim, "options": dict(variant.options)} for variant in self.variants]
        rates = {optim: list(rates) for optim, rates in self.learning_rates.items()}
        return {"variants": variants, "learning_rates": rates, "seeds": list(self.seeds)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Grid:
        """The inverse of ``to_json``."""
        variants = tuple(Variant(row["optim"], tuple(row["options"].items())) for row in content["variants"])
        rates = {optim: tuple(rates) for optim, rates in content["learning_rates"].items()}
        return cls(variants, rates, tuple(content["seeds"]))


def parse_grid(optim: str, learning_rates: Sequence[str], seeds: str, others: Sequence[str]) -> Grid:
    """Read the arguments of the command line.

    Args:
        optim: Names of optimizers, separated by commas.
        learning_rates: For all optimizers, or ``OPTIM=...`` for one of them, which wins.
        seeds: Whole numbers from 0 on, separated by commas.
        others: ``NAME=v1,v2``, further arguments of the script.

    Raises:
        UsageError: If one of them cannot be read.

    Example:
        >>> grid = parse_grid("momo_adam,adamw_torch", ["1e-3:1e-2:decades", "adamw_torch=1e-4"], "0,1", [])
        >>> [str(run.folder) for run in grid.runs if run.seed == 1]
        ['momo_adam/lr_1e-03/seed_1', 'momo_adam/lr_1e-02/seed_1', 'adamw_torch/lr_1e-04/seed_1']
    """
    names = _split("--optim", optim, "names of optimizers separated by commas: momo_adam,adamw_torch")
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            raise UsageError(f"--optim: got {optim!r}, in which {name!r} is no name of an optimizer")
    variants = [Variant(name, options) for name in names for options in _combinations(others)]
    folders = [Run(variant, 1.0, 0).folder for variant in variants]
    for number, folder in enumerate(folders):
        if folder in folders[:number]:
            raise UsageError(
                f"--grid: got {' '.join(others)}, in which two values give one folder: {folder.parents[1]}"
            )
    return Grid(tuple(variants), _rates_by_optimizer(learning_rates, names), _parse_seeds(seeds))


def parse_rates(text: str, argument: str = "--learning_rate") -> tuple[float, ...]:
    """Read learning rates.

    Args:
        text: ``a,b,c`` or a range ``a:b:SPACING``, both ends among its points: ``decades`` (a, 10a, ... up to b),
            ``half-decades`` or a number of points, evenly spaced on a log axis and rounded to three digits.
        argument: What an error calls it.

    Returns:
        The rates, ascending.

    Raises:
        UsageError: If it cannot be read.

    Example:
        >>> parse_rates("1e-3:1e-2:half-decades")
        (0.001, 0.00316, 0.01)
        >>> parse_rates("1e-4:1:3")
        (0.0001, 0.01, 1.0)
    """
    parts = text.split(":")
    if len(parts) == 1:
        rates = [_rate(part, argument, text) for part in _split(argument, text, _RATES_HELP)]
    elif len(parts) == 3:
        rates = _range(_rate(parts[0], argument, text), _rate(parts[1], argument, text), parts[2], argument, text)
    else:
        raise UsageError(f"{argument}: got {text!r}, must be {_RATES_HELP}")
    if len(set(rates)) < len(rates):
        raise UsageError(f"{argument}: got {text!r}, in which a value stands twice")
    return tuple(sorted(rates))


def format_rate(rate: float) -> str:
    """A learning rate as a part of a path and in tables; different rates have different names.

    Example:
        >>> format_rate(0.001), format_rate(0.00316), format_rate(20)
        ('1e-03', '3.16e-03', '2e+01')
    """
    sign, digits, exponent = Decimal(repr(float(rate))).normalize().as_tuple()
    tail = "".join(map(str, digits[1:]))
    power = int(exponent) + len(digits) - 1
    return f"{'-' if sign else ''}{digits[0]}{'.' if tail else ''}{tail}e{power:+03d}"


def reserved_names(others: Iterable[str] = ()) -> set[str]:
    """Arguments of the script that the sweep itself sets, ``others`` being those of ``--grid``."""
    return _RESERVED | set(others)


def _range(first: float, last: float, spacing: str, argument: str, text: str) -> list[float]:
    if last <= first:
        raise UsageError(f"{argument}: got {text!r}, a range must go up: its first value below its second")
    decades = math.log10(last / first)
    if spacing in _SPACINGS:
        steps = decades * _SPACINGS[spacing]
        if abs(steps - round(steps)) > 0.01:
            raise UsageError(
                f"{argument}: got {text!r}, but {first:g} to {last:g} is no whole number of {spacing};"
                " name other ends, a number of points, or list the values"
            )
        count = round(steps) + 1
    elif spacing.isdecimal() and 2 <= int(spacing) <= 10_000:
        count = int(spacing)
    else:
        raise UsageError(
            f"{argument}: got {text!r}, must end in decades, half-decades or a number of points from 2 on"
        )
    inner = [first * 10 ** (decades * number / (count - 1)) for number in range(1, count - 1)]
    rounded = [first, *(float(f"{rate:.3g}") for rate in inner), last]
    # Points closer than three digits tell apart stay as they are.
    return rounded if sorted(set(rounded)) == rounded else [first, *inner, last]


def _rate(text: str, argument: str, whole: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not (0 < rate < math.inf):
        found = "" if text == whole else f", in which {text!r} is no number above 0"
        raise UsageError(f"{argument}: got {whole!r}{found}; must be {_RATES_HELP}")
    return rate


def _rates_by_optimizer(texts: Sequence[str], names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    common: list[str] = []
    own: dict[str, str] = {}
    for text in texts:
        name, equals, rates = text.partition("=")
        if not equals:
            common.append(text)
        elif name not in names:
            raise UsageError(f"--learning_rate: got {text!r}, but {name!r} is not among --optim {','.join(names)}")
        elif name in own:
            raise UsageError(f"--learning_rate: got {name}=... twice; give one list or range for an optimizer")
        else:
            own[name] = rates
    if len(common) > 1:
        raise UsageError(f"--learning_rate: got {' and '.join(map(repr, common))}; give one, or OPTIM=... for each")
    missing = [name for name in names if name not in own]
    if missing and not common:
        raise UsageError(f"--learning_rate: nothing was given for {', '.join(missing)}; must be {_RATES_HELP}")
    return {
        name: parse_rates(own.get(name, *common), f"--learning_rate {name}" if name in own else "--learning_rate")
        for name in names
    }


def _parse_seeds(text: str) -> tuple[int, ...]:
    legal = "whole numbers from 0 on, separated by commas: 0,1,2"
    parts = _split("--seed", text, legal)
    if not all(part.isdecimal() and int(part) < 2**32 for part in parts):
        raise UsageError(f"--seed: got {text!r}, must be {legal}")
    seeds = tuple(map(int, parts))
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seed: got {text!r}, in which a value stands twice")
    return seeds


def _combinations(texts: Sequence[str]) -> list[tuple[tuple[str, str], ...]]:
    combinations: list[tuple[tuple[str, str], ...]] = [()]
    seen: set[str] = set()
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not equals or not name.isidentifier():
            raise UsageError(
                f"--grid: got {text!r}, must be NAME=v1,v2 with the name of one of the script's arguments"
            )
        if name in reserved_names(seen):
            raise UsageError(
                f"--grid: got {text!r}, but {name} is set already; it stands once, or has its own argument"
            )
        seen.add(name)
        options = _split(f"--grid {name}", values, "values separated by commas")
        combinations = [(*before, (name, value)) for before in combinations for value in options]
    return combinations


def _split(argument: str, text: str, legal: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"{argument}: got {text!r}, must be {legal}")
    if len(set(parts)) < len(parts):
        raise UsageError(f"{argument}: got {text!r}, in which a value stands twice")
    return parts


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+=-]+", "_", text)
