"""Several ranks: two real processes under DistributedDataParallel, and what is refused so far."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from ddp_worker import CASES, STEPS, train

from hf_momo import Momo, sharding
from hf_momo.optimizers.base import SCALARS

WORKER = Path(__file__).with_name("ddp_worker.py")
DTYPES = [torch.float64, torch.float32]

by_case = pytest.mark.parametrize(
    ("case", "dtype"), [(case, dtype) for case in CASES for dtype in DTYPES], ids=lambda value: str(value)
)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two gloo processes end with, by case."""
    folder = tmp_path_factory.mktemp("ranks")
    outs = [folder / f"{rank}.pt" for rank in range(2)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(folder / "store"), str(rank), str(out)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, out in enumerate(outs)
    ]
    for process in processes:
        try:
            output, _ = process.communicate(timeout=150)
        except subprocess.TimeoutExpired:
            for each in processes:
                each.kill()
            raise
        assert process.returncode == 0, output
    return [torch.load(out, weights_only=True) for out in outs]


@by_case
def test_ranks_end_bit_equal(ranks, case, dtype):
    """Though their batches and losses differ, replicas cannot drift."""
    first, second = (results[f"{case}-{dtype}"] for results in ranks)
    assert first.keys() == second.keys()
    assert {f"group1.{name}" for name in SCALARS} <= first.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@by_case
def test_two_ranks_equal_one_process(ranks, case, dtype):
    """The trajectory is that of one process on the whole batch, skipped step included."""
    expected, actual = train(case, dtype, None), ranks[0][f"{case}-{dtype}"]
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-4}[dtype]
    for name, tensor in expected.items():
        torch.testing.assert_close(
            actual[name], tensor, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert float(actual["group0.skipped_steps"]) == 1.0
    assert float(actual["group0.num_steps"]) == STEPS - 1


def test_one_process_reduces_nothing(monkeypatch):
    """Without a process group there is no all-reduce, and the numbers are the rank's own."""
    monkeypatch.setattr(dist, "all_reduce", lambda *args: pytest.fail("reduced"))
    loss, sums = torch.tensor(2.0), torch.ones(2, 3)
    assert all(a is b for a, b in zip(sharding.sum_over_ranks(loss, sums), (loss, sums), strict=True))


def test_one_all_reduce_a_step(monkeypatch):
    """Of 1 + 3 G numbers for G groups; the loss becomes the mean, replicated sums stay what they are."""
    messages = []

    def all_reduce(message):
        messages.append(message.clone())
        message.mul_(4)

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    params = [torch.nn.Parameter(torch.tensor([3.0, 4.0])), torch.nn.Parameter(torch.ones(2))]
    optimizer = Momo([{"params": [params[0]]}, {"params": [params[1]]}])
    params[0].grad, params[1].grad = torch.tensor([6.0, 8.0]), torch.zeros(2)
    optimizer.step(loss=25.0)
    (message,) = messages
    assert (message * 4).tolist() == [25.0, 50.0, 50.0, 100.0, 0.0, 0.0, 0.0]
    assert optimizer.last_step.loss_avg == 25.0
    assert params[0].tolist() == [1.5, 2.0]


def test_local_tensor_of_a_plain_tensor():
    tensor = torch.ones(2)
    assert sharding.local_tensor(tensor) is tensor


def test_sharded_parameters_are_refused(tmp_path):
    """A DTensor's local sums would be those of a part; the message says what to use."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        param = torch.nn.Parameter(distribute_tensor(torch.ones(4), mesh, [Shard(0)]))
        optimizer = Momo([param])
        param.grad = torch.ones_like(param)
        with pytest.raises(NotImplementedError, match=r"params: got a DTensor.*Train with DistributedDataParallel"):
            optimizer.step(loss=1.0)
    finally:
        dist.destroy_process_group()
