"""Real data to test on, where it is: the folder `HF_MOMO_DATA`, or else `../shared/data` beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def real_data(name: str) -> Path:
    """Path of a file or folder of real data; the test is skipped where there is none.

    Args:
        name: Relative to the folder, e.g. `criteo/test.tsv`.
    """
    path = Path(os.environ.get("HF_MOMO_DATA", _BESIDE)) / name
    if not path.exists():
        pytest.skip(f"needs {name} in the folder HF_MOMO_DATA or in ../shared/data beside the checkout")
    return path
