"""Measure the time of one step of several optimizers in one process.

    python recipes/benchmarks/step_time.py --parameters iwslt14 --output recipes/benchmarks/results/NAME.json

There are three sets of parameters: ``iwslt14``, a 6+6-layer, d 512 encoder-decoder (36.7 million in 253 tensors);
``gpt2``, GPT-2 small (124 million in 148); ``tiny``, 5,000 tensors of 64. The optimizers take turns, so that a slow
phase of the machine affects all of them. The table has the medians over the rounds, their ratio to torch's fused AdamW
in the same process, and the bytes that a step must move divided by its time, also for a plain copy and for a dot
product, which only reads. The column ``at least`` is the lower limit of a step of hf_momo on this machine, apart from
what the cache saves: the time to read what it measures plus that of the kernel that writes. The profiler counts the
kernels launched on a GPU, elsewhere torch's operations, and how often the host waits for a number. The base of
MomoLion is a Lion by torch's operations on lists. momo-opt, the authors' package, is timed if it is installed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel, MarianConfig, MarianMTModel

from hf_momo import Momo, MomoAdam, MomoLion
from hf_momo.optimizers import MomoOptimizer

Step = Callable[[], Any]

COPY, READ, BASELINE, SGD, LION = "copy", "dot product", "torch AdamW fused", "torch SGD fused", "Lion foreach"
MEMORY = (COPY, READ)


class Method(NamedTuple):
    """An optimizer of hf_momo.

    Attributes:
        cls: The class.
        read: The number of float32 tensors that measuring reads.
        moved: The number that committing reads or writes.
        base: The base method in this benchmark. Its time is the least that committing takes, except where hf_momo's
            own kernel commits: then that is the time to move these tensors.
        own_commit: Whether hf_momo's compiled kernel commits.
    """

    cls: type[MomoOptimizer]
    read: int
    moved: int
    base: str
    own_commit: bool = False


METHODS = {
    "hf_momo MomoAdam": Method(MomoAdam, 4, 7, BASELINE),
    "hf_momo Momo": Method(Momo, 3, 5, SGD),
    "hf_momo MomoLion": Method(MomoLion, 3, 5, LION, own_commit=True),
}
# The number of float32 tensors that a step reads or writes. MoMo reads its tensors twice: it must know the step size
# before it writes.
TENSORS_MOVED = {COPY: 2, READ: 2, "torch AdamW": 7, "torch SGD": 5, LION: 5}
TENSORS_MOVED |= {name: method.read + method.moved for name, method in METHODS.items()}


def iwslt14_model() -> nn.Module:
    """Return the encoder-decoder of the IWSLT14 recipe."""
    config = MarianConfig(
        vocab_size=10_152,
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        pad_token_id=1,
        decoder_start_token_id=1,
    )
    model: nn.Module = MarianMTModel(config)
    return model


def gpt2_model() -> nn.Module:
    """Return GPT-2 small with random weights."""
    model: nn.Module = GPT2LMHeadModel(GPT2Config())
    return model


def tiny_model() -> nn.Module:
    """Return very many very small tensors, whose cost is that of calls."""
    return nn.ParameterList(torch.randn(64) for _ in range(5_000))


MODELS: dict[str, Callable[[], nn.Module]] = {"iwslt14": iwslt14_model, "gpt2": gpt2_model, "tiny": tiny_model}


def make_parameters(name: str, device: str) -> list[nn.Parameter]:
    """Return the parameters of a model of ``MODELS`` with random gradients."""
    torch.manual_seed(0)
    model = MODELS[name]().to(device)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 1e-3
    return parameters


def candidates(parameters: list[nn.Parameter]) -> dict[str, Step]:
    """Return a step of every optimizer by name. All share the parameters, which the tiny cap hardly moves."""
    device = parameters[0].device
    loss = torch.tensor(5.0, device=device)
    lr = 1e-9
    adamw: Any = torch.optim.AdamW
    torch_own: dict[str, torch.optim.Optimizer] = {
        BASELINE: adamw(parameters, lr=lr, weight_decay=0.0, fused=True),
        "torch AdamW foreach": adamw(parameters, lr=lr, weight_decay=0.0, foreach=True),
        "torch AdamW loop": adamw(parameters, lr=lr, weight_decay=0.0, foreach=False),
        SGD: torch.optim.SGD(parameters, lr=lr, momentum=0.9, dampening=0.9, fused=True),
    }
    kernels = ["eager", "compiled"] if device.type == "cpu" else ["eager"]
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        kernels.append("triton")
    momos: dict[str, Any] = {
        f"{name} {kernel}": method.cls(parameters, lr=lr, kernel=kernel)  # type: ignore[call-arg]
        for kernel in kernels
        for name, method in METHODS.items()
    }
    if importlib.util.find_spec("momo") is not None:
        import momo

        momos["momo-opt MomoAdam"] = momo.MomoAdam(parameters, lr=lr)
        momos["momo-opt Momo"] = momo.Momo(parameters, lr=lr)
    source = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    target = torch.empty_like(source)
    steps: dict[str, Step] = {COPY: lambda: target.copy_(source), READ: lambda: torch.dot(source, target)}
    steps.update((name, optimizer.step) for name, optimizer in torch_own.items())
    steps[LION] = foreach_lion(parameters, lr)
    for name, optimizer in momos.items():
        steps[name] = lambda optimizer=optimizer: optimizer.step(loss=loss)  # type: ignore[misc]
    return steps


@torch.no_grad()
def foreach_lion(parameters: list[nn.Parameter], lr: float) -> Step:
    """Return a step of Lion by torch's operations on lists, as public implementations take it; torch has no Lion."""
    averages = [torch.zeros_like(parameter) for parameter in parameters]

    @torch.no_grad()
    def step() -> None:
        params: list[Any] = parameters
        grads: list[Any] = [parameter.grad for parameter in parameters]
        updates = torch._foreach_mul(averages, 0.9)
        torch._foreach_add_(updates, grads, alpha=1 - 0.9)
        torch._foreach_sign_(updates)
        torch._foreach_add_(params, updates, alpha=-lr)
        torch._foreach_mul_(averages, 0.99)
        torch._foreach_add_(averages, grads, alpha=1 - 0.99)

    return step


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


