"""Trains a row in an accelerate loop, written like accelerate's own examples."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration, DeepSpeedPlugin
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType, GradScalerKwargs, InitProcessGroupKwargs
from invariants.batches import accumulation_steps, windows
from invariants.configurations import Row, Setting
from invariants.models import build, examples, item_losses
from invariants.recording import Recorder, whole
from torch import nn
from torch.utils.data import DataLoader
from trainer.tiny import Examples

from hf_momo import create_optimizer
from hf_momo.optimizers.registry import unwrap_optimizer

# A loss that is linear in the weights has no lower bound, so the steps are small and always capped.
EULER = {"lr": 1e-3, "lower_bound": -1e6}


def make_accelerator(row: Row) -> Accelerator:
    """Return a new accelerator, independent of earlier ones."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    setting = row.setting
    steps = accumulation_steps(setting.layout, row.backend.ranks)
    options: dict[str, Any] = {"kwargs_handlers": []}
    if row.backend.device == "cpu" and row.one_group:
        options["kwargs_handlers"].append(InitProcessGroupKwargs(backend="gloo"))
    if setting.precision == "float16":
        options["kwargs_handlers"].append(GradScalerKwargs(init_scale=setting.init_scale))
    if row.one_group:
        plugin = DeepSpeedPlugin(gradient_accumulation_steps=steps)
        plugin.deepspeed_config["gradient_clipping"] = setting.max_norm  # accelerate takes 0 for its default of 1
        # A batch sampler has no batch size from which accelerate could set this.
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = 1
        options["deepspeed_plugin"] = plugin
    accelerator = Accelerator(
        gradient_accumulation_steps=steps,
        mixed_precision={"autocast": "bf16", "float16": "fp16"}.get(setting.precision, "no"),
        # Keep batches of unequal sizes, and a short last one.
        dataloader_config=DataLoaderConfiguration(even_batches=False),
        **options,
    )
    if setting.init_scale is not None and accelerator.scaler is None:
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=setting.init_scale)
    return accelerator


def options_of(setting: Setting, *, euler: bool) -> dict[str, Any]:
    """Return the options of the optimizer, for the linear model those that cap every step."""
    kept = {name: value for name, value in setting.options.items() if not euler or name != "adapt_lower_bound"}
    return {**kept, **(EULER if euler else {})}


def make_optimizer(row: Row, model: nn.Module, accelerator: Accelerator, *, euler: bool) -> Any:
    """Return the optimizer of a row, by the one line that a user writes."""
    setting = row.setting
    options = options_of(setting, euler=euler)
    what: Any = model
    if setting.groups == "one" or row.one_group:
        what = list(model.parameters())
    elif setting.groups == "split":
        what = [{"params": params} for params in split(list(model.parameters()))]
    return create_optimizer(setting.optim, what, accelerator=accelerator, **options)


def split(params: list[Any]) -> list[list[Any]]:
    """Return the parameters in three groups, in another order."""
    return [params[-2:], params[1:-2], params[:1]]


def make_loader(setting: Setting, data: Examples, ranks: int) -> DataLoader:
    """Return all micro-batches in their order; accelerate deals them to the ranks."""
    batches = [batch for window in windows(setting.layout, setting.examples, ranks) for batch in window]
    return DataLoader(data, batch_sampler=batches)


def divisors(accelerator: Accelerator, loader: DataLoader, setting: Setting) -> list[float]:
    """Return the divisor of each micro-batch's sum; accelerate's own divisions then give the mean of the window."""
    counts = [float((batch["labels"] != -100).sum()) for batch in loader]
    if setting.normalize == "micro":
        return counts
    if setting.normalize == "examples":
        counts = [float(len(batch["labels"])) for batch in loader]
    steps, result = accelerator.gradient_accumulation_steps, []
    for at in range(0, len(counts), steps):
        window = counts[at : at + steps]
        of_all = accelerator.gather(torch.tensor([sum(window)], device=accelerator.device)).sum()
        result += [float(of_all) / (accelerator.num_processes * steps)] * len(window)
    return result


def train_in_a_loop(row: Row, *, euler: bool) -> dict[str, Any]:
    """Train a row; every rank calls this."""
    setting, accelerator = row.setting, make_accelerator(row)
    model: Any = build("loop", setting, euler=euler, dtype=row.dtype)
    data = examples("loop", setting, euler=euler, dtype=row.dtype)
    loader = make_loader(setting, data, row.backend.ranks)
    # FSDP2 and DeepSpeed need the optimizer when they prepare the model.
    if setting.after_prepare and row.backend.name not in ("fsdp2", "fsdp2 cuda") and not row.one_group:
        model, loader = accelerator.prepare(model, loader)
        optimizer = accelerator.prepare(make_optimizer(row, model, accelerator, euler=euler))
    else:
        optimizer = make_optimizer(row, model, accelerator, euler=euler)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    recorder, skipped = Recorder(row.backend.kind), []
    recorder.attach(unwrap_optimizer(optimizer))
    model.train()
    # DeepSpeed's bfloat16 is not autocast: the weights are bfloat16, and the inputs must be too.
    inputs = torch.bfloat16 if row.one_group and setting.precision == "autocast" else row.dtype
    window = 0
    for batch, divisor in zip(loader, divisors(accelerator, loader, setting), strict=True):
        with accelerator.accumulate(model):
            logits = model(batch["features"].to(inputs))["logits"]
            loss = item_losses(logits, batch["labels"], euler=euler).sum() / divisor
            accelerator.backward(loss)
            if setting.max_norm and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), setting.max_norm)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            if accelerator.optimizer_step_was_skipped:
                skipped.append(window)
            window += 1
    return {"steps": recorder.steps, "skipped": skipped, "weights": final_weights(model, row)}


def final_weights(model: Any, row: Row) -> dict[str, list[float]]:
    """Return the whole parameters, by name."""
    inner = getattr(model, "module", model) if row.backend.name != "fsdp1" else model
    with gathered(inner, row):
        return {
            # FSDP1 leaves the name of its wrapper.
            name.replace("_fsdp_wrapped_module.", ""): whole(param.detach()).double().flatten().tolist()
            for name, param in inner.named_parameters()
        }


def gathered(model: Any, row: Row) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which every rank has the whole parameters."""
    if row.backend.name == "fsdp1":
        from torch.distributed.fsdp import FullyShardedDataParallel

        return FullyShardedDataParallel.summon_full_params(model, writeback=False)
    if row.backend.name == "zero3":
        import deepspeed

        return deepspeed.zero.GatheredParameters(list(model.parameters()))
    return contextlib.nullcontext()


def run_on_cpu(row: Row) -> None:
    """Make accelerate run FSDP and DeepSpeed on the CPU, which it does on GPUs only."""
    if row.backend.device == "cpu" and row.backend.kind != "replicated":
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
        PartialState._prepare_backend = lambda *args: ("gloo", DistributedType.MULTI_GPU)
    if row.backend.device == "cpu" and row.one_group:
        # DeepSpeed would compile its all-reduce through shared memory, for minutes; gloo does without. By
        # import_module, because the attribute deepspeed.comm.torch is PyTorch.
        importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None
