"""Four ranks of ``test_sharding.py``: train MomoAdafactor on matrices that a mesh of 2 x 2 ranks cuts up."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.multiprocessing import start_processes

from hf_momo import MomoAdafactor

RANKS, STEPS = 4, 6
# Most of them cannot be cut evenly, and some ranks get nothing.
SHAPES = ((5, 7), (3, 4), (2, 3, 5), (1, 6), (6, 1), (4,), (9, 2))
LAYOUTS: dict[str, Callable[[int], list[Any]]] = {
    "replicas of rows": lambda ndim: [Replicate(), Shard(0)],
    "rows and columns": lambda ndim: [Shard(max(0, ndim - 2)), Shard(ndim - 1)],
    "columns and rows": lambda ndim: [Shard(ndim - 1), Shard(0)],
    "rows twice": lambda ndim: [Shard(0), Shard(0)],
    "columns twice": lambda ndim: [Shard(ndim - 1), Shard(ndim - 1)],
}


def train(lay_out: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Return the whole parameters and state, and the step sizes, after some steps with random gradients."""
    generator = torch.Generator().manual_seed(0)

    def tensors() -> list[Tensor]:
        return [lay_out(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in SHAPES]

    params = [nn.Parameter(tensor) for tensor in tensors()]
    groups = [{"params": params[:3]}, {"params": params[3:], "lr": 0.05}]
    optimizer = MomoAdafactor(groups, lr=0.1, weight_decay=0.1, adapt_lower_bound=True)
    result = {}
    for step in range(STEPS):
        for param, grad in zip(params, tensors(), strict=True):
            param.grad = grad
        optimizer.step(loss=3.0 - 0.1 * step)
        result[f"step {step}"] = torch.tensor(optimizer.last_step.step_size, dtype=torch.float64)
    for i, param in enumerate(params):
        for name, tensor in {"param": param.detach(), **optimizer.state[param]}.items():
            result[f"{i}.{name}"] = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return result


def main(rank: int, folder: str) -> None:
    """Train under every layout as one of the ranks."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("first", "second"))
    results = {
        name: train(lambda tensor, of=of: distribute_tensor(tensor, mesh, of(tensor.ndim)))
        for name, of in LAYOUTS.items()
    }
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    # DTensors import it in every process otherwise, which takes seconds.
    importlib.import_module("torch._inductor")
    start_processes(main, (sys.argv[1],), nprocs=RANKS, start_method="fork")
