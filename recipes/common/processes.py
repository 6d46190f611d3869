"""Processes that train together: on the CPU if there is no GPU, and stopped together by an error."""

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from hf_momo.utils.errors import SharedUsageError, UsageError
from hf_momo.utils.threads import wait_for_idle_threads

_Result = TypeVar("_Result")
# Devices other than the CPU on which accelerate trains with several processes.
_DEVICES = ("cuda", "xpu", "npu", "mlu", "musa", "sdaa", "hpu", "neuron")
_SHARDING = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


def use_cpu_without_gpu() -> None:
    """Let the processes of ``accelerate launch`` train together on the CPU if the machine has no GPU.

    Otherwise accelerate lets each process train alone, and all write the same files. Call this before the settings are
    parsed, which starts the communication. Sharded training (FSDP, DeepSpeed) needs GPUs and is not changed.
    """
    if _started() > 1 and not sharding() and not any(_is_available(device) for device in _DEVICES):
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")


def check_processes(world_size: int) -> None:
    """Check that the processes of the launcher communicate.

    Args:
        world_size: The world size of the parsed training arguments.

    Raises:
        UsageError: If the launcher started more processes than that.
    """
    if _started() > world_size:
        reason = f"; {sharding()} needs GPUs" if sharding() else ""
        raise UsageError(
            f"{_started()} processes were started, but found no device on which to train together{reason}; launch "
            "with --config_file recipes/accelerate/ddp.yaml, which uses GPUs or else the CPU"
        )


def sharding() -> str | None:
    """Return ``"FSDP"`` or ``"DeepSpeed"`` if the launcher or the training arguments ask for it."""
    return next((name for flag, name in _SHARDING.items() if os.environ.get(flag, "false").lower() == "true"), None)


def agree(prepare: Callable[[], _Result]) -> _Result:
    """Run ``prepare`` on every process. If it fails on one, it fails on all, so that none waits for another.

    Args:
        prepare: The function to run, which must not communicate.

    Returns:
        The result of ``prepare`` on this process.

    Raises:
        UsageError: The error of the first process that had one.
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
    """Run ``make`` on the main process only, and return its result on all processes.

    Args:
        make: The function to run. Its result must be picklable, and it must not communicate.
    """
    made: list[Any] = [make() if PartialState().is_main_process else None]
    return cast(_Result, broadcast_object_list(made)[0])


def print_once(text: str) -> None:
    """Print on the main process only."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(text)


def leave_processes() -> None:
    """End the communication. Call this after everything that needs other processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        wait_for_idle_threads()


def _started() -> int:
    # Clusters set WORLD_SIZE for plain commands too; a launcher sets both.
    return int(os.environ.get("WORLD_SIZE", "1")) if int(os.environ.get("LOCAL_RANK", "-1")) >= 0 else 1


def _is_available(device: str) -> bool:
    module = getattr(torch, device, None)
    return module is not None and bool(module.is_available())
