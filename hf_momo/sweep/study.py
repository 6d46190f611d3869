"""A study file: the arguments of a sweep in YAML, over which the command line takes precedence."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_momo.sweep.grid import argument_name
from hf_momo.utils.errors import UsageError
from hf_momo.utils.yaml_files import nearest, read_yaml

# Keys whose values are separated by commas on the command line, and may be lists in the file.
_LISTS = ("optim", "seed", "learning_rate", "grid")
# Keys whose values are mappings, or mappings of mappings.
_MAPPINGS = {"learning_rate": 1, "grid": 1, "set": 2}


def apply_study(options: argparse.Namespace, path: Path, parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options of a study file with those of the command line, which take precedence.

    ``learning_rate`` is a value for all optimizers or a mapping from optimizer to value, ``grid`` a mapping, ``set`` a
    mapping of each optimizer to one, ``arguments`` a mapping or a list of words.
    """
    content, others = read_yaml(path, typed=False), ("config", "report", "func")
    known = {name: value for name, value in vars(parser.parse_args([])).items() if name not in others}
    words: list[str] = []
    for name, value in content.items():
        where = f"{path}: {name}"
        if name not in known:
            raise UsageError(f"{where} is no key of a study{nearest(name, known)}; it takes {', '.join(known)}")
        if known[name] is False:
            if str(value).lower() not in ("true", "false"):
                raise UsageError(f"{where}: got {value!r}, must be true or false")
            words += [f"--{name}"] * (str(value).lower() == "true")
        elif name != "arguments":
            words += _texts(name, value, where, "" if name == "script" else f"--{name}=", _MAPPINGS.get(name, 0))
    study = parser.parse_args(words)
    merged = {**vars(study), **{name: value for name, value in vars(options).items() if value}}
    # Optimizers that --set may name, also where the command line takes only some of them.
    merged["optims_of_study"] = study.optim
    merged["output_dir"] = merged["output_dir"] or str(Path("sweeps", path.stem))
    for name in ("grid", "set"):
        merged[name] = _merged(getattr(study, name), getattr(options, name))
    if all("=" in text for text in options.learning_rate):
        # With fewer optimizers on the command line the rates of the others are of no use.
        swept = [each.strip() for each in (merged["optim"] or "").split(",")]
        rates = [text for text in study.learning_rate if "=" not in text or text.partition("=")[0] in swept]
        merged["learning_rate"] = _merged(rates, options.learning_rate)
    merged["arguments"] = _merged_arguments(content.get("arguments", {}), options.arguments, f"{path}: arguments")
    return argparse.Namespace(**merged)


def _merged(study: Sequence[str], given: Sequence[str]) -> list[str]:
    """Values of the same name on the command line replace those of the file."""
    names = {argument_name(text) for text in given}
    return [*(text for text in study if argument_name(text) not in names), *given]


def _texts(name: str, value: Any, where: str, prefix: str, depth: int) -> list[str]:
    """Return the values of a key, with what stands before them on the command line, from mappings of a ``depth``."""
    if depth and not (name == "learning_rate" and not isinstance(value, dict)):
        return [
            text
            for key, each in _mapping(value, where).items()
            for text in _texts(name, each, f"{where}: {key}", f"{prefix}{key}{':' if depth > 1 else '='}", depth - 1)
        ]
    if name in _LISTS and isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = ",".join(value)
    if not isinstance(value, str):
        raise UsageError(f"{where}: got {value!r}, must be one value{', or a list of values' * (name in _LISTS)}")
    return [f"{prefix}{value}"]


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: got {value!r}, must be `name: value` lines")
    return value


def _merged_arguments(value: Any, given: Sequence[str], where: str) -> list[str]:
    """An argument of the script on the command line replaces the file's of the same name."""
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return [*value, *given]
    own = {argument_name(word) for word in given if word.startswith("--")}
    words: list[str] = []
    for name, each in _mapping(value, where).items():
        values = each if isinstance(each, list) else [each] if each != "" else []
        if not all(isinstance(word, str) for word in values):
            raise UsageError(f"{where}: {name}: got {each!r}, must be one value, or a list of values")
        if argument_name(name) not in own:
            # argparse would take a value such as -0.5 for a flag of its own.
            joined = len(values) == 1 and values[0].startswith("-")
            words += [f"--{name}={values[0]}"] if joined else [f"--{name}", *values]
    return [*words, *given]
