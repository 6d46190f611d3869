"""Broken on purpose, the suite fails: each thing taken out turns the rows red that need it, and no others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from invariants.configurations import ROWS, Row
from invariants.judging import Differences, differences
from invariants.launching import Ranks
from invariants.sabotage import SABOTAGES

RED = [f"{name}:{row}" for name, sabotage in SABOTAGES.items() for row in sabotage.red]
GREEN = [f"{name}:{row}" for name, sabotage in SABOTAGES.items() for row in sabotage.green]

Report = Callable[[str, Row, Differences], None]


@pytest.mark.parametrize("job", RED)
def test_turns_red(job: str, run: Callable[[str], Ranks], report: Report) -> None:
    row = ROWS[job.rpartition(":")[2]]
    seen = differences(row, run(job))
    report(job, row, seen)
    assert seen.largest > 100 * row.tolerance.value


@pytest.mark.parametrize("job", GREEN)
def test_stays_green(job: str, run: Callable[[str], Ranks], report: Report) -> None:
    row = ROWS[job.rpartition(":")[2]]
    seen = differences(row, run(job))
    report(job, row, seen)
    assert seen.largest <= row.tolerance.value
