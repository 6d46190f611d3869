"""Measure the time of one step of several optimizers in one process.

    python recipes/benchmarks/step_time.py --parameters iwslt14 --output recipes/benchmarks/results/NAME.json

There are three sets of parameters: ``iwslt14``, a 6+6-layer, d 512 encoder-decoder (36.7 million in 253 tensors);
``gpt2``, GPT-2 small (124 million in 148); ``tiny``, 5,000 tensors of 64, without a matrix for Muon. The optimizers
take turns, so that a slow phase of the machine affects all of them. The table has the medians over the rounds, their
ratio to torch's fused AdamW and to the base of the method in the same process, and the bytes that a step must move
divided by its time, also for a plain copy and for a dot product, which only reads. The column ``at least`` is the
lower limit of a step of hf_momo on this machine, apart from what the cache saves: the time to read what it measures
plus that of the kernel that writes. The profiler counts the kernels launched on a GPU, elsewhere torch's operations,
and how often the host waits for a number.

The bases are torch's fused AdamW (of MomoAdam and MomoWrapper) and SGD, its Muon with fused AdamW on the same groups,
a Lion by torch's operations on lists, and the Adafactor of transformers with an average and without relative steps.
On a CPU a step of Muon on ``gpt2`` takes many seconds: ``--only`` selects methods. momo-opt, the authors' package, is
timed if it is installed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from step_candidates import (
    BASELINE,
    COPY,
    MEMORY,
    METHODS,
    MODELS,
    READ,
    TENSORS_MOVED,
    Step,
    candidates,
    make_model,
    trained,
)
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm


def measure(steps: dict[str, Step], rounds: int, warm_up: int, synchronize: Step) -> dict[str, list[float]]:
    """Return the seconds of ``rounds`` steps of each optimizer, which take turns."""
    for _ in range(warm_up):
        for step in steps.values():
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    gc.disable()
    for _ in tqdm(range(rounds), desc="rounds"):
        for name, step in steps.items():
            synchronize()
            start = time.perf_counter()
            step()
            synchronize()
            times[name].append(time.perf_counter() - start)
    gc.enable()
    return times


def bandwidth(name: str, num_bytes: int, seconds: float) -> float | None:
    """Return the bytes a second that a step must move, or ``None`` where their number is not known.

    Args:
        name: The optimizer.
        num_bytes: Bytes of the parameters. Averages are as large, except for Adafactor's second moment.
        seconds: Time of the step.
    """
    moved = next((count for start, count in TENSORS_MOVED.items() if f"{name} ".startswith(f"{start} ")), None)
    return None if moved is None else moved * num_bytes / seconds


def floor(name: str, medians: dict[str, float]) -> float | None:
    """Return the least seconds that a step of hf_momo takes on this machine, or ``None`` for other optimizers.

    They are the time to read what is measured, at the rate of the dot product, plus the time of the kernel that writes
    the step, for hf_momo's own at the rate of the copy: measuring must end before anything is written. Data that stays
    in the cache is not considered.
    """
    start, _, kernel = name.rpartition(" ")
    method = METHODS.get(start)
    if method is None:
        return None
    if method.moved is not None and kernel in method.own_commit:
        return reading(method.read, medians) + medians[COPY] * method.moved / TENSORS_MOVED[COPY]
    return reading(method.read, medians) + medians[method.base] if method.base in medians else None


def reading(num_tensors: int, medians: dict[str, float]) -> float:
    """Return the seconds to read so many tensors as large as the parameters."""
    return medians[READ] * num_tensors / TENSORS_MOVED[READ]


def to_base(name: str, medians: dict[str, float]) -> float | None:
    """Return the time of a step relative to that of its base, or ``None`` for others or without the base."""
    method = METHODS.get(name.rpartition(" ")[0])
    return medians[name] / medians[method.base] if method is not None and method.base in medians else None


@dataclass(frozen=True)
class Counts:
    """The work of one step for the device.

    Attributes:
        launches: The number of kernels on a GPU; elsewhere of torch operations called from Python.
        waits: How often the host reads a number or waits for the device.
    """

    launches: int
    waits: int


def count(step: Step, device: str) -> Counts:
    """Return the counts of one profiled step."""
    on_gpu = device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        step()
        if on_gpu:
            torch.cuda.synchronize()
    events = profiled.events() or []
    if on_gpu:
        launches = sum(
            event.name.startswith(("cudaLaunchKernel", "cuLaunchKernel", "hipLaunchKernel")) for event in events
        )
        waits = sum(event.name.endswith(("StreamSynchronize", "DeviceSynchronize")) for event in events)
        return Counts(launches, waits - 1)  # one wait is this function's
    operations = [event for event in events if event.name.startswith("aten::")]
    # torch's fused kernels read their learning rate and counters on a CPU, but not on a GPU.
    outside = [event for event in operations if not _within(event, "aten::_fused_")]
    return Counts(
        sum(event.cpu_parent is None or not event.cpu_parent.name.startswith("aten::") for event in operations),
        sum(event.name in ("aten::_local_scalar_dense", "aten::is_nonzero") for event in outside),
    )


def _within(event: Any, name: str) -> bool:
    while event is not None:
        if event.name.startswith(name):
            return True
        event = event.cpu_parent
    return False


def machine(device: str) -> dict[str, Any]:
    """Return the machine and its load of the last minute, which exceeds the number of threads if others ran too."""
    names = {line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")}
    return {
        "device": torch.cuda.get_device_name()
        if device.startswith("cuda")
        else ", ".join(names) or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def print_table(medians: dict[str, float], counts: dict[str, Counts], num_bytes: int) -> None:
    """Print a line for each optimizer, the fastest first."""
    print(
        f"{'':30} {'median':>10} {'at least':>10} {'to fused AdamW':>16} {'to base':>8} {'GB/s':>8} {'launches':>9}"
        f" {'waits':>6}"
    )
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        moved, least, ratio = bandwidth(name, num_bytes, median), floor(name, medians), to_base(name, medians)
        rate = "" if moved is None else f"{moved / 1e9:.1f}"
        counted = f"{counts[name].launches:9} {counts[name].waits:6}" if name in counts else ""
        bound = "" if least is None else f"{least * 1e3:.1f} ms"
        print(
            f"{name:30} {median * 1e3:7.1f} ms {bound:>10} {median / medians[BASELINE]:16.2f}"
            f" {'' if ratio is None else f'{ratio:.2f}':>8} {rate:>8} {counted}"
        )


def main() -> None:
    """Run the benchmark, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", choices=MODELS, default="iwslt14", help="set of parameters")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each optimizer")
    parser.add_argument("--warm_up", type=int, default=3, help="steps of each optimizer before these")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--only", default="", help="part of the names of the optimizers to time, such as Muon")
    parser.add_argument("--skip_counts", action="store_true", help="do not profile, which takes minutes on `tiny`")
    parser.add_argument("--output", type=Path, help="JSON file to write the record to")
    options = parser.parse_args()

    warnings.filterwarnings("ignore", module="momo")  # it warns at every step
    before = machine(options.device)
    model = make_model(options.parameters, options.device, getattr(torch, options.dtype))
    parameters = trained(model)
    elements = sum(parameter.numel() for parameter in parameters)
    num_bytes = elements * parameters[0].element_size()
    synchronize: Step = torch.cuda.synchronize if options.device.startswith("cuda") else lambda: None
    wanted = (*MEMORY, BASELINE)
    steps = {name: step for name, step in candidates(model).items() if name in wanted or options.only in name}
    times = measure(steps, options.rounds, options.warm_up, synchronize)
    counts = {} if options.skip_counts else {name: count(step, options.device) for name, step in steps.items()}
    medians = {name: statistics.median(values) for name, values in times.items()}

    print(
        f"{elements / 1e6:.1f}M {options.dtype} parameters in {len(parameters)} tensors, {options.device},"
        f" torch {torch.__version__}"
    )
    print_table(medians, counts, num_bytes)
    if options.output is not None:
        record = {
            "parameters": options.parameters,
            "dtype": options.dtype,
            "elements": elements,
            "tensors": len(parameters),
            **before,
            "rounds": options.rounds,
            "median_seconds": medians,
            "to_fused_adamw": {name: median / medians[BASELINE] for name, median in medians.items()},
            "to_base": {name: to_base(name, medians) for name in medians},
            "floor_seconds": {name: floor(name, medians) for name in medians},
            "measuring_seconds": {
                name: reading(METHODS[start].read, medians)
                for name in medians
                if (start := name.rpartition(" ")[0]) in METHODS
            },
            "bytes_per_second": {name: bandwidth(name, num_bytes, median) for name, median in medians.items()},
            "counts": {name: asdict(each) for name, each in counts.items()},
            "seconds": times,
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
