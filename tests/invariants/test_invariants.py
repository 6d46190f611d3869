"""Every configuration gives the trajectory of a plain loop on one process: losses, step sizes, bounds and weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from invariants.configurations import ROWS, Row, Setting
from invariants.judging import Differences, differences, reference_of
from invariants.launching import Ranks
from invariants.reference import Trajectory

FUSED_SGD = "torch 2.13's fused SGD leaves half-precision parameters on a CPU where they are (pytorch issue 191763)"


def marks(row: Row) -> list[Any]:
    """Why a row cannot run here, if it cannot."""
    found: list[Any] = []
    if row.backend.device == "cuda":
        enough = torch.cuda.device_count() >= row.backend.ranks
        found += [pytest.mark.gpu, pytest.mark.skipif(not enough, reason=f"needs {row.backend.ranks} CUDA devices")]
    if row.setting.name == "bfloat16 momo" and row.backend.device == "cpu":
        found.append(pytest.mark.xfail(strict=True, reason=FUSED_SGD))
    return found


@pytest.mark.parametrize("job", [pytest.param(name, marks=marks(row)) for name, row in ROWS.items()])
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
