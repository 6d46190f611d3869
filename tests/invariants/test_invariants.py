"""Every configuration gives the trajectory of a plain loop on one process: losses, step sizes, bounds and weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from invariants.configurations import ROWS, Row, Setting
from invariants.judging import Differences, differences, reference_of
from invariants.launching import Ranks, marks_of
from invariants.reference import Trajectory


@pytest.mark.parametrize("job", [pytest.param(name, marks=marks_of(row.backend)) for name, row in ROWS.items()])
def test_one_trajectory(
    job: str, run: Callable[[str], Ranks], report: Callable[[str, Row, Differences], None]
) -> None:
    row, ranks = ROWS[job], run(job)
    seen = differences(row, ranks)
    report(job, row, seen)
    assert seen.ranks == 0.0, "the ranks' scalars are not equal to the bit"
    assert seen.largest <= row.tolerance.value, row.tolerance.reason
    for rank, result in enumerate(ranks):
        check_against_the_oracle(row.setting, reference_of(row, result["trajectory"]["skipped"], rank))
    if len(ranks) > 1 and row.setting.name != "tensor parallel":
        first, second = ([step["loss"] for step in rank["trajectory"]["steps"]] for rank in ranks)
        assert first != second, "the ranks are meant to have losses of their own"


# In half precision the plain loop rounds what it keeps, and the oracle does not.
ORACLE = {"autocast": 1e-5, "bfloat16": 1e-2}


def check_against_the_oracle(setting: Setting, trajectory: Trajectory) -> None:
    assert trajectory.from_oracle <= ORACLE.get(setting.precision, 1e-12)
    assert len(set(trajectory.step_size)) > 3, "the step size is meant to adapt in this row"
