"""One rank of ``test_sharding.py``: trains a small network on its rows of every batch and saves what it ends with."""

import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from common.processes import leave_processes
from hf_momo import Momo, MomoAdam, MomoMuon

STEPS = 12
# Rows of a batch of 12 that each of two ranks gets.
ROWS = (slice(0, 3), slice(3, 12))
CASES = {
    "momo": (Momo, {"lr": 0.3, "weight_decay": 0.1, "adapt_lower_bound": True}),
    "momo-start-at-zero": (Momo, {"lr": 0.3, "bias_correction": True}),
    "adam": (MomoAdam, {"lr": 0.3, "weight_decay": 0.1, "adapt_lower_bound": True}),
    "adam-adamw": (MomoAdam, {"lr": 0.03, "weight_decay": 0.1, "weight_decay_form": "adamw"}),
    "muon": (MomoMuon, {"lr": 0.3, "weight_decay": 0.1}),
    "muon-nesterov": (MomoMuon, {"lr": 0.3, "nesterov": True, "betas": (0.8, 0.9)}),
}


def train(case: str, dtype: torch.dtype, rank: int | None) -> dict[str, Tensor]:
    """Train on one rank's rows under DistributedDataParallel, or on all of them in one process (``rank`` None).

    Ranks have unequal numbers of rows, each row the same weight in the mean over all: as in a loop that divides by the
    number of items of all ranks, a rank's loss is its sum times ranks over the number of rows.
    """
    cls, options = CASES[case]
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1)).to(dtype)
    params = list(model.parameters())
    optimizer = cls([{"params": params[:2]}, {"params": params[2:], "lr": 0.1}], **options)
    rows, ranks = (slice(0, 12), 1) if rank is None else (ROWS[rank], 2)
    if rank is not None:
        model = DistributedDataParallel(model)
    generator = torch.Generator().manual_seed(1)
    for k in range(STEPS):
        inputs = torch.randn(12, 3, generator=generator, dtype=torch.float64).to(dtype)
        targets = inputs[:, :1] * inputs[:, 1:2]
        optimizer.zero_grad()
        loss = (model(inputs[rows]) - targets[rows]).square().sum() * ranks / 12
        if k == 4 and rank in (None, 1):
            # A batch that only one rank sees go wrong: all of them must skip it.
            loss = loss * float("nan")
        loss.backward()
        optimizer.step(loss=loss)
    result = {f"param{i}": p.detach().clone() for i, p in enumerate(params)}
    for i, p in enumerate(params):
        result |= {f"param{i}.{name}": tensor for name, tensor in optimizer.state[p].items()}
    for i, group in enumerate(optimizer.param_groups):
        result |= {f"group{i}.{name}": v for name, v in group.items() if isinstance(v, Tensor)}
    return result


def operations_of_a_step() -> Tensor:
    """Return the number of floating-point operations in matrix products that this rank does in a step of MomoMuon."""
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(24, 16)) for _ in range(4)]
    for param in params:
        param.grad = torch.randn_like(param)
    optimizer = MomoMuon(params)
    with FlopCounterMode(display=False) as counter:
        optimizer.step(loss=1.0)
    return torch.tensor(counter.get_total_flops())


def main(store: str, rank: int, out: str) -> None:
    """Run all cases as one of two ranks."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    results = {
        f"{case}-{dtype}": train(case, dtype, rank) for case in CASES for dtype in (torch.float64, torch.float32)
    }
    results["operations"] = {"muon": operations_of_a_step()}
    torch.save(results, out)
    dist.barrier()
    leave_processes()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
