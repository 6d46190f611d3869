"""The grid of a sweep: the arguments of the command line as one ``Run`` for every combination."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

from hf_momo.utils.errors import UsageError

_RATES_HELP = "numbers above 0 (1e-3,1e-2) or a range: 1e-4:1:decades, 1e-4:1:half-decades or 1e-4:1:N for N points"
_POINTS_PER_DECADE = {"decades": 1, "half-decades": 2}
# Arguments of the script that the sweep sets, besides those of ``--grid``.
_RESERVED = {"optim", "learning_rate", "seed", "output_dir", "resume_from_checkpoint"}
# The longest name of a file or folder on the usual file systems, in bytes.
_LONGEST_NAME = 255

_Rates = tuple[float, ...]


@dataclass(frozen=True)
class Variant:
    """An optimizer with one value for each argument of ``--grid``; variants are what a sweep compares."""

    optim: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The name in tables and legends."""
        return ", ".join([self.optim, *(f"{name}={value}" for name, value in self.options)])


@dataclass(frozen=True)
class Run:
    """One run of the script; that of a search has a ``number``, and NaN for a learning rate until one is drawn."""

    variant: Variant
    learning_rate: float
    seed: int
    number: int | None = None

    @property
    def folder(self) -> Path:
        """Its folder in the folder of the sweep, e.g. ``momo_adam/lr_1e-03/seed_0``; no two runs share one."""
        options = [_file_name(f"{name}_{value}") for name, value in self.variant.options]
        point = f"lr_{format_rate(self.learning_rate)}" if self.number is None else f"trial_{self.number}"
        return Path(self.variant.optim, *options, point, f"seed_{self.seed}")

    @property
    def arguments(self) -> list[str]:
        """The arguments that the script gets for this run."""
        swept = [("optim", self.variant.optim), ("learning_rate", repr(self.learning_rate)), ("seed", str(self.seed))]
        return [word for name, value in [*swept, *self.variant.options] for word in (f"--{name}", value)]


