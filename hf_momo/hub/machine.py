"""The machine of a run: versions and hardware, which a record names beside its scores."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "sacrebleu", "scikit-learn", "hf_momo")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a score may depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: torch.device, processes: int, distributed: Any) -> dict[str, Any]:
    """Return the processor or GPU, its instructions and threads, and the number of processes.

    Args:
        device: Device of the model.
        processes: Number of processes that trained together.
        distributed: accelerate's kind of distributed training, or ``None``.
    """
    found: dict[str, Any] = {"processes": processes}
    if distributed is not None:
        found["distributed"] = str(distributed.value)
    if device.type == "cuda":
        return {**found, "device": torch.cuda.get_device_name(device)}
    if device.type != "cpu":
        return {**found, "device": device.type}
    return {
        **found,
        "device": _cpu_model(),
        # Sums depend on the width of the instructions, and so do the last digits of a score.
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
