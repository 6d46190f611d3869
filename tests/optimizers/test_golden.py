"""Weights, state and scalars of every method are those recorded in ``golden.npz``."""

import numpy as np
import pytest
from optimizers import golden

RECORDED = np.load(golden.RECORDED)
CASES = dict(golden.cases())


def test_every_case_is_recorded():
    assert {*CASES, "_machine"} == set(RECORDED.files)


@pytest.mark.parametrize("name", CASES)
def test_trajectory_is_the_recorded_one(name):
    """Equal to the bit with the torch and the instruction set of the recording, else to rounding."""
    found, recorded = golden.flat(CASES[name]()), RECORDED[name]
    if golden.here() == str(RECORDED["_machine"]):
        assert np.array_equal(found, recorded, equal_nan=True)
    else:
        rounding = 1e-10 if name.endswith("float64") and "mixed-dtypes" not in name else 2e-2
        np.testing.assert_allclose(found, recorded, rtol=rounding, atol=rounding)


def test_a_change_is_seen(monkeypatch):
    """The comparison fails if one option has another value."""
    name = "momo:decay:eager:contiguous:one-group:float32"
    monkeypatch.setitem(golden.OPTIONS, "decay", {"weight_decay": 0.4})
    assert not np.allclose(golden.flat(CASES[name]()), RECORDED[name], rtol=2e-2, atol=2e-2)
