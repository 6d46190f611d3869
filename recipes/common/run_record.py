"""record.json: what a run was and what came of it, so that every published number has a source."""

import dataclasses
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "sacrebleu", "scikit-learn", "hf_momo")
# What decides a result, written down also where it was left at its default.
_ALWAYS_RECORDED = (
    "optim",
    "optim_args",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "label_smoothing_factor",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "bf16",
    "fp16",
    "seed",
)

# Of the machine, or of no consequence for the result.
_NOT_SETTINGS = (
    "output_dir",
    "hub_token",
    "push_to_hub_token",
    "accelerator_config",
    "logging_dir",
    "run_name",
    "disable_tqdm",
    "dataloader_pin_memory",
    "activation_checkpointing",
)


def training_record(trainer: Trainer, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about a finished training that does not depend on its task.

    Args:
        trainer: After `train`.
        settings: Name to dataclass of settings of the recipe, beside the Trainer's own.
    """
    history = trainer.state.log_history
    summary = next((entry for entry in reversed(history) if "train_runtime" in entry), {})
    recorded = {name: portable(dataclasses.asdict(each)) for name, each in settings.items()}
    args = trainer.args
    distributed = args.distributed_state.distributed_type if args.world_size > 1 else None
    return {
        **run_record(trainer.model, trainer.optimizer, args.device, args.world_size, distributed),
        "settings": {**recorded, "training": _training_settings(args)},
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "train_runtime": summary.get("train_runtime"),
        "seed": args.seed,
        "curve": [entry for entry in history if "loss" in entry],
        "evaluations": [entry for entry in history if "eval_loss" in entry],
    }


def run_record(
    model: Any, optimizer: Any, device: torch.device, processes: int = 1, distributed: Any = None
) -> dict[str, Any]:
    """What was trained with what on what, for any loop: command, optimizer, model, versions, hardware.

    Args:
        model: A model of transformers.
        optimizer: As it was made, or in accelerate's wrapper.
        device: Of this process.
        processes: How many trained together.
        distributed: How they did, a `DistributedType`; None for one process.
    """
    return {
        "command": command_line(processes),
        "optimizer": _optimizer_settings(optimizer),
        "model": {
            "type": model.config.model_type,
            # Under ZeRO-3 a parameter is empty between its uses and keeps its size elsewhere.
            "parameters": sum(int(getattr(each, "ds_numel", each.numel())) for each in model.parameters()),
        },
        "versions": _versions(),
        "hardware": _hardware(device, processes, distributed),
    }


def command_line(processes: int = 1) -> str:
    """The command that started this process, with paths as another machine would give them.

    Args:
        processes: How many processes were started together. Which launch file they were started with is not known.
    """
    script, *arguments = sys.argv
    words = [portable(Path(script).as_posix())]
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        words.append(f"{flag}={portable(value)}" if equals else portable(argument))
    launcher = "python" if processes == 1 else f"accelerate launch --num_processes {processes}"
    return f"{launcher} {shlex.join(words)}"


def portable(value: Any) -> Any:
    """Take the machine out of paths: inside the working directory relative to it, elsewhere the last two parts."""
    if isinstance(value, Mapping):
        return {key: portable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [portable(each) for each in value]
    if not isinstance(value, str) or not (os.path.isabs(value) or value.startswith((f"..{os.sep}", "~"))):
        return value
    path = Path(os.path.abspath(Path(value).expanduser()))
    if path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd()).as_posix()
    return Path(*path.parts[-2:]).as_posix()


def _training_settings(args: Any) -> dict[str, Any]:
    chosen = args.to_dict()
    defaults = {field.name: field.default for field in dataclasses.fields(args)}
    kept = {
        name: value
        for name, value in chosen.items()
        if name in _ALWAYS_RECORDED
        or (name not in _NOT_SETTINGS and value not in (None, [], {}) and value != _plain(defaults.get(name)))
    }
    return dict(portable(json.loads(json.dumps(kept, default=str))))


def _plain(value: Any) -> Any:
    """An enum member as it stands in `to_dict`."""
    return getattr(value, "value", value)


def _optimizer_settings(optimizer: Any) -> dict[str, Any]:
    """The settings of the optimizer itself, which may be more than its name and `optim_args` say."""
    while hasattr(optimizer, "optimizer"):  # accelerate's wrapper
        optimizer = optimizer.optimizer
    in_use = {name: optimizer.param_groups[0].get(name, default) for name, default in optimizer.defaults.items()}
    # The schedule has moved lr since, and MoMo its bound, which is a tensor as all that the optimizer itself changes.
    moved = {name for name, value in in_use.items() if name == "lr" or torch.is_tensor(value)}
    settings = {name: optimizer.defaults[name] if name in moved else value for name, value in in_use.items()}
    settings["weight_decay"] = [group.get("weight_decay") for group in optimizer.param_groups]
    return {"name": type(optimizer).__name__, **json.loads(json.dumps(settings, default=_as_number))}


def _as_number(value: Any) -> Any:
    return value.item() if torch.is_tensor(value) and value.numel() == 1 else str(value)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _hardware(device: torch.device, processes: int, distributed: Any) -> dict[str, Any]:
    hardware: dict[str, Any] = {"processes": processes}
    if distributed is not None:
        hardware["distributed"] = str(distributed.value)
    if device.type == "cuda":
        return {**hardware, "device": torch.cuda.get_device_name(device)}
    if device.type != "cpu":
        return {**hardware, "device": device.type}
    return {**hardware, "device": _cpu_model(), "cpu_count": os.cpu_count(), "threads": torch.get_num_threads()}


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if names:
            return names[0]
    if sys.platform == "darwin":
        output = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        if output.returncode == 0:
            return output.stdout.strip()
    return platform.processor() or platform.machine()
