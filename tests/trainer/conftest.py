"""What the Trainer leaves behind in the process, put back after every test."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState


@pytest.fixture(scope="package", autouse=True)
def _imports_out_of_the_collectors_sight() -> Iterator[None]:
    """Every ``train()`` collects garbage twice: half a second over all that was imported, nothing without it."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _fresh_process_state() -> Iterator[None]:
    """TrainingArguments write to the environment (mixed precision, compilation), accelerate keeps singletons."""
    environment = dict(os.environ)
    yield
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]
    os.environ.update(environment)
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    PartialState._reset_state()
