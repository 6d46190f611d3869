"""The record of a run: what it was and what came of it, so that every published number has a source.

Nothing in it tells the machine, its user or a token: it is meant to be published, as record.json and as the model card
made from it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
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

# Of the machine or its user, or of no consequence for the result.
_NOT_SETTINGS = (
    "output_dir",
    "accelerator_config",
    "logging_dir",
    "run_name",
    "project",
    "trackio_space_id",
    "trackio_bucket_id",
    "trackio_static_space_id",
    "disable_tqdm",
    "dataloader_pin_memory",
    "activation_checkpointing",
)
_NOT_SETTINGS_PREFIXES = ("hub_", "push_to_hub", "_")
# Flags of a command whose value nobody else is to see, and what tokens of the Hub look like anywhere.
_SECRET_FLAG = re.compile(r"--?[\w-]*(token|secret|password|api_key)", re.IGNORECASE)
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{16,}")
# Of a URL: NAME:PASSWORD@.
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
# Flags about tokens of text.
_TEXT_TOKEN_FLAG = re.compile(r"(bos|eos|pad|unk|sep|mask|cls|begin|end)_token", re.IGNORECASE)


def training_record(trainer: Trainer, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about a finished training that does not depend on its task.

    Args:
        trainer: After `train`.
        settings: Name to dataclass of settings of the script, beside the Trainer's own. A `dataset_name` among them
            that may be one of the Hub is recorded as such.
    """
    history = trainer.state.log_history
    summary = next((entry for entry in reversed(history) if "train_runtime" in entry), {})
    recorded = {name: portable(dataclasses.asdict(each)) for name, each in settings.items()}
    args = trainer.args
    distributed = args.distributed_state.distributed_type if args.world_size > 1 else None
    # Arguments that a resumed checkpoint has overridden, which only the Trainer of this package knows.
    restored = getattr(trainer, "restored_arguments", {})
    return {
        **run_record(trainer.model, trainer.optimizer, args.device, args.world_size, distributed),
        "base_model": hub_name(getattr(getattr(trainer.model, "config", None), "_name_or_path", None)),
        "datasets": [name for name in (hub_name(each) for each in _dataset_names(settings)) if name],
        "settings": {**recorded, "training": {**_training_settings(args), **restored}},
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
        model: Any; one of transformers says its own type.
        optimizer: As it was made, or in accelerate's wrapper; None where nothing was trained.
        device: Of this process.
        processes: How many trained together.
        distributed: How they did, a `DistributedType`; None for one process.
    """
    return {
        "command": command_line(processes),
        "optimizer": _optimizer_settings(optimizer),
        "model": {
            "type": getattr(getattr(model, "config", None), "model_type", None) or type(model).__name__,
            # Under ZeRO-3 a parameter is empty between its uses and keeps its size elsewhere.
            "parameters": sum(int(getattr(each, "ds_numel", each.numel())) for each in model.parameters()),
        },
        "versions": _versions(),
        "hardware": _hardware(device, processes, distributed),
    }


def command_line(processes: int = 1) -> str:
    """The command that started this process, with paths as another machine would give them and without secrets.

    Args:
        processes: How many processes were started together. Which launch file they were started with is not known.

    Returns:
        The command; empty where there is none to repeat, as in a notebook.
    """
    script, *arguments = sys.argv
    if not Path(script).is_file() or "ipykernel" in script:
        return ""
    words = [portable(Path(script).as_posix()), *(portable(word) for word in _without_secrets(arguments))]
    launcher = ["python"] if processes == 1 else ["accelerate", "launch", "--num_processes", str(processes)]
    if _under_hf_momo_run():
        launcher = ["hf-momo", "run"] if processes == 1 else [*launcher, "-m", "hf_momo", "run"]
    return f"{' '.join(launcher)} {shlex.join(words)}"


def _under_hf_momo_run() -> bool:
    """Whether `hf-momo run` or `python -m hf_momo run` started the script, which has hidden itself from `sys.argv`."""
    words = sys.orig_argv
    is_ours = (Path(word).name == "hf-momo" or word == "hf_momo" for word in words)
    return any(ours and next_word == "run" for ours, next_word in zip(is_ours, words[1:], strict=False))


def _without_secrets(words: list[str]) -> list[str]:
    kept: list[str] = []
    secret = False
    for word in words:
        if secret and not word.startswith("--"):
            secret = False
            continue
        flag, equals, _ = word.partition("=")
        secret = bool(_SECRET_FLAG.fullmatch(flag)) and not _TEXT_TOKEN_FLAG.search(flag)
        if not secret:
            kept.append(_CREDENTIALS.sub("", _TOKEN.sub("...", word)))
        secret = secret and not equals
    return kept


def hub_name(name: Any) -> str | None:
    """The name of a model or data set if it can be one of the Hub, and is not that of something on this disk."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if not isinstance(name, str) or not name or os.path.exists(os.path.expanduser(name)):
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def _dataset_names(settings: Mapping[str, Any]) -> list[Any]:
    return [getattr(each, "dataset_name", None) for each in settings.values()]


def portable(value: Any) -> Any:
    """Take machine and user out of paths.

    Inside the working directory they become relative to it, elsewhere their last two parts stay.
    """
    if isinstance(value, Mapping):
        return {key: portable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [portable(each) for each in value]
    if not isinstance(value, str):
        return value
    if value.startswith("-") and "=" in value:
        flag, _, rest = value.partition("=")
        return f"{flag}={portable(rest)}"
    if not (os.path.isabs(value) or value.startswith((f"..{os.sep}", "~"))):
        return value
    path = Path(os.path.abspath(Path(value).expanduser()))
    if path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd()).as_posix()
    users = {Path.home().name, os.environ.get("USER"), os.environ.get("LOGNAME")}
    parts = path.parts[1:]
    # /home/NAME and /Users/NAME, whoever it is.
    parts = parts[2:] if parts[:1] in (("home",), ("Users",)) else parts
    parts = tuple(part for part in parts if part not in users)
    return Path(*parts[-2:]).as_posix()


def _training_settings(args: Any) -> dict[str, Any]:
    chosen = args.to_dict()
    defaults = {field.name: field.default for field in dataclasses.fields(args)}
    kept = {
        name: value
        for name, value in chosen.items()
        if name in _ALWAYS_RECORDED
        or (
            name not in _NOT_SETTINGS
            and not name.startswith(_NOT_SETTINGS_PREFIXES)
            and value not in (None, [], {})
            and value != _plain(defaults.get(name))
        )
    }
    return dict(portable(json.loads(json.dumps(kept, default=str))))


def _plain(value: Any) -> Any:
    """An enum member as it stands in `to_dict`."""
    return getattr(value, "value", value)


def _optimizer_settings(optimizer: Any) -> dict[str, Any]:
    """The settings of the optimizer itself, which may be more than its name and `optim_args` say."""
    while hasattr(optimizer, "optimizer"):  # accelerate's wrapper
        optimizer = optimizer.optimizer
    if optimizer is None:  # nothing was trained
        return {}
    group = optimizer.param_groups[0]
    in_use = {name: group.get(name, default) for name, default in optimizer.defaults.items()}
    # Schedules change lr, and MoMo its bound, a tensor like all that the optimizer itself changes. Their first values
    # stand beside them. Where a resumed checkpoint has replaced the arguments, these are the ones in use.
    moved = {name for name, value in in_use.items() if name == "lr" or torch.is_tensor(value)}
    settings = {
        name: group.get(f"initial_{name}", optimizer.defaults[name]) if name in moved else value
        for name, value in in_use.items()
    }
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
    return {
        **hardware,
        "device": _cpu_model(),
        # Wider ones add up in another order, and the last digits of a score are others.
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


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
