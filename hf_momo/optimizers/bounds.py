"""The lower bound as a share of the training loss that another run, the pilot, ended with."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from hf_momo.sharding import first_rank_value

# Share of the pilot's last training loss that is taken as the bound.
PILOT_SHARE = 0.85
# Part of the pilot's steps, at its end, over which the logged losses are averaged: a single one is noisy.
_LAST_PART = 0.1

_FROM = "from="
_STATE_FILE, _RECORD_FILE = "trainer_state.json", "record.json"
# The sweep keeps the script's own files in this folder of each run.
_OUTPUT_FOLDER = "output"


@dataclass(frozen=True)
class PilotBound:
    """A lower bound that comes from a pilot run.

    Attributes:
        share: Share of the pilot's last training loss.
        loss: Mean of the pilot's last ``count`` logged training losses.
        count: Number of the losses.
        path: File that holds the losses.
    """

    share: float
    loss: float
    count: int
    path: str

    @property
    def value(self) -> float:
        """The bound, to four digits."""
        return float(f"{self.share * self.loss:.4g}")

    def __str__(self) -> str:
        losses = f"the mean of the last {self.count} training losses" if self.count > 1 else "the last training loss"
        return f"{self.share:g} of {self.loss:.4g}, {losses} in {self.path}"


def names_pilot(bound: Any) -> TypeGuard[str]:
    """Return whether ``bound`` is text of the form ``from=RUN`` or ``SHARE*from=RUN``."""
    return isinstance(bound, str) and (bound.startswith(_FROM) or f"*{_FROM}" in bound)


def read_pilot_bound(bound: str) -> PilotBound:
    """Return the bound that ``from=RUN`` or ``SHARE*from=RUN`` describes.

    Args:
        bound: ``RUN`` is a ``trainer_state.json``, a run's ``record.json``, or a folder with one of them: in itself,
            in its last ``checkpoint-*``, or in ``output`` (a run of a sweep). If there are several, the one that
            reaches the latest step counts. ``SHARE`` is a number in (0, 1], by default ``PILOT_SHARE``.

    Raises:
        ValueError: If ``RUN`` does not exist or holds no training losses, if these are not positive or not finite, or
            if ``SHARE`` is out of range.
    """
    given, run = ("", bound[len(_FROM) :]) if bound.startswith(_FROM) else _split(bound)
    share = _share(given, bound) if given else PILOT_SHARE
    path = Path(run).expanduser()
    if not run or not path.exists():
        raise _refusal(
            bound,
            f"{run or 'RUN'} does not exist; give the folder of a finished run, its {_STATE_FILE} or {_RECORD_FILE}",
        )
    losses, file = max(_logged_losses(path), key=lambda found: found[0][-1][0], default=([], path))
    if not losses:
        raise _refusal(
            bound,
            f"{path} holds no training losses, neither in a {_STATE_FILE}, its own or a checkpoint's, nor in a"
            f" {_RECORD_FILE}; give another run, or the bound as a number",
        )
    last = [loss for step, loss in losses if step > (1 - _LAST_PART) * losses[-1][0]]
    if not all(isinstance(loss, int | float) and math.isfinite(loss) for loss in last):
        raise _refusal(
            bound,
            f"the last training losses in {file} are not finite; give a run that did not diverge, or the bound as a"
            " number",
        )
    pilot = PilotBound(share, statistics.fmean(last), len(last), str(file))
    if pilot.loss <= 0:
        raise _refusal(
            bound,
            f"the last training loss in {file} is {pilot.loss:.4g}, and a share is below the loss only if the loss is"
            " positive; give the bound as a number well below the loss (the Trainer logs a loss of 0 if no loss was"
            " finite: such a run is no pilot)",
        )
    return pilot


def agreed_pilot_bound(bound: str) -> PilotBound:
    """Return ``read_pilot_bound(bound)`` of the first rank, since ranks with different bounds would drift apart.

    If ranks train together, all of them must call this function.
    """
    return first_rank_value(read_pilot_bound(bound))


def _refusal(bound: str, reason: str) -> ValueError:
    return ValueError(f"lower_bound: got {bound!r}, but {reason}")


def _split(bound: str) -> tuple[str, str]:
    share, _, run = bound.partition(f"*{_FROM}")
    return share, run


def _share(text: str, bound: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise _refusal(bound, f"its share {text} is not a number in (0, 1], such as 0.9")
    return share


def _logged_losses(run: Path) -> Iterator[tuple[list[tuple[int, Any]], Path]]:
    """Yield the steps and training losses of every file of a run that has any."""
    for file in [run] if run.is_file() else [*_files(run), *_files(run / _OUTPUT_FOLDER)]:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            # A checkpoint may be cut short; the others hold the same log.
            continue
        history = (content.get("log_history") or content.get("curve")) if isinstance(content, Mapping) else None
        entries = [entry for entry in history or [] if isinstance(entry, Mapping)]
        if losses := [(entry["step"], entry["loss"]) for entry in entries if {"step", "loss"} <= entry.keys()]:
            yield losses, file


def _files(folder: Path) -> Iterator[Path]:
    yield from (folder / _STATE_FILE, folder / _RECORD_FILE)
    checkpoints = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    for checkpoint in sorted(checkpoints, key=lambda path: -int(path.name.rpartition("-")[2])):
        yield checkpoint / _STATE_FILE
