"""The settings of a sweep: script, arguments, grid and metric; compared when a sweep goes on."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_momo.optimizers.registry import list_optimizers
from hf_momo.sweep.grid import Grid, Run, reserved_names
from hf_momo.utils.errors import UsageError
from hf_momo.utils.yaml_files import nearest

# Words in the name of a metric that is better when it is lower.
_LOWER_IS_BETTER = {"loss", "perplexity", "ppl", "nll", "bpc", "wer", "cer", "ter", "error", "mse", "rmse", "mae"}


@dataclass(frozen=True)
class Sweep:
    """The settings of a sweep, as the flags of its command.

    ``arguments`` are those of the script; ``own_arguments`` are further ones for single optimizers, as pairs of an
    optimizer and ``--name=value``.
    """

    script: str
    arguments: tuple[str, ...]
    launcher: tuple[str, ...]
    plain: bool
    grid: Grid
    metric: str
    greater_is_better: bool
    own_arguments: tuple[tuple[str, str], ...] = ()

    def arguments_of(self, optim: str) -> list[str]:
        """Return the arguments of the script for the runs of one optimizer."""
        return [*self.arguments, *(word for name, word in self.own_arguments if name == optim)]

    def command(self, run: Run, output_dir: Path) -> list[str]:
        """Return the command line of one run."""
        start = [*(self.launcher or [sys.executable]), *([] if self.plain else ["-m", "hf_momo", "run"]), self.script]
        arguments = self.arguments_of(run.variant.optim)
        return [*start, *arguments, *run.arguments, "--output_dir", str(output_dir)]

    def script_settings(self, optim: str) -> dict[str, Any]:
        """Return everything that the result of an optimizer's run depends on besides its point in the grid."""
        arguments, launcher = self.arguments_of(optim), list(self.launcher)
        return {"script": self.script, "arguments": arguments, "launcher": launcher, "plain": self.plain}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Sweep:
        """Return the sweep that ``dataclasses.asdict`` made this of."""
        words = {name: tuple(content[name]) for name in ("arguments", "launcher")}
        own = tuple(map(tuple, content.get("own_arguments", ())))
        return cls(**{**content, **words, "own_arguments": own, "grid": Grid.from_json(content["grid"])})

    def with_metric(self, metric: str | None, greater_is_better: bool | None) -> Sweep:
        """Return the same sweep with another metric, where one is given."""
        if greater_is_better is None:
            kept = metric is None or metric == self.metric
            greater_is_better = self.greater_is_better if kept else is_greater_better(str(metric))
        return replace(self, metric=metric or self.metric, greater_is_better=greater_is_better)


def is_greater_better(metric: str) -> bool:
    """Return whether a metric of this name is better when it is greater.

    Example:
        >>> is_greater_better("eval_bleu"), is_greater_better("eval_loss"), is_greater_better("perplexity")
        (True, False, False)
    """
    return _LOWER_IS_BETTER.isdisjoint(metric.lower().split("_"))


def check_script(sweep: Sweep) -> None:
    """Raise a ``UsageError`` if a run cannot start or would not get the values of the grid, or for a token."""
    if not Path(sweep.script).is_file():
        raise UsageError(f"SCRIPT: got {sweep.script!r}, must be a Python file")
    if sweep.launcher and shutil.which(sweep.launcher[0]) is None:
        given = shlex.join(sweep.launcher)
        raise UsageError(f"--launcher: got {given!r}, but there is no command {sweep.launcher[0]!r}")
    reserved = reserved_names(name for variant in sweep.grid.variants for name, _ in variant.options)
    for word in (*sweep.arguments, *(word for _, word in sweep.own_arguments)):
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name in reserved:
            raise UsageError(f"ARGS: got {word}, which the sweep sets for every run; leave it out after --")
        if word.startswith("--") and name == "hub_token":
            raise UsageError("ARGS: got --hub_token, which the sweep would write into its files; set HF_TOKEN instead")
    unknown = {variant.optim for variant in sweep.grid.variants} - set(list_optimizers())
    if unknown and not sweep.plain:
        # Loading transformers takes seconds, which a sweep of our own optimizers does not need.
        from transformers.training_args import OptimizerNames

        known = [*list_optimizers(), *(optimizer.value for optimizer in OptimizerNames)]
        for name in sorted(unknown - set(known)):
            raise UsageError(
                f"--optim: got {name!r}, which neither hf_momo nor transformers has{nearest(name, known)}; it takes"
                f" {', '.join(known)}. A script with optimizers of its own needs --plain"
            )


def describe_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return the differences of two ``script_settings`` in one line, or ``None``.

    The order of the script's arguments makes no difference.
    """
    old, new = _by_option(before), _by_option(now)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return "; ".join(f"{name}: {_shown(old.get(name))} before, {_shown(new.get(name))} now" for name in names) or None


def _by_option(settings: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Return every setting, and every argument of the script by its name, with all of its values."""
    options: dict[str, list[list[str]]] = {"SCRIPT": [[settings["script"]]]}
    if settings["launcher"]:
        options["--launcher"] = [settings["launcher"]]
    if settings["plain"]:
        options["--plain"] = [[]]
    values: list[str] | None = None
    for word in settings["arguments"]:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            values = [value] if equals else []
            options.setdefault(name, []).append(values)
        elif values is None:
            options["ARGS"] = [values := [word]]
        else:
            values.append(word)
    return options


def _shown(values: Sequence[Sequence[str]] | None) -> str:
    return "not given" if values is None else " and ".join(shlex.join(words) or "given" for words in values)
