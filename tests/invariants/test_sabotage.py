"""Broken on purpose, the suite fails: each thing taken out turns the rows red that need it, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from invariants.configurations import ROWS, Row
from invariants.judging import Differences, differences
from invariants.launching import Ranks, marks_of
from invariants.sabotage import SABOTAGES


def jobs(color: str) -> list[Any]:
    names = [(name, row) for name, sabotage in SABOTAGES.items() for row in getattr(sabotage, color)]
    return [pytest.param(f"{name}:{row}", marks=marks_of(ROWS[row].backend)) for name, row in names]


Report = Callable[[str, Row, Differences], None]


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
