"""Settings of a recipe from a YAML file and the command line, which takes precedence.

Both are parsed by ``HfArgumentParser``, so that names, types and checks are the same. The settings of the YAML file
are converted to flags in front of those of the user, so that argparse converts and checks their values, too.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from transformers import HfArgumentParser

from hf_momo.utils.errors import UsageError
from hf_momo.utils.yaml_files import nearest, read_yaml


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep the line breaks of the description, which holds commands."""


class _RecipeArgumentParser(HfArgumentParser):
    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        # HfArgumentParser takes a single word for a setting that is a string or a list.
        if "--report_to" in args:
            kwargs["nargs"] = "+"
        # False keeps trackio's charts off the Hub; the word would be the name of a Space.
        if "--trackio_static_space_id" in args:
            kwargs["type"] = lambda word: False if word.lower() == "false" else word
        return super().add_argument(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        # argparse would print the usage of two hundred flags before the message.
        raise UsageError(message)


def parse_settings(dataclass_types: Sequence[type], description: str, argv: Sequence[str] | None = None) -> Any:
    """Parse ``--config FILE.yaml`` and the command line into instances of dataclasses.

    Args:
        dataclass_types: The dataclasses, in the order in which their instances are returned.
        description: The text at the top of ``--help``.
        argv: The arguments of the command line; ``sys.argv[1:]`` if ``None``.

    Returns:
        One instance of each dataclass.

    Raises:
        UsageError: If a flag, a key or a value is unknown or illegal; names the nearest known one.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # With abbreviations, a misspelt long flag could be taken for a shorter one.
    types: Any = list(dataclass_types)
    options = {"description": description.replace("``", "`"), "formatter_class": _HelpFormatter}
    parser = _RecipeArgumentParser(types, allow_abbrev=False, **options)
    parser.add_argument("--config", metavar="FILE.yaml", help="YAML file of settings; flags take precedence")
    config_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    config_parser.add_argument("--config")
    config_file = config_parser.parse_known_args(arguments)[0].config
    if config_file is not None:
        arguments = _flags_of_yaml(Path(config_file), parser, _field_names(dataclass_types), arguments) + arguments
    try:
        *parsed, _, unknown = parser.parse_args_into_dataclasses(
            arguments, return_remaining_strings=True, look_for_args_file=False
        )
    except (ValueError, ImportError) as error:
        # From checks in the dataclasses, such as those of TrainingArguments.
        raise UsageError(str(error)) from error
    if unknown:
        flag = unknown[0].split("=")[0]
        known = [name for action in parser._actions for name in action.option_strings]
        raise UsageError(f"{flag} is not a setting{nearest(flag, known)}; --help lists them")
    return tuple(parsed)


def _field_names(dataclass_types: Iterable[type]) -> list[str]:
    return [field.name for cls in dataclass_types for field in dataclasses.fields(cls) if field.init]


# Two kinds of sources of data: one on the command line replaces the other in the file.
_SOURCES_OF_DATA = (
    ("dataset_name", "dataset_config_name", "dataset_revision"),
    ("data_dir", "train_file", "validation_file", "test_file"),
)


def _flags_of_yaml(path: Path, parser: HfArgumentParser, known: list[str], arguments: list[str]) -> list[str]:
    settings = _renamed_for_version(read_yaml(path), known)
    for key in settings:
        if key not in known:
            raise UsageError(f"{path}: {key} is not a setting{nearest(str(key), known)}; --help lists them")
    replaced = _replaced_sources({argument.partition("=")[0].removeprefix("--") for argument in arguments})
    flags = [flag for key, value in settings.items() if key not in replaced for flag in _flags_of(key, value)]
    try:
        parser.parse_known_args(flags)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return flags


def _replaced_sources(given: set[str]) -> set[str]:
    """Return the settings of the file that those on the command line replace."""
    first, second = _SOURCES_OF_DATA
    by_first, by_second = first[0] in given, not given.isdisjoint(second)
    if by_first == by_second:  # the recipe refuses two sources
        return set()
    return set(second if by_first else first)


def _renamed_for_version(settings: dict[str, Any], known: list[str]) -> dict[str, Any]:
    """Rename ``train_sampling_strategy`` of transformers 5 to ``group_by_length``, as transformers 4 has it."""
    if "train_sampling_strategy" in settings and "train_sampling_strategy" not in known:
        settings = dict(settings)
        settings["group_by_length"] = settings.pop("train_sampling_strategy") == "group_by_length"
    return settings


def _flags_of(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    # As one word, because argparse would take a value such as -0.5 for a flag.
    return [f"--{key}={json.dumps(value) if isinstance(value, dict) else value}"]
