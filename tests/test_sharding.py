"""Several ranks: two real processes under DistributedDataParallel, and the shares of sharded parameters."""

import copy
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import mesh_worker
import pytest
import torch
import torch.distributed as dist
from ddp_worker import CASES, STEPS, operations_of_a_step, train
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

from hf_momo import Momo, MomoAdafactor, sharding
from hf_momo.optimizers import shards
from hf_momo.optimizers.scalars import SCALARS

WORKER = Path(__file__).with_name("ddp_worker.py")
DTYPES = [torch.float64, torch.float32]

by_case = pytest.mark.parametrize(
    ("case", "dtype"), [(case, dtype) for case in CASES for dtype in DTYPES], ids=lambda value: str(value)
)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Results of two gloo processes, by case."""
    folder = tmp_path_factory.mktemp("ranks")
    outs = [folder / f"{rank}.pt" for rank in range(2)]
    root = WORKER.parents[1]
    paths = os.pathsep.join(map(str, (root, root / "recipes")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
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


@pytest.fixture(scope="module")
def mesh_ranks(tmp_path_factory):
    """Results of four gloo processes, by layout."""
    folder = tmp_path_factory.mktemp("mesh")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[1])}
    command = [sys.executable, mesh_worker.__file__, str(folder)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert result.returncode == 0, result.stderr[-6000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(mesh_worker.RANKS)]


@pytest.mark.parametrize("layout", mesh_worker.LAYOUTS)
def test_matrices_cut_by_a_mesh_equal_whole_ones(mesh_ranks, layout):
    """Row and column averages and their means are those of whole matrices, also where shards are uneven or empty."""
    expected = mesh_worker.train(torch.clone)
    for result in mesh_ranks:
        assert result[layout].keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(
                result[layout][name], tensor, rtol=1e-12, atol=1e-13, msg=lambda text, name=name: f"{name}: {text}"
            )


def test_ranks_share_the_orthogonalizing(ranks):
    """Each of two ranks does half of the matrix products of one process."""
    alone = operations_of_a_step()
    assert alone > 0
    assert [int(results["operations"]["muon"]) for results in ranks] == [alone // 2, alone // 2]


def test_one_process_reduces_nothing(monkeypatch):
    """Without a process group there is no all-reduce, and the numbers are the rank's own."""
    monkeypatch.setattr(dist, "all_reduce", lambda *args: pytest.fail("reduced"))
    loss, sums = torch.tensor(2.0), torch.ones(2, 3)
    assert all(a is b for a, b in zip(sharding.sum_over_ranks(loss, sums), (loss, sums), strict=True))


def test_one_all_reduce_a_step(monkeypatch):
    """The message has 2 + 3 G numbers for G groups; the loss becomes the mean, replicated sums stay what they are."""
    messages = []

    def all_reduce(message, group=None):
        messages.append(message.clone())
        message.mul_(4)

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda group=None: 4)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    params = [torch.nn.Parameter(torch.tensor([3.0, 4.0])), torch.nn.Parameter(torch.ones(2))]
    optimizer = Momo([{"params": [params[0]]}, {"params": [params[1]]}])
    params[0].grad, params[1].grad = torch.tensor([6.0, 8.0]), torch.zeros(2)
    optimizer.step(loss=25.0)
    (message,) = messages
    assert (message * 4).tolist() == [25.0, 0.0, 50.0, 50.0, 100.0, 0.0, 0.0, 0.0]
    assert optimizer.last_step.loss_avg == 25.0
    assert params[0].tolist() == [1.5, 2.0]


def test_local_tensor_of_a_plain_tensor():
    tensor = torch.ones(2)
    assert sharding.local_tensor(tensor) is tensor


