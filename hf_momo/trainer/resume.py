"""Settings that a resumed checkpoint overrides: torch restores an optimizer's settings with its state."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from transformers import TrainingArguments

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.registry import TRAINER_ARGUMENTS, parse_optim_args
from hf_momo.trainer.arguments import is_momo, optimizer_name_of

logger = logging.getLogger(__name__)

Settings = Sequence[dict[str, Any]]
_Change = tuple[Any, Any]


def settings_of(optimizer: MomoOptimizer) -> Settings:
    """Return the settings in use, one dictionary per parameter group.

    ``lr`` and ``lower_bound`` are the values that training began with, since schedules and the estimated bound move
    the present ones.
    """
    return [
        {name: group.get(f"initial_{name}", group[name]) for name in optimizer.setting_names if name in group}
        for group in optimizer.entries
    ]


def restored_arguments(args: TrainingArguments, given: Settings, optimizer: MomoOptimizer) -> dict[str, Any]:
    """Return the training arguments that a loaded checkpoint overrides, with the values in use, and warn of them.

    Args:
        args: The training arguments.
        given: ``settings_of(optimizer)`` before the checkpoint was loaded.
        optimizer: The optimizer after the checkpoint was loaded.
    """
    arguments: dict[str, _Change] = {}
    options: dict[str, _Change] = {}
    for name, (ours, restored) in _changes(given, optimizer).items():
        if name not in TRAINER_ARGUMENTS:
            options[name] = (ours, restored)
            continue
        values = (ours, restored) if isinstance(ours, tuple) else ((ours,), (restored,))
        pairs = zip(TRAINER_ARGUMENTS[name][1], *values, strict=True)
        arguments |= {argument: (one, other) for argument, one, other in pairs if one != other}
    if (arguments or options) and args.process_index == 0:
        _warn({**arguments, **{f"optim_args {name}": change for name, change in options.items()}})
    in_use = {name: restored for name, (_, restored) in arguments.items()}
    if options and is_momo(args.optim):
        in_use["optim_args"] = _optim_args(args, {name: restored for name, (_, restored) in options.items()})
    return in_use


def _changes(given: Settings, optimizer: MomoOptimizer) -> dict[str, _Change]:
    """Return the options that differ, by the constructor's names, each from the first group in which it differs."""
    constructor_names = {key: name for name, key in optimizer.option_keys.items()}
    found: dict[str, _Change] = {}
    for before, group, after in zip(given, optimizer.entries, settings_of(optimizer), strict=False):
        for name in before:
            # Without a schedule that keeps it, the learning rate that training began with is not known.
            is_known = name != "lr" or "initial_lr" in group
            change = (_plain(before[name]), _plain(after[name]))
            if is_known and change[0] != change[1]:
                found.setdefault(constructor_names.get(name, name), change)
    return found


def _warn(arguments: dict[str, _Change]) -> None:
    logger.warning(
        "resume_from_checkpoint: the checkpoint restores the optimizer's settings, which replace these arguments: %s."
        " To train with the arguments, start a new run from the weights of the checkpoint, without"
        " resume_from_checkpoint",
        "; ".join(f"{name}: got {ours}, in use {theirs}" for name, (ours, theirs) in arguments.items()),
    )


def _optim_args(args: TrainingArguments, restored: dict[str, Any]) -> str:
    options = parse_optim_args(optimizer_name_of(args.optim), args.optim_args) | restored
    return ",".join(
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in options.items()
    )


def _plain(value: Any) -> Any:
    """Return a number in place of a tensor, and a tuple in place of a list: checkpoint formats change these types."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value.item() if hasattr(value, "item") else value
