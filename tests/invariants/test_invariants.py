"""Every configuration gives the trajectory of a plain loop in one process: losses, step sizes, bounds and weights.

A second part breaks the library on purpose: the rows that need the broken function must fail, and others must pass.
Both parts are in one file because they share launches, and pytest-xdist runs a file in one worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from invariants.configurations import REFUSED, ROWS, Row, Setting
from invariants.judging import Differences, differences, reference_of
from invariants.launching import Ranks, marks_of
from invariants.reference import Trajectory
from invariants.sabotage import SABOTAGES

Report = Callable[[str, Row, Differences], None]


@pytest.mark.parametrize("job", [pytest.param(name, marks=marks_of(row)) for name, row in ROWS.items()])
def test_one_trajectory(job: str, run: Callable[[str], Ranks], report: Report) -> None:
    row, ranks = ROWS[job], run(job)
    seen = differences(row, ranks)
    report(job, row, seen)
    assert seen.ranks == 0.0, "the ranks' scalars are not equal to the bit"
    assert seen.largest <= row.tolerance.value, row.tolerance.reason
    for rank, result in enumerate(ranks):
        check_against_the_oracle(row.setting, reference_of(row, result["trajectory"]["skipped"], rank))
    if len(ranks) > 1 and "tensor parallel" not in row.setting.name:
        first, second = ([step["loss"] for step in rank["trajectory"]["steps"]] for rank in ranks)
        assert first != second, "the ranks are meant to have losses of their own"


# In half precision the plain loop rounds what it keeps, and the oracle does not.
ORACLE = {"autocast": 1e-5, "bfloat16": 1e-2}


def check_against_the_oracle(setting: Setting, trajectory: Trajectory) -> None:
    assert trajectory.from_oracle <= ORACLE.get(setting.precision, 1e-12)
    assert len(set(trajectory.step_size)) > 3, "the step size is meant to adapt in this row"


@pytest.mark.parametrize("job", [pytest.param(name, marks=marks_of(row)) for name, row in REFUSED.items()])
def test_is_refused_before_training(job: str, run: Callable[[str], Ranks]) -> None:
    """Every rank raises an error that names FSDP2, when the optimizer or the Trainer is made."""
    for result in run(job):
        assert "NotImplementedError: sharded: MomoMuon needs whole tensors" in result["error"]
        assert "use FSDP2" in result["error"]
        assert "optimizer.step" not in result["error"]


def jobs(color: str) -> list[Any]:
    names = [(name, row) for name, sabotage in SABOTAGES.items() for row in getattr(sabotage, color)]
    return [pytest.param(f"{name}:{row}", marks=marks_of(ROWS[row])) for name, row in names]


@pytest.mark.parametrize("job", jobs("red"))
def test_turns_red(job: str, run: Callable[[str], Ranks], report: Report) -> None:
    row = ROWS[job.rpartition(":")[2]]
    seen = differences(row, run(job))
    report(job, row, seen)
    assert seen.largest > 100 * row.tolerance.value


@pytest.mark.parametrize("job", jobs("green"))
def test_stays_green(job: str, run: Callable[[str], Ranks], report: Report) -> None:
    row = ROWS[job.rpartition(":")[2]]
    seen = differences(row, run(job))
    report(job, row, seen)
    assert seen.largest <= row.tolerance.value
