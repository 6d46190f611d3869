"""A study file: the arguments of a sweep in YAML, over which the command line takes precedence."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_momo.utils.errors import UsageError
from hf_momo.utils.yaml_files import nearest, read_yaml

# Written as on the command line; lists stand for values separated by commas.
_WORDS = ("script", "metric", "greater_is_better", "output_dir", "storage", "jobs", "launcher", "sampler", "trials")
_LISTS = ("optim", "seed")
_FLAGS = ("plain", "prune")
KEYS = (*_WORDS, *_LISTS, "learning_rate", "grid", "set", *_FLAGS, "arguments")


def apply_study(options: argparse.Namespace, path: Path) -> None:
    """Fill in the options that the command line leaves out.

    Args:
        options: Parsed command line, ``None`` or empty where nothing was given; changed in place.
        path: The YAML file. ``learning_rate`` is a value for all optimizers or a mapping from optimizer to value,
            ``grid`` a mapping, ``set`` a mapping of each optimizer to one, ``arguments`` a mapping or a list of words.

    Raises:
        UsageError: If the file cannot be read, or its keys or values are not legal.
    """
    study = read_yaml(path, typed=False)
    for name in study:
        if name not in KEYS:
            raise UsageError(f"{path}: {name} is no key of a study{nearest(name, KEYS)}; it takes {', '.join(KEYS)}")
    # Optimizers that --set may name, also where the command line takes only some of them.
    options.optims_of_study = _joined(study.get("optim", ""), "optim", path)
    for name in (*_WORDS, *_LISTS):
        if getattr(options, name, None) is None:
            read = _word if name in _WORDS else _joined
            setattr(options, name, read(study[name], name, path) if name in study else None)
    if options.greater_is_better is not None:
        options.greater_is_better = _boolean(str(options.greater_is_better), "greater_is_better", path)
    for name in _FLAGS:
        setattr(options, name, getattr(options, name, False) or _boolean(study.get(name, "false"), name, path))
    options.learning_rate = _merged_rates(study.get("learning_rate"), options, path)
    options.grid = _merged_grid(study.get("grid", {}), options.grid, path)
    options.set = _merged_set(study.get("set", {}), options.set, path)
    options.arguments = _merged_arguments(study.get("arguments", {}), options.arguments, path)
    if options.output_dir is None:
        options.output_dir = str(Path("sweeps", path.stem))


def _boolean(text: Any, name: str, path: Path) -> bool:
    if str(text).lower() not in ("true", "false"):
        raise UsageError(f"{path}: {name}: got {text!r}, must be true or false")
    return str(text).lower() == "true"


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
    words = {name: _joined(each, f"grid {name}", path) for name, each in value.items() if name not in own}
    return [*(f"{name}={text}" for name, text in words.items()), *given]


def _merged_set(value: Any, given: Sequence[str], path: Path) -> list[str]:
    """Return arguments for single optimizers, with those of the command line last, where they count."""
    if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):
        raise UsageError(f"{path}: set must hold for each optimizer `name: value` lines")
    own = [
        f"{optim}:{name}={_word(each, f'{name} of {optim}', path)}"
        for optim, arguments in value.items()
        for name, each in arguments.items()
    ]
    return [*own, *given]


def _merged_arguments(value: Any, given: Sequence[str], path: Path) -> list[str]:
    """An argument of the script on the command line replaces the file's of the same name."""
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
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