@pytest.fixture
def fake_ranks():
    """This process as rank 0 of 8, whose collectives do nothing: for what is worked out without them."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
    yield 8
    dist.destroy_process_group()


R, S = Replicate(), Shard(0)
REPLICAS = {
    "fsdp2": ((8,), (S,), 1),
    "replicated": ((8,), (R,), 8),
    "hsdp": ((2, 4), (R, S), 2),
    "fsdp-and-tp": ((4, 2), (S, Shard(1)), 1),
    "norm-under-tp": ((4, 2), (S, R), 2),
    "tp-alone": ((2,), (Shard(1),), 4),
    "replicated-on-part": ((2,), (R,), 8),
    "three-dims": ((2, 2, 2), (R, S, R), 4),
}


@pytest.mark.parametrize(("mesh", "placements", "replicas"), REPLICAS.values(), ids=REPLICAS)
def test_replicas_of_a_dtensor(fake_ranks, mesh, placements, replicas):
    """The product over replicated mesh dimensions, and over the ranks that a smaller mesh is repeated on."""
    whole = init_device_mesh("cpu", (8 // math.prod(mesh), *mesh))
    names = [f"d{i}" for i in range(len(mesh) + 1)]
    whole = init_device_mesh("cpu", tuple(whole.shape), mesh_dim_names=tuple(names))
    param = DTensor.from_local(torch.ones(4, 4), whole[tuple(names[1:])], placements, run_check=False)
    for sharded in (False, True):
        assert sharding.num_replicas([param, param], None, sharded=sharded) == [replicas, replicas]


REDUCED = {
    # mesh, placements of the parameter, without its last dimension, without the one before
    "rows in pieces": ((8,), [Shard(0)], [Shard(0)], [Replicate()]),
    "columns in pieces": ((8,), [Shard(1)], [Replicate()], [Shard(0)]),
    "rows on some ranks": ((2, 4), [Replicate(), Shard(0)], [Replicate(), Shard(0)], [Replicate(), Replicate()]),
    "both in pieces": ((2, 4), [Shard(0), Shard(1)], [Shard(0), Replicate()], [Replicate(), Shard(0)]),
    "columns in pieces of pieces": (
        (2, 4),
        [_StridedShard(1, split_factor=4), Shard(1)],
        [Replicate(), Replicate()],
        [_StridedShard(0, split_factor=4), Shard(0)],
    ),
}


@pytest.mark.parametrize(("mesh", "placements", "of_rows", "of_columns"), REDUCED.values(), ids=REDUCED)
def test_layout_of_what_lacks_a_dimension(fake_ranks, mesh, placements, of_rows, of_columns):
    """Row and column averages of a DTensor lie where its rows and columns do, so checkpoints can be laid out anew."""
    device_mesh = init_device_mesh("cpu", mesh)
    param = DTensor.from_local(torch.ones(3, 5), device_mesh, placements, run_check=False)
    for dim, expected in ((-1, of_rows), (-2, of_columns)):
        zeros = shards.zeros_without(param, dim, torch.float64)
        assert (list(zeros.placements), zeros.dtype) == (expected, torch.float64)
        assert zeros.to_local().shape == ((3,) if dim == -1 else (5,))
        assert zeros.shape == (param.shape[0] if dim == -1 else param.shape[1],)


def test_layout_of_a_stack_of_matrices(fake_ranks):
    """FSDP2 cuts the first dimension, of which neither average lacks any; the last two are whole."""
    device_mesh = init_device_mesh("cpu", (8,))
    param = DTensor.from_local(torch.ones(2, 3, 5), device_mesh, [Shard(0)], run_check=False)
    shapes = [(16, 3), (16, 5)]
    for dim, shape in zip((-1, -2), shapes, strict=True):
        zeros = shards.zeros_without(param, dim, torch.float32)
        assert (tuple(zeros.shape), list(zeros.placements)) == (shape, [Shard(0)])


def test_one_all_reduce_of_columns_for_all_matrices_of_a_group(fake_ranks, monkeypatch):
    """Under FSDP2 the sums over the rows of all matrices are one message; empty shards add to it."""
    mesh, sizes = init_device_mesh("cpu", (8,)), []
    monkeypatch.setattr(dist, "all_reduce", lambda message, group=None: sizes.append(message.numel()))
    params = []
    for rows, columns in ((3, 5), (0, 4)):
        local = torch.ones(rows, columns)
        shape = (8 * rows or 1, columns)
        laid_out = {"run_check": False, "shape": torch.Size(shape), "stride": (columns, 1)}
        params.append(torch.nn.Parameter(DTensor.from_local(local, mesh, [Shard(0)], **laid_out)))
        params[-1].grad = DTensor.from_local(local.clone(), mesh, [Shard(0)], **laid_out)
    params.append(torch.nn.Parameter(torch.ones(7)))
    params[-1].grad = torch.ones(7)
    MomoAdafactor(params).step(loss=1.0)
    assert sizes == [5 + 4, 2 + 3]


def test_replicas_of_a_plain_tensor(fake_ranks):
    """A plain tensor does not tell whether it is a piece of a partition: the integration does."""
    params = [torch.ones(2), torch.ones(3)]
    assert sharding.num_replicas(params, None, sharded=False) == [8, 8]
    assert sharding.num_replicas(params, None, sharded=True) == [1, 1]
    assert sharding.num_replicas(params, dist.new_group([0, 3]), sharded=False) == [2, 2]
    assert sharding.num_replicas(params, "self", sharded=False) == [1, 1]


def test_terms_of_a_sum_are_refused(fake_ranks):
    param = DTensor.from_local(torch.ones(4), init_device_mesh("cpu", (8,)), [Partial()], run_check=False)
    with pytest.raises(ValueError, match=r"params: .*shape \(4,\) is a DTensor with placement P.*Redistribute"):
        sharding.num_replicas([param], None, sharded=False)


def test_a_mesh_larger_than_the_group_is_refused(fake_ranks):
    param = DTensor.from_local(torch.ones(4), init_device_mesh("cpu", (8,)), [S], run_check=False)
    with pytest.raises(ValueError, match=r"process_group: has 1 rank.*mesh of 8; leave process_group=None"):
        sharding.num_replicas([param], "self", sharded=False)


def test_a_rank_outside_of_the_group_is_refused(fake_ranks):
    with pytest.raises(ValueError, match=r"process_group: .*a group that rank 0 is not in"):
        Momo([torch.nn.Parameter(torch.ones(1))], process_group=dist.new_group([1, 2]))


@pytest.mark.parametrize("value", ["world", 0, object()])
def test_what_is_no_process_group_is_refused(value):
    with pytest.raises(TypeError, match=r"process_group: got .*None \(all ranks\), a torch.distributed.ProcessGroup"):
        Momo([torch.nn.Parameter(torch.ones(1))], process_group=value)


def test_sharded_must_be_a_bool():
    with pytest.raises(TypeError, match="sharded: got 1, must be True or False"):
        Momo([torch.nn.Parameter(torch.ones(1))], sharded=1)


def test_parts_with_different_replicas_make_one_sum(fake_ranks, monkeypatch):
    """One group of a plain and a sharded parameter, as expert parallelism makes them; alone, and in two groups."""
    messages = []
    monkeypatch.setattr(dist, "all_reduce", lambda message, group=None: messages.append(message.clone()))
    piece = DTensor.from_local(torch.full((2,), 3.0), init_device_mesh("cpu", (8,)), [S], run_check=False)
    params = [torch.nn.Parameter(torch.tensor([4.0])), torch.nn.Parameter(piece)]
    params[0].grad = torch.tensor([2.0])
    params[1].grad = DTensor.from_local(torch.full((2,), 1.0), piece.device_mesh, [S], run_check=False)
    Momo(params, lr=1e-9).step(loss=8.0)
    Momo([{"params": params[:1]}, {"params": params[1:]}], lr=1e-9).step(loss=8.0)
    expected = [1.0, 0.0, 2 * 4 / 8 + 6, 2 * 4 / 8 + 6, 4 / 8 + 2]
    assert messages[0].tolist() == pytest.approx(expected)
    assert (messages[1][2:5] + messages[1][5:]).tolist() == pytest.approx(expected[2:])


def test_copies_keep_what_they_know_of_the_job():
    """Torch's own Optimizer pickles nothing but defaults, state and groups."""
    optimizer = Momo([torch.nn.Parameter(torch.ones(1))], process_group="self", sharded=True)
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert (copied.process_group, copied.sharded) == ("self", True)


def test_a_process_group_cannot_be_copied(fake_ranks):
    optimizer = Momo([torch.nn.Parameter(torch.ones(1))], process_group=dist.new_group([0, 1]))
    with pytest.raises(TypeError, match=r"process_group: .*save optimizer.state_dict\(\) instead"):
        copy.deepcopy(optimizer)
    assert optimizer.state_dict()["param_groups"][0].keys().isdisjoint({"process_group", "sharded"})


def test_averages_that_did_not_come_along_are_noticed():
    """FSDP1 restores the groups and an empty state from a sharded checkpoint, and training went on from nothing."""
    param = torch.nn.Parameter(torch.ones(2))
    optimizer = Momo([param])
    param.grad = torch.ones(2)
    optimizer.step(loss=1.0)
    saved = optimizer.state_dict()
    Momo([param]).load_state_dict(saved)
    with pytest.raises(RuntimeError, match=r"state_dict: holds 1 steps but no running averages.*use FSDP2"):
        Momo([param]).load_state_dict({**saved, "state": {}})
