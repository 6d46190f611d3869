"""The scores of a sweep at each learning rate, and the published ones."""

import csv
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_momo.hub.cards.training import capped_share
from hf_momo.hub.record import portable
from hf_momo.sweep.records import OUTPUT_FOLDER
from hf_momo.sweep.trials import Study
from hf_momo.utils.errors import UsageError

Reference = Mapping[tuple[str, float], tuple[float, float]]
_KEPT = ("eval_loss", "train_loss", "train_runtime")


@dataclass(frozen=True)
class Cell:
    """One optimizer at one learning rate.

    Attributes:
        optimizer: Name of the optimizer, as in ``--optim``.
        learning_rate: Learning rate, or cap on the step size.
        scores: Score of each seed; for a run that diverged, that of its last model.
        diverged: Number of runs whose loss was not finite.
        published: Published mean and deviation, if any.
        agrees: Whether the means are close, or both no better than twice chance; ``None`` without a published one.
    """

    optimizer: str
    learning_rate: float
    scores: tuple[float, ...]
    diverged: int
    published: tuple[float, float] | None
    agrees: bool | None

    @property
    def mean(self) -> float:
        """Mean of the scores."""
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of two or more scores."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return the cell as JSON values."""
        return {**asdict(self), "mean": self.mean, "deviation": self.deviation}


def read_runs(study: Study) -> list[dict[str, Any]]:
    """Return every run of a sweep: its point in the grid, outcome, command, versions and hardware.

    Raises:
        UsageError: If a run has not ended, failed, or has no score.
    """
    sweep, folder = study.sweep, study.folder
    ended = {run.folder: (run, record) for run, record in study.ended(sweep)}
    own: dict[str, list[str]] = {}
    for optim, word in sweep.own_arguments:
        own.setdefault(optim, []).append(word.removeprefix("--"))
    runs = []
    for planned in sweep.grid.runs:
        if planned.folder not in ended:
            raise UsageError(
                f"{folder / planned.folder} has not ended yet; repeat the command of the sweep to continue it"
            )
        run, record = ended[planned.folder]
        outcome, results = record.judge(sweep.metric), record.results or {}
        score = results.get(sweep.metric)
        if outcome.status not in ("done", "diverged") or not isinstance(score, int | float):
            raise UsageError(f"{folder / run.folder} has no {sweep.metric}: {outcome.reason}")
        details = json.loads((folder / run.folder / OUTPUT_FOLDER / "record.json").read_text(encoding="utf-8"))
        runs.append(
            {
                # Without its own arguments it could not be told from the same optimizer in another sweep.
                "optimizer": ", ".join([run.name, *own.get(run.optim, [])]),
                "learning_rate": run.learning_rate,
                "seed": run.seed,
                "status": outcome.status,
                "reason": outcome.reason,
                "score": score,
                **{name: results.get(name) for name in _KEPT},
                "command": portable(details["command"]),
                "steps": details["steps"],
                "data": details["data"],
                "rows": details.get("rows"),
                "metrics": details.get("metrics"),
                "capped": _capped(details.get("curve") or []),
                "versions": details["versions"],
                "hardware": details["hardware"],
            }
        )
    return runs


def _capped(curve: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the share of capped steps; ``None`` for an optimizer without an adaptive step size."""
    return capped_share(curve) if curve and "step_capped" in curve[-1] else None


def read_reference(path: Path) -> Reference:
    """Return published means and deviations by optimizer and learning rate.

    Raises:
        UsageError: If the table cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {
                (row["optimizer"], float(row["learning_rate"])): (float(row["mean"]), float(row["deviation"]))
                for row in csv.DictReader(file)
            }
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UsageError(
            f"--reference {path} is not a table with the columns optimizer, learning_rate, mean, deviation: {error!r}"
        ) from error


def read_cells(runs: Sequence[Mapping[str, Any]], reference: Reference, chance: float, tolerance: float) -> list[Cell]:
    """Return the runs of each optimizer and learning rate as a cell.

    Args:
        runs: Return value of ``read_runs``.
        reference: Return value of ``read_reference``.
        chance: Score of guessing. Two means up to twice this score agree.
        tolerance: Largest difference of two means that agree.
    """
    cells = []
    for optimizer, rate in dict.fromkeys((run["optimizer"], run["learning_rate"]) for run in runs):
        chosen = [run for run in runs if (run["optimizer"], run["learning_rate"]) == (optimizer, rate)]
        scores = tuple(run["score"] for run in chosen)
        published = next(
            (value for (name, other), value in reference.items() if name == optimizer and math.isclose(rate, other)),
            None,
        )
        agrees = None if published is None else _agree(statistics.fmean(scores), published[0], chance, tolerance)
        diverged = sum(run["status"] == "diverged" for run in chosen)
        cells.append(Cell(optimizer, rate, scores, diverged, published, agrees))
    return cells


def _agree(mean: float, published: float, chance: float, tolerance: float) -> bool:
    return abs(mean - published) <= tolerance or max(mean, published) <= 2 * chance


def format_score(mean: float, deviation: float | None, record: Mapping[str, Any]) -> str:
    """Return a score with the ``digits`` of the record of a study; without this key, in percent."""
    digits, factor = (2, 100) if record.get("digits") is None else (record["digits"], 1)
    return f"{factor * mean:.{digits}f}" + ("" if deviation is None else f" ± {factor * deviation:.{digits}f}")
