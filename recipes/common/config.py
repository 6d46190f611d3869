"""Settings of a recipe: a YAML file gives the values, the command line wins over it.

Both go through transformers' `HfArgumentParser`: a setting has the same name, type and check in either place. The YAML
file is turned into flags that stand before the user's own, so argparse converts and checks its values too.
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


class _RecipeArgumentParser(HfArgumentParser):
    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        # HfArgumentParser makes a setting that is a string or a list of them take one word.
        if "--report_to" in args:
            kwargs["nargs"] = "+"
        # False keeps trackio's charts from the Hub; as a word it would be a Space of that name.
        if "--trackio_static_space_id" in args:
            kwargs["type"] = lambda word: False if word.lower() == "false" else word
        return super().add_argument(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        # argparse would print the usage of some two hundred flags above the one line that matters.
        raise UsageError(message)


def parse_settings(dataclass_types: Sequence[type], description: str, argv: Sequence[str] | None = None) -> Any:
    """Parse `--config FILE.yaml` and the command line into instances of the given dataclasses.

    Args:
        dataclass_types: The dataclasses, in the order in which their instances are returned.
        description: What `--help` prints first.
        argv: The command line; `sys.argv[1:]` if None.

    Returns:
        One instance of each dataclass.

    Raises:
        UsageError: A flag, a key or a value that is not known or not legal, with the nearest known name.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Abbreviated flags would let a typo in a long flag pass for a shorter one.
    types: Any = list(dataclass_types)
    parser = _RecipeArgumentParser(types, description=description, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE.yaml", help="YAML file of settings; flags win over it")
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
        # Checks in the dataclasses themselves, such as those of TrainingArguments.
        raise UsageError(str(error)) from error
    if unknown:
        flag = unknown[0].split("=")[0]
        known = [name for action in parser._actions for name in action.option_strings]
        raise UsageError(f"{flag} is not a setting{nearest(flag, known)}; --help lists them")
    return tuple(parsed)


def _field_names(dataclass_types: Iterable[type]) -> list[str]:
    return [field.name for cls in dataclass_types for field in dataclasses.fields(cls) if field.init]


# Two ways to say where the data is: one on the command line stands in place of the other in the file.
_SOURCES_OF_DATA = (
    ("dataset_name", "dataset_config_name", "dataset_revision"),
    ("data_dir", "train_file", "validation_file", "test_file"),
)


def _flags_of_yaml(path: Path, parser: HfArgumentParser, known: list[str], arguments: list[str]) -> list[str]:
    settings = _in_names_of_version(read_yaml(path), known)
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
    """Settings of a file that those given on the command line stand in place of."""
    first, second = _SOURCES_OF_DATA
    by_first, by_second = first[0] in given, not given.isdisjoint(second)
    if by_first == by_second:  # with both, the recipe says that there is one too many
        return set()
    return set(second if by_first else first)


def _in_names_of_version(settings: dict[str, Any], known: list[str]) -> dict[str, Any]:
    """A recipe says `train_sampling_strategy`, as transformers 5 does; in 4 that was the flag `group_by_length`."""
    if "train_sampling_strategy" in settings and "train_sampling_strategy" not in known:
        settings = dict(settings)
        settings["group_by_length"] = settings.pop("train_sampling_strategy") == "group_by_length"
    return settings


def _flags_of(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    # `--key=value` and not two words: argparse would take a value such as -0.5 for a flag of its own.
    return [f"--{key}={json.dumps(value) if isinstance(value, dict) else value}"]
