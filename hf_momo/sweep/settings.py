"""The settings of a sweep: script, arguments, grid and metric; compared when a sweep continues."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_momo.optimizers.registry import list_optimizers
from hf_momo.sweep.grid import RESERVED, Grid, Run, argument_name
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
    arguments: Sequence[str]
    launcher: Sequence[str]
    plain: bool
    grid: Grid
    metric: str
    greater_is_better: bool
    own_arguments: Sequence[Sequence[str]] = ()

    def command(self, run: Run, output_dir: Path) -> list[str]:
        """Return the command line of one run."""
        start = [*(self.launcher or [sys.executable]), *([] if self.plain else ["-m", "hf_momo", "run"]), self.script]
        arguments: list[str] = self.script_settings(run.optim)["arguments"]
        return [*start, *arguments, *run.arguments, "--output_dir", str(output_dir)]

    def script_settings(self, optim: str) -> dict[str, Any]:
        """Return everything that the result of an optimizer's run depends on besides its point in the grid."""
        arguments = [*self.arguments, *(word for name, word in self.own_arguments if name == optim)]
        return {"script": self.script, "arguments": arguments, "launcher": list(self.launcher), "plain": self.plain}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Sweep:
        """Return the sweep that ``dataclasses.asdict`` made this of."""
        return cls(**{**content, "grid": Grid(**content["grid"])})

    def with_metric(self, metric: str | None, greater: str | None) -> Sweep:
        """Return the same sweep with another metric or direction, where one is given."""
        metric = metric or self.metric
        if metric == self.metric and greater is None:
            return self
        return replace(self, metric=metric, greater_is_better=is_greater_better(metric, greater))


def is_greater_better(metric: str, given: str | None = None) -> bool:
    """Return the direction of a metric, which is ``given`` as ``"true"`` or ``"false"`` or follows from its name."""
    return given == "true" if given else _LOWER_IS_BETTER.isdisjoint(metric.lower().split("_"))


def check_script(sweep: Sweep) -> None:
    """Raise a ``UsageError`` if a run cannot start or would not get the values of the grid, or for a token."""
    if not Path(sweep.script).is_file():
        raise UsageError(f"SCRIPT: got {sweep.script!r}, must be a Python file")
    if sweep.launcher and shutil.which(sweep.launcher[0]) is None:
        given = shlex.join(sweep.launcher)
        raise UsageError(f"--launcher: got {given!r}, but there is no command {sweep.launcher[0]!r}")
    reserved = RESERVED.union(*(variant["options"] for variant in sweep.grid.variants))
    for word in (*sweep.arguments, *(word for _, word in sweep.own_arguments)):
        if word.startswith("--") and argument_name(word) in reserved:
            raise UsageError(f"ARGS: got {word}, which the sweep sets for every run; leave it out after --")
        if word.startswith("--") and argument_name(word) == "hub_token":
            raise UsageError("ARGS: got --hub_token, which the sweep would write into its files; set HF_TOKEN instead")
    unknown = {variant["optim"] for variant in sweep.grid.variants} - set(list_optimizers())
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

    The order of the script's arguments makes no difference, except for those of one name.
    """
    old, new = _by_option(before), _by_option(now)
    pairs = [(old.get(name, "nothing"), new.get(name, "nothing")) for name in {**old, **new}]
    return "; ".join(f"{was} before, {is_now} now" for was, is_now in pairs if was != is_now) or None


def _by_option(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return every setting, and every argument of the script by its name, with its name and all of its values."""
    groups = [["SCRIPT", settings["script"]]]
    for word in [*settings["arguments"], f"--launcher={shlex.join(settings['launcher'])}"]:
        if word.startswith("--"):
            groups.append(word.split("=", 1))
        else:
            groups[-1].append(word)
    options = {"plain": "--plain" if settings["plain"] else "no --plain"}
    for group in groups:
        options[group[0]] = f"{options.get(group[0], '')} {shlex.join(group)}".strip()
    return options