def bandwidth(name: str, num_elements: int, seconds: float) -> float | None:
    """Return the bytes a second that a step must move in float32, or ``None`` where their number is not known."""
    moved = next((count for start, count in TENSORS_MOVED.items() if name.startswith(start)), None)
    return None if moved is None else 4.0 * moved * num_elements / seconds


def floor(name: str, medians: dict[str, float]) -> float | None:
    """Return the least seconds that a step of hf_momo takes on this machine, or ``None`` for other optimizers.

    They are the time to read what is measured, at the rate of the dot product, plus the time of the kernel that writes
    the step, for hf_momo's own at the rate of the copy: measuring must end before anything is written. Data that stays
    in the cache is not considered.
    """
    for start, method in METHODS.items():
        if name.startswith(f"{start} "):
            copied = medians[COPY] * method.moved / TENSORS_MOVED[COPY]
            written = copied if method.own_commit and name.endswith("compiled") else medians[method.base]
            return medians[READ] * method.read / TENSORS_MOVED[READ] + written
    return None


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


def print_table(medians: dict[str, float], counts: dict[str, Counts], num_elements: int) -> None:
    """Print a line for each optimizer, the fastest first."""
    print(f"{'':28} {'median':>10} {'at least':>10} {'to fused AdamW':>16} {'GB/s':>8} {'launches':>9} {'waits':>6}")
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        moved, least = bandwidth(name, num_elements, median), floor(name, medians)
        rate = "" if moved is None else f"{moved / 1e9:.1f}"
        bound = "" if least is None else f"{least * 1e3:.1f} ms"
        print(
            f"{name:28} {median * 1e3:7.1f} ms {bound:>10} {median / medians[BASELINE]:16.2f} {rate:>8}"
            f" {counts[name].launches:9} {counts[name].waits:6}"
        )


def main() -> None:
    """Run the benchmark, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", choices=MODELS, default="iwslt14", help="set of parameters")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each optimizer")
    parser.add_argument("--warm_up", type=int, default=3, help="steps of each optimizer before these")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="JSON file to write the record to")
    options = parser.parse_args()

    warnings.filterwarnings("ignore", module="momo")  # it warns at every step
    before = machine(options.device)
    parameters = make_parameters(options.parameters, options.device)
    elements = sum(parameter.numel() for parameter in parameters)
    synchronize: Step = torch.cuda.synchronize if options.device.startswith("cuda") else lambda: None
    steps = candidates(parameters)
    times = measure(steps, options.rounds, options.warm_up, synchronize)
    counts = {name: count(step, options.device) for name, step in steps.items()}
    medians = {name: statistics.median(values) for name, values in times.items()}

    print(
        f"{elements / 1e6:.1f}M parameters in {len(parameters)} tensors, {options.device}, torch {torch.__version__}"
    )
    print_table(medians, counts, elements)
    if options.output is not None:
        record = {
            "parameters": options.parameters,
            "elements": elements,
            "tensors": len(parameters),
            **before,
            "rounds": options.rounds,
            "median_seconds": medians,
            "to_fused_adamw": {name: median / medians[BASELINE] for name, median in medians.items()},
            "floor_seconds": {name: floor(name, medians) for name in medians},
            "bytes_per_second": {name: bandwidth(name, elements, median) for name, median in medians.items()},
            "counts": {name: asdict(each) for name, each in counts.items()},
            "seconds": times,
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
