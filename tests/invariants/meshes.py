"""Trains a row with torch alone: replicas, several meshes, plain beside sharded parameters, tensor parallelism."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from invariants.batches import windows
from invariants.configurations import Row
from invariants.loops import options_of
from invariants.models import Scores, build, examples, item_losses
from invariants.recording import Recorder, whole
from invariants.reference import parameter_groups
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from hf_momo import get_optimizer_info

Inputs = Callable[[Tensor], Tensor]


def _mesh(*shape: int) -> Any:
    names = ("replicas", "shards") if len(shape) == 2 else ("shards",)
    return init_device_mesh("cpu", shape, mesh_dim_names=names)


def _two_meshes(model: Any) -> None:
    for layer in (model.hidden, model.narrow) if hasattr(model, "hidden") else ():
        fully_shard(layer, mesh=_mesh(2))
    fully_shard(model, mesh=_mesh(2, 1))


def _plain_and_sharded(model: Any) -> None:
    plain = {model.scale, *model.output.parameters()} if hasattr(model, "output") else {model.bias}
    fully_shard(model, mesh=_mesh(2), ignored_params=plain)


def _tensor_parallel(model: Any) -> None:
    mesh = _mesh(2)
    if not isinstance(model, Scores):
        # The last layer and the scale stay plain tensors, whole and with the same gradient on every rank.
        parallelize_module(model, mesh, {"hidden.linear": ColwiseParallel(), "narrow.linear": RowwiseParallel()})
        return
    for name, placement in {"weight": Shard(0), "bias": Shard(0), "offset": Replicate()}.items():
        param = getattr(model, name)
        setattr(model, name, nn.Parameter(distribute_tensor(param.detach(), mesh, [placement])))


LAYOUTS: dict[str, Callable[[Any], None]] = {
    "replicas 2x1": lambda model: fully_shard(model, mesh=_mesh(2, 1)) and None,
    "replicas 1x2": lambda model: fully_shard(model, mesh=_mesh(1, 2)) and None,
    "two meshes": _two_meshes,
    "plain and sharded": _plain_and_sharded,
    "tensor parallel": _tensor_parallel,
    "process group": lambda model: None,
    "self": lambda model: None,
}


def process_group(name: str) -> Any:
    """Return the ``process_group`` of a row's optimizer."""
    return {"self": "self", "process group": dist.new_group([0, 1]) if name == "process group" else None}.get(name)


def train_with_torch(row: Row, *, euler: bool) -> dict[str, Any]:
    """Train a row; every rank calls this."""
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    setting, ranks, rank = row.setting, row.backend.ranks, dist.get_rank()
    model: Any = build("loop", setting, euler=euler, dtype=row.dtype)
    data = examples("loop", setting, euler=euler, dtype=row.dtype)
    next(lay_out for name, lay_out in LAYOUTS.items() if setting.name.endswith(name))(model)
    groups = parameter_groups(model, setting, one_group=False)
    options = {**options_of(setting, euler=euler), "process_group": process_group(setting.name)}
    optimizer = get_optimizer_info(setting.optim).create(groups, **options)
    recorder = Recorder("dtensor")
    recorder.attach(optimizer)
    parallel = "tensor parallel" in setting.name  # both ranks have the same batch
    for window in windows(setting.layout, setting.examples, ranks):
        mine = [index for batch in (window if parallel else window[rank::ranks]) for index in batch]
        counted = mine if setting.alone else [index for batch in window for index in batch]
        items = sum(int((data[index]["labels"] != -100).sum()) for index in counted)
        features = torch.stack([data[index]["features"] for index in mine])
        labels = torch.stack([data[index]["labels"] for index in mine])
        share = 1 if parallel or setting.alone else ranks
        loss = item_losses(forward(model, features), labels, euler=euler).sum() * share / items
        loss.backward()
        if not (parallel or setting.alone):
            average_plain_gradients(model)
        optimizer.step(loss=loss.detach())
        optimizer.zero_grad()
    weights = {name: whole(param.detach()).double().flatten().tolist() for name, param in model.named_parameters()}
    return {"steps": recorder.steps, "skipped": [], "weights": weights}


def forward(model: nn.Module, features: Tensor) -> Tensor:
    """Return the logits of a model, which may have DTensor parameters but no wrapper that handles them."""
    weight = getattr(model, "weight", None)
    if isinstance(weight, DTensor) and not hasattr(model, "set_requires_gradient_sync"):
        features = DTensor.from_local(features, weight.device_mesh, [Replicate()])
        logits = model(features)["logits"]
        return logits.full_tensor()
    return model(features)["logits"]


def average_plain_gradients(model: nn.Module) -> None:
    """Average the gradients over ranks, as DistributedDataParallel does."""
    for param in model.parameters():
        if not isinstance(param, DTensor):
            dist.all_reduce(param.grad)
            param.grad /= dist.get_world_size()
