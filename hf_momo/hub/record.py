"""The record of a run: its command, settings, scores and log, so that every published number has a source.

A record is published, as ``record.json`` and as the model card made from it. It therefore holds no token, no user name
and no path of the machine.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_momo.hub.machine import hardware, versions
from hf_momo.hub.requests import redact
from hf_momo.optimizers.registry import unwrap_optimizer

if TYPE_CHECKING:
    from transformers import Trainer

# Settings that decide a result, recorded even at their defaults.
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

# Settings that describe the machine or its user, or do not change a result.
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
# Flags whose value is a secret.
_SECRET_FLAG = re.compile(r"--?[\w-]*(token|secret|password|api_key)", re.IGNORECASE)
# Flags about tokens of text.
_TEXT_TOKEN_FLAG = re.compile(r"(bos|eos|pad|unk|sep|mask|cls|begin|end)_token", re.IGNORECASE)
# A flag with its value, or options such as ``lower_bound=from=RUN,kernel=eager``; the values between ``=`` and ``,``.
_ASSIGNMENT, _ASSIGNED = re.compile(r"[\w.*-]+="), re.compile(r"(?<=[=,])[^=,]+")
# ``NAME:PASSWORD@`` of a URL.
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def training_record(trainer: Trainer, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything about a finished training that does not depend on its task.

    Args:
        trainer: The Trainer, after ``train``.
        settings: Dataclasses of the script's own settings, by name. A ``dataset_name`` among them is recorded as a
            data set of the Hub if it can be one.
    """
    history = trainer.state.log_history
    summary = next((entry for entry in reversed(history) if "train_runtime" in entry), {})
    recorded = {name: portable(dataclasses.asdict(each)) for name, each in settings.items()}
    names = [getattr(each, "dataset_name", None) for each in settings.values()]
    args = trainer.args
    distributed = args.distributed_state.distributed_type if args.world_size > 1 else None
    # Arguments that a resumed checkpoint has overridden, which only the Trainer of this package knows.
    restored = getattr(trainer, "restored_arguments", {})
    pilot = getattr(trainer, "pilot_bound", None)
    return {
        **run_record(trainer.model, trainer.optimizer, args.device, args.world_size, distributed),
        **({"lower_bound_source": str(dataclasses.replace(pilot, path=portable(pilot.path)))} if pilot else {}),
        "base_model": hub_name(getattr(getattr(trainer.model, "config", None), "_name_or_path", None)),
        "datasets": [name for name in map(hub_name, names) if name],
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
    """Return command, optimizer, model, versions and hardware of a run of any training loop.

    Args:
        model: The model; one of transformers names its own type.
        optimizer: The optimizer, with or without accelerate's wrapper; ``None`` if nothing was trained.
        device: Device of this process.
        processes: Number of processes.
        distributed: ``DistributedType`` of several processes.
    """
    # Under ZeRO-3 a parameter is empty between its uses, and its size is in ds_numel.
    sizes = [(int(getattr(each, "ds_numel", each.numel())), each.requires_grad) for each in model.parameters()]
    everything, trained = sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if is_trained)
    return {
        "command": command_line(processes),
        "optimizer": _optimizer_settings(optimizer),
        # Records without this key hold the step size divided by the bias correction.
        "step_size_is_bias_corrected": True,
        "model": {
            "type": getattr(getattr(model, "config", None), "model_type", None) or type(model).__name__,
            "parameters": everything,
            **({"trained_parameters": trained} if trained != everything else {}),
        },
        "versions": versions(),
        "hardware": hardware(device, processes, distributed),
    }


def command_line(processes: int = 1) -> str:
    """Return the command that started this process, with portable paths and without secrets.

    Args:
        processes: Number of processes that were launched together. The launch file is not known.

    Returns:
        The command; empty if there is none, as in a notebook.
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
    """Return whether ``hf-momo run`` or ``python -m hf_momo run`` started the script, which ``sys.argv`` hides."""
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
            kept.append(_CREDENTIALS.sub("", redact(word, None)))
        secret = secret and not equals
    return kept


def hub_name(name: Any) -> str | None:
    """Return the name of a model or data set if it can be one of the Hub and is no path on this machine."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if not isinstance(name, str) or not name or os.path.exists(os.path.expanduser(name)):
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def portable(value: Any) -> Any:
    """Return a value, or values in a container, with machine and user removed from its paths.

    Paths in the working directory become relative to it; of other paths the last two parts remain.
    """
    if isinstance(value, Mapping):
        return {key: portable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [portable(each) for each in value]
    if not isinstance(value, str):
        return value
    if _ASSIGNMENT.match(value):
        return _ASSIGNED.sub(lambda match: portable(match[0]), value)
    if not (os.path.isabs(value) or value.startswith((f"..{os.sep}", "~"))):
        return value
    path = Path(os.path.abspath(Path(value).expanduser()))
    if path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd()).as_posix()
    users = {Path.home().name, os.environ.get("USER"), os.environ.get("LOGNAME")}
    parts = path.parts[1:]
    # The home of another user.
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
    """Return an enum member as ``to_dict`` does."""
    return getattr(value, "value", value)


def _optimizer_settings(optimizer: Any) -> dict[str, Any]:
    """Return all settings of the optimizer, defaults included."""
    optimizer = unwrap_optimizer(optimizer)
    if optimizer is None:
        return {}
    group: Mapping[str, Any] = getattr(optimizer, "entries", optimizer.param_groups)[0]
    names = getattr(optimizer, "setting_names", optimizer.defaults)
    in_use = {name: group.get(name, optimizer.defaults.get(name)) for name in names}
    # Schedules change lr, and MoMo its bound, a tensor like all that the optimizer itself changes. Their first values
    # stand beside them. Where a resumed checkpoint has replaced the arguments, these are the ones in use.
    moved = {name for name, value in in_use.items() if name == "lr" or torch.is_tensor(value)}
    argument_of = {key: name for name, key in getattr(optimizer, "option_keys", {}).items()}
    settings = {
        argument_of.get(key, key): group.get(f"initial_{key}", optimizer.defaults.get(key)) if key in moved else value
        for key, value in in_use.items()
    }
    settings["weight_decay"] = [group.get("weight_decay") for group in optimizer.param_groups]
    base = {"base": type(optimizer.base).__name__} if hasattr(optimizer, "base") else {}
    return {"name": type(optimizer).__name__, **base, **json.loads(json.dumps(settings, default=_as_number))}


def _as_number(value: Any) -> Any:
    return value.item() if torch.is_tensor(value) and value.numel() == 1 else str(value)
