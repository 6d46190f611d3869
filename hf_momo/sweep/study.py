"""A study: the arguments of a sweep in a YAML file, over which the command line wins."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_momo.utils.errors import UsageError
from hf_momo.utils.yaml_files import nearest, read_yaml

# Written as on the command line; lists stand for values separated by commas.
_WORDS = ("script", "metric", "greater_is_better", "output_dir", "jobs", "launcher")
_LISTS = ("optim", "seed")
_MAPPINGS = ("learning_rate", "grid")
KEYS = (*_WORDS, *_LISTS, *_MAPPINGS, "plain", "arguments")


def apply_study(options: argparse.Namespace, path: Path) -> None:
    """Fill in what the command line leaves out.

    Args:
        options: Of the command line, ``None`` or empty where nothing was given. Changed in place.
        path: The YAML file. ``learning_rate`` is a value for all optimizers or a mapping from optimizer to value,
            ``grid`` a mapping, ``arguments`` a mapping or a list of words.

    Raises:
        UsageError: If the file cannot be read, or holds something else.
    """
    study = _read(path)
    for name in _WORDS:
        if getattr(options, name) is None and name in study:
            setattr(options, name, _word(study[name], name, path))
    for name in _LISTS:
        if getattr(options, name) is None and name in study:
            setattr(options, name, _joined(study[name], name, path))
    if options.greater_is_better is not None:
        options.greater_is_better = read_boolean(str(options.greater_is_better), f"{path}: greater_is_better")
    options.plain = options.plain or read_boolean(_word(study.get("plain", "false"), "plain", path), f"{path}: plain")
    options.learning_rate = _merged_rates(study.get("learning_rate"), options, path)
    options.grid = _merged_grid(study.get("grid", {}), options.grid, path)
    options.arguments = _merged_arguments(study.get("arguments", {}), options.arguments, path)
    if options.output_dir is None:
        options.output_dir = str(Path("sweeps", path.stem))


def read_boolean(text: str, name: str) -> bool:
    """``true`` or ``false``, in any case.

    Raises:
        UsageError: If it is neither.
    """
    if text.lower() not in ("true", "false"):
        raise UsageError(f"{name}: got {text!r}, must be true or false")
    return text.lower() == "true"


def _read(path: Path) -> dict[str, Any]:
    study = read_yaml(path, typed=False)
    for name in study:
        if name not in KEYS:
            raise UsageError(f"{path}: {name} is no key of a study{nearest(name, KEYS)}; it takes {', '.join(KEYS)}")
    return study


def _word(value: Any, name: str, path: Path) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{path}: {name} must be one value, as on the command line")
    return value


def _joined(value: Any, name: str, path: Path) -> str:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    if not isinstance(value, str):
        raise UsageError(f"{path}: {name} must be a list, or values separated by commas")
    return value


def _merged_rates(value: Any, options: argparse.Namespace, path: Path) -> list[str]:
    """Rates for all optimizers on the command line replace the file's; those for one optimizer, that optimizer's."""
    given: list[str] = options.learning_rate
    own = {text.partition("=")[0] for text in given if "=" in text}
    if value is None or len(own) < len(given):
        return given
    if not isinstance(value, dict):
        return [_joined(value, "learning_rate", path), *given]
    # With fewer optimizers on the command line the rates of the others are of no use.
    swept = {name.strip() for name in (options.optim or "").split(",")}
    names = [name for name in value if name in swept and name not in own]
    return [*(f"{name}={_joined(value[name], f'learning_rate of {name}', path)}" for name in names), *given]


def _merged_grid(value: Any, given: Sequence[str], path: Path) -> list[str]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: grid must hold `name: values` lines")
    own = {_name(text) for text in given}
    return [
        *(f"{name}={_joined(each, f'grid {name}', path)}" for name, each in value.items() if name not in own),
        *given,
    ]


def _merged_arguments(value: Any, given: Sequence[str], path: Path) -> list[str]:
    """The arguments of the script: an argument on the command line replaces the file's of the same name."""
    if isinstance(value, list):
        if not all(isinstance(word, str) for word in value):
            raise UsageError(f"{path}: arguments must be words, or `name: value` lines")
        return [*value, *given]
    if not isinstance(value, Mapping):
        raise UsageError(f"{path}: arguments must be `name: value` lines, or a list of words")
    own = {_name(word) for word in given if word.startswith("--")}
    words = [word for name, each in value.items() if name not in own for word in _words_of(name, each, path)]
    return [*words, *given]


def _words_of(name: str, value: Any, path: Path) -> list[str]:
    values = value if isinstance(value, list) else [value] if value != "" else []
    if not all(isinstance(each, str) for each in values):
        raise UsageError(f"{path}: {name} of the arguments must be a value or a list of values")
    if len(values) == 1 and values[0].startswith("-"):
        # argparse would take a value such as -0.5 for a flag of its own.
        return [f"--{name}={values[0]}"]
    return [f"--{name}", *values]


def _name(text: str) -> str:
    return text.partition("=")[0].strip().lstrip("-").replace("-", "_")
