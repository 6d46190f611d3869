import gc
import os
import sys

# Tensors of tests are tiny: a second thread only waits for the first, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

# Without a GPU the Triton kernel is tested in Triton's interpreter, which triton asks for when it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session", autouse=True)
def collected_imports():
    """Take everything that was imported out of garbage collection.

    A Trainer collects garbage twice in every ``train()``, which takes half a second over the imported modules.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def seed():
    """Start every test from the same random state, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def fresh_process_state():
    """Restore what training leaves in the process: accelerate's singletons, and environment variables.

    Training arguments write to the environment (mixed precision, compilation).
    """
    environment = dict(os.environ)
    yield
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]
    os.environ.update(environment)
    # Not imported here: most tests need torch alone.
    state = sys.modules.get("accelerate.state")
    if state is not None:
        state.AcceleratorState._reset_state(True)
        state.GradientState._reset_state()
        state.PartialState._reset_state()
