"""Properties of the C kernel alone: threads, forked processes, and the number of torch operations per step."""

import multiprocessing

import pytest
import torch

from hf_momo import Momo, MomoAdam, MomoLion
from hf_momo.kernels import compiled, slices


@pytest.fixture
def columns():
    return [[torch.randn(shape) for shape in [(1003,), (3, 5), (77, 129)]] for _ in range(3)]


@pytest.fixture
def threads(monkeypatch):
    """A function that sets the number of torch's threads; small tensors are then divided among them too."""
    monkeypatch.setattr(compiled, "_ELEMENTS_OF_A_THREAD", 1)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def measured(columns):
    return compiled.measure_identity(*columns, grad_weight=torch.tensor(0.1), dtype=torch.float32)


def test_threads(columns, threads):
    """Every element belongs to the share of exactly one thread, for any number of threads."""
    exact = measured([[t.double() for t in column] for column in columns])
    for number in (1, 2, 3, 7):
        threads(number)
        torch.testing.assert_close(measured(columns), exact, rtol=1e-5, atol=1e-3)
        assert torch.equal(measured(columns), measured(columns))


def test_more_threads_than_elements(threads):
    threads(7)
    columns = [[torch.full((2,), 3.0)], [torch.full((2,), 2.0)], [torch.zeros(2)]]
    actual = compiled.measure_identity(*columns, grad_weight=torch.tensor(0.5), dtype=torch.float32)
    assert actual.tolist() == [6.0, 12.0, 2.0]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_process(columns, threads):
    """A forked process has none of its parent's threads and starts its own."""
    threads(2)
    expected = measured(columns).tolist()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_measured_list, (columns,)).get(timeout=60) == expected


def _measured_list(columns):
    return measured(columns).tolist()


@pytest.mark.parametrize("cls", [Momo, MomoAdam, MomoLion])
def test_no_operations_for_each_parameter(cls):
    """A step of 5,000 tensors took twice as long as fused AdamW's, because it called torch once or twice for each."""

    def operations(number):
        params = [torch.nn.Parameter(torch.ones(3)) for _ in range(number)]
        optimizer = cls([{"params": params[::2]}, {"params": params[1::2], "weight_decay": 0.1}], kernel="compiled")
        for param in params:
            param.grad = torch.ones(3)
        optimizer.step(loss=1.0)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
            optimizer.step(loss=1.0)
        events = [event for event in profiled.events() if event.name.startswith("aten::")]
        return [e.name for e in events if not (e.cpu_parent and e.cpu_parent.name.startswith("aten::"))]

    few, many = operations(4), operations(64)
    assert 40 < len(few) < 250
    assert many == few


def test_all_bytes_of_a_large_tensor(threads):
    """Each element counts once: the sum of ones is their number, across blocks and shares."""
    threads(2)
    for size in (1, 15, 16, 17, 1023, 1025, 4 * slices.piece_size(torch.device("cpu")) + 3):
        ones = [torch.ones(size)]
        assert (
            compiled.measure_identity(ones, ones, grad_weight=torch.tensor(1.0), dtype=torch.float32).tolist()
            == [float(size)] * 3
        )
