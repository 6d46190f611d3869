"""What a sweep is: script, arguments, grid and metric; kept in sweep.json, and compared when the sweep goes on."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_momo.sweep.files import read_json, write_json
from hf_momo.sweep.grid import Grid, Run, reserved_names
from hf_momo.utils.errors import UsageError

SWEEP_FILE = "sweep.json"
# Words in the name of a metric that is better when it is lower.
_LOWER_IS_BETTER = {"loss", "perplexity", "ppl", "nll", "bpc", "wer", "cer", "ter", "error", "mse", "rmse", "mae"}


@dataclass(frozen=True)
class Sweep:
    """The settings of a sweep.

    Attributes:
        script: Path of the script.
        arguments: What every run is given.
        launcher: Words that start it, e.g. ``("accelerate", "launch")``; empty for the Python of the sweep.
        plain: Start the script by itself instead of by ``hf-momo run``.
        grid: The runs.
        metric: Key of ``all_results.json``.
        greater_is_better: Of the metric.
    """

    script: str
    arguments: tuple[str, ...]
    launcher: tuple[str, ...]
    plain: bool
    grid: Grid
    metric: str
    greater_is_better: bool

    def command(self, run: Run, output_dir: Path) -> list[str]:
        """The command line of one run."""
        start = [*self.launcher] if self.launcher else [sys.executable]
        script = [self.script] if self.plain else ["-m", "hf_momo", "run", self.script]
        return [*start, *script, *self.arguments, *run.arguments, "--output_dir", str(output_dir)]

    @property
    def script_settings(self) -> dict[str, Any]:
        """All that the outcome of a run depends on besides its point in the grid."""
        arguments = list(self.arguments)
        return {"script": self.script, "arguments": arguments, "launcher": list(self.launcher), "plain": self.plain}

    def write(self, folder: Path) -> None:
        """Write sweep.json into the folder of the sweep."""
        metric = {"metric": self.metric, "greater_is_better": self.greater_is_better}
        write_json(folder / SWEEP_FILE, {**self.script_settings, **metric, "grid": self.grid.to_json()})

    def with_metric(self, metric: str | None, greater_is_better: bool | None) -> Sweep:
        """The same sweep, judged by another metric where one is given."""
        if metric is None or metric == self.metric:
            greater = self.greater_is_better if greater_is_better is None else greater_is_better
            return replace(self, greater_is_better=greater)
        greater = is_greater_better(metric) if greater_is_better is None else greater_is_better
        return replace(self, metric=metric, greater_is_better=greater)


def read_sweep(folder: Path) -> Sweep:
    """Read the settings of the sweep in ``folder``.

    Raises:
        UsageError: If it holds none.
    """
    path = folder / SWEEP_FILE
    if not path.is_file():
        raise UsageError(f"{folder} holds no sweep (no {SWEEP_FILE}); give the --output_dir of one")
    content = read_json(path)
    try:
        return Sweep(
            content["script"],
            tuple(content["arguments"]),
            tuple(content["launcher"]),
            content["plain"],
            Grid.from_json(content["grid"]),
            content["metric"],
            content["greater_is_better"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no {SWEEP_FILE} of this version: {error!r}") from None


def is_greater_better(metric: str) -> bool:
    """Whether a metric of this name is better when it is greater.

    Example:
        >>> is_greater_better("eval_bleu"), is_greater_better("eval_loss"), is_greater_better("perplexity")
        (True, False, False)
    """
    return _LOWER_IS_BETTER.isdisjoint(metric.lower().split("_"))


def check_script(sweep: Sweep) -> None:
    """Refuse what could not be started, or would not get the values of the grid.

    Raises:
        UsageError: If the script or the launcher does not exist, or the script's arguments set what the sweep sets or
            hold a token.
    """
    if not Path(sweep.script).is_file():
        raise UsageError(f"SCRIPT: got {sweep.script!r}, must be a Python file")
    if sweep.launcher and shutil.which(sweep.launcher[0]) is None:
        raise UsageError(
            f"--launcher: got {shlex.join(sweep.launcher)!r}, but there is no command {sweep.launcher[0]!r}"
        )
    reserved = reserved_names(name for variant in sweep.grid.variants for name, _ in variant.options)
    for word in sweep.arguments:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name in reserved:
            raise UsageError(f"ARGS: got {word}, which the sweep sets for every run; leave it out after --")
        if word.startswith("--") and name == "hub_token":
            raise UsageError("ARGS: got --hub_token, which the sweep would write into its files; set HF_TOKEN instead")


def describe_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """How two ``script_settings`` differ.

    Returns:
        One line, ``None`` if they are the same. The order of the script's arguments makes no difference.
    """
    old, new = _flat(before), _flat(now)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return "; ".join(f"{name}: {_shown(old.get(name))} before, {_shown(new.get(name))} now" for name in names) or None


def _flat(settings: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Every setting, and every argument of the script by itself, with its values wherever it stands."""
    flat: dict[str, list[list[str]]] = {
        "SCRIPT": [[settings["script"]]],
        "--launcher": [settings["launcher"]] if settings["launcher"] else [],
        "--plain": [[]] if settings["plain"] else [],
    }
    for words in _by_option(settings["arguments"]):
        flat.setdefault(words[0] if words[0].startswith("--") else "ARGS", []).append(words[1:] or [])
    return {name: values for name, values in flat.items() if values}


def _by_option(arguments: Sequence[str]) -> list[list[str]]:
    groups: list[list[str]] = [["ARGS"]]
    for word in arguments:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            groups.append([name, value] if equals else [name])
        else:
            groups[-1].append(word)
    return groups if len(groups[0]) > 1 else groups[1:]


def _shown(values: list[list[str]] | None) -> str:
    if values is None:
        return "not given"
    return " and ".join(shlex.join(words) or "given" for words in values)