@dataclass(frozen=True)
class Grid:
    """The combinations of a sweep; a search makes ``trials`` runs of each between two learning rates."""

    variants: tuple[Variant, ...]
    learning_rates: Mapping[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    trials: int | None = None

    @property
    def runs(self) -> list[Run]:
        """All runs in the order in which they start: a grid completes its first seed before the second."""
        if self.trials is not None:
            searched = product(range(self.trials), self.seeds, self.variants)
            return [Run(variant, math.nan, seed, number) for number, seed, variant in searched]
        return [
            Run(variant, rate, seed)
            for seed in self.seeds
            for variant in self.variants
            for rate in self.learning_rates[variant.optim]
        ]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Grid:
        """Return the grid that ``dataclasses.asdict`` made this of."""
        variants = tuple(Variant(row["optim"], tuple(map(tuple, row["options"]))) for row in content["variants"])
        rates = {optim: tuple(rates) for optim, rates in content["learning_rates"].items()}
        return cls(variants, rates, tuple(content["seeds"]), content["trials"])


def parse_grid(
    optim: str, learning_rates: Sequence[str], seeds: str, others: Sequence[str], trials: int | None = None
) -> Grid:
    """Parse ``--optim``, ``--learning_rate``, ``--seed``, ``--grid`` and ``--trials``.

    Example:
        >>> grid = parse_grid("momo_adam,adamw_torch", ["1e-3:1e-2:decades", "adamw_torch=1e-4"], "0,1", [])
        >>> [str(run.folder) for run in grid.runs if run.seed == 1]
        ['momo_adam/lr_1e-03/seed_1', 'momo_adam/lr_1e-02/seed_1', 'adamw_torch/lr_1e-04/seed_1']
    """
    names = _split("--optim", optim, "names of optimizers separated by commas: momo_adam,adamw_torch")
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            raise UsageError(f"--optim: got {optim!r}, in which {name!r} is no name of an optimizer")
    variants = tuple(Variant(name, options) for name in names for options in _combinations(others))
    folders = [Run(variant, 1.0, 0).folder.parents[1] for variant in variants]
    for number, folder in enumerate(folders):
        if folder in folders[:number]:
            raise UsageError(f"--grid: got {' '.join(others)}, in which two values give one folder: {folder}")
        if longest := next((part for part in folder.parts if len(part.encode()) > _LONGEST_NAME), None):
            argument = "--optim" if longest == folder.parts[0] else "--grid"
            raise UsageError(
                f"{argument}: {longest[:40]}... would be the name of a folder and has {len(longest.encode())} bytes; a"
                f" file system takes at most {_LONGEST_NAME}, so give a shorter value (or a --config of the script)"
            )
    return Grid(variants, _rates_by_optimizer(learning_rates, names, trials), _parse_seeds(seeds), trials)


def parse_rates(text: str, argument: str = "--learning_rate") -> tuple[float, ...]:
    """Parse learning rates.

    Args:
        text: ``a,b,c`` or a range ``a:b:SPACING`` that includes both ends: ``decades`` (a, 10a, ... up to b),
            ``half-decades`` or a number of points, evenly spaced on a log axis and rounded to three digits.
        argument: The name of the argument in an error.

    Returns:
        The rates, ascending.

    Raises:
        UsageError: If the text is not legal.

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
        rates = _points(*_ends(parts, argument, text), parts[2], argument, text)
    else:
        raise UsageError(f"{argument}: got {text!r}, must be {_RATES_HELP}")
    if len(set(rates)) < len(rates):
        raise UsageError(f"{argument}: got {text!r}, in which a value stands twice")
    return tuple(sorted(rates))


def format_rate(rate: float) -> str:
    """Return a learning rate for paths and tables; different rates give different texts.

    Example:
        >>> format_rate(0.001), format_rate(0.00316), format_rate(20)
        ('1e-03', '3.16e-03', '2e+01')
    """
    sign, digits, exponent = Decimal(repr(float(rate))).normalize().as_tuple()
    tail = "".join(map(str, digits[1:]))
    power = int(exponent) + len(digits) - 1
    return f"{'-' if sign else ''}{digits[0]}{'.' if tail else ''}{tail}e{power:+03d}"


def parse_own_arguments(texts: Sequence[str], optims: str) -> tuple[tuple[str, str], ...]:
    """Parse ``--set`` for optimizers among ``optims``; of several values for one argument the last counts.

    Example:
        >>> parse_own_arguments(["momo_adam:optim_args=lower_bound=auto"], "momo_adam,sgd")
        (('momo_adam', '--optim_args=lower_bound=auto'),)
    """
    words: dict[tuple[str, str], str] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        optim, _, name = (part.strip() for part in target.partition(":"))
        name = name.lstrip("-").replace("-", "_")
        if not (equals and name.isidentifier()):
            raise UsageError(f"--set: got {text!r}, must be OPTIM:NAME=VALUE, where NAME is an argument of the script")
        if optim not in (known := [each.strip() for each in optims.split(",")]):
            raise UsageError(f"--set: got {text!r}, but {optim!r} is not among the optimizers {', '.join(known)}")
        words[optim, name] = f"--{name}={value}"
    return tuple((optim, word) for (optim, _), word in words.items())


def reserved_names(others: Iterable[str] = ()) -> set[str]:
    """Return the script's arguments that the sweep sets itself; ``others`` are those of ``--grid``."""
    return _RESERVED | set(others)


def _ends(parts: Sequence[str], argument: str, text: str) -> tuple[float, float]:
    first, last = (_rate(part, argument, text) for part in parts[:2])
    if last <= first:
        raise UsageError(f"{argument}: got {text!r}, a range must go up: its first value below its second")
    return first, last


def _points(first: float, last: float, spacing: str, argument: str, text: str) -> list[float]:
    decades = math.log10(last / first)
    if spacing in _POINTS_PER_DECADE:
        steps = decades * _POINTS_PER_DECADE[spacing]
        if abs(steps - round(steps)) > 0.01:
            raise UsageError(
                f"{argument}: got {text!r}, but {first:g} to {last:g} is no whole number of {spacing};"
                " give other ends, a number of points, or list the values"
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
    # Rounding must not make two close points equal.
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


def _rates_by_optimizer(
    texts: Sequence[str], names: Sequence[str], trials: int | None
) -> dict[str, tuple[float, ...]]:
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
    parse = parse_rates if trials is None else _search_range
    return {
        name: parse(own.get(name, *common), f"--learning_rate {name}" if name in own else "--learning_rate")
        for name in names
    }


def _search_range(text: str, argument: str) -> tuple[float, ...]:
    parts = text.split(":")
    if len(parts) != 2:
        raise UsageError(f"{argument}: got {text!r}, must be the range LOW:HIGH of a search, e.g. 1e-5:1")
    return _ends(parts, argument, text)


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
    values_by_name: dict[str, list[tuple[str, str]]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not equals or not name.isidentifier():
            raise UsageError(f"--grid: got {text!r}, must be NAME=v1,v2, where NAME is an argument of the script")
        if name in reserved_names(values_by_name):
            raise UsageError(f"--grid: got {text!r}, but {name} is already given or has a flag of its own")
        options = _split(f"--grid {name}", values, "values separated by commas")
        values_by_name[name] = [(name, value) for value in options]
    return list(product(*values_by_name.values()))


def _split(argument: str, text: str, legal: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"{argument}: got {text!r}, must be {legal}")
    if len(set(parts)) < len(parts):
        raise UsageError(f"{argument}: got {text!r}, in which a value stands twice")
    return parts


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+=-]+", "_", text)
