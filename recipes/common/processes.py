"""Processes that train together: started on the CPU where there is no GPU, and stopped together by an error."""

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from hf_momo.utils.errors import SharedUsageError, UsageError
from hf_momo.utils.threads import wait_for_idle_threads

_Result = TypeVar("_Result")
# Devices on which accelerate lets several processes train together, beside the CPU.
_DEVICES = ("cuda", "xpu", "npu", "mlu", "musa", "sdaa", "hpu", "neuron")
_SHARDING = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


def use_cpu_without_gpu() -> None:
    """Let processes that `accelerate launch` started on a machine without a GPU train together on the CPU.

    accelerate itself would let each of them train alone, all writing the same files. To be called before the settings
    are parsed, which starts the communication. Sharded training (FSDP, DeepSpeed) needs GPUs and is left as it is.
    """
    if _started() > 1 and not sharding() and not any(_is_available(device) for device in _DEVICES):
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")


def check_processes(world_size: int) -> None:
    """Refuse processes that were started together and do not know of each other.

    Args:
        world_size: Of the parsed training arguments.

    Raises:
        UsageError: The launcher started more than that.
    """
    if _started() > world_size:
        reason = f"; {sharding()} needs GPUs" if sharding() else ""
        raise UsageError(
            f"{_started()} processes were started, but found no device on which to train together{reason}; launch "
            "with --config_file recipes/accelerate/ddp.yaml, which takes GPUs or else the CPU"
        )


def sharding() -> str | None:
    """FSDP or DeepSpeed, where the launcher or the training arguments ask for one of them."""
    return next((name for flag, name in _SHARDING.items() if os.environ.get(flag, "false").lower() == "true"), None)


def agree(prepare: Callable[[], _Result]) -> _Result:
    """Run `prepare` on every process; where it fails on one, it fails on all, so that none waits for another.

    Args:
        prepare: Must not communicate.

    Returns:
        What `prepare` gave on this process.

    Raises:
        UsageError: That of the first process that had one.
    """
    result: _Result | None = None
    error: UsageError | None = None
    try:
        result = prepare()
    except UsageError as raised:
        error = raised
    messages: list[str | None] = gather_object([None if error is None else str(error)])
    first = next((message for message in messages if message is not None), None)
    if first is not None:
        raise SharedUsageError(first) from error
    return cast(_Result, result)


def on_main_process(make: Callable[[], _Result]) -> _Result:
    """Make something on the main process alone and give all processes the same.

    Args:
        make: Gives something that can be pickled. Must not communicate.
    """
    made: list[Any] = [make() if PartialState().is_main_process else None]
    return cast(_Result, broadcast_object_list(made)[0])


def print_once(text: str) -> None:
    """Print on the main process only."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(text)


def leave_processes() -> None:
    """End the communication, after everything that needs the other processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        wait_for_idle_threads()


def _started() -> int:
    # Clusters set WORLD_SIZE for plain commands too; a launcher sets both.
    return int(os.environ.get("WORLD_SIZE", "1")) if int(os.environ.get("LOCAL_RANK", "-1")) >= 0 else 1


def _is_available(device: str) -> bool:
    module = getattr(torch, device, None)
    return module is not None and bool(module.is_available())
