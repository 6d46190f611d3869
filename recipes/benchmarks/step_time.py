"""Time of one optimizer step, side by side in one process.

    python recipes/benchmarks/step_time.py --output step_time.json

Parameters are those of a 6+6-layer, d 512 encoder-decoder (the IWSLT14 model: 36.7 million in 253 tensors). The
optimizers take turns, so that a slow spell of the machine hits all of them; medians over the rounds are printed, and
their ratio to torch's fused AdamW (for the Adam family) or fused SGD in the same process. momo-opt, the authors'
package, is timed where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm
from transformers import MarianConfig, MarianMTModel

from hf_momo import Momo, MomoAdam

Step = Callable[[], Any]


def iwslt14_parameters(device: str) -> list[nn.Parameter]:
    """Parameters of the IWSLT14 model with random gradients."""
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
    torch.manual_seed(0)
    model: nn.Module = MarianMTModel(config)
    model = model.to(device)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 1e-3
    return parameters


def candidates(parameters: list[nn.Parameter]) -> dict[str, Step]:
    """One step of every optimizer, by name. All work on the same parameters, at a cap that hardly moves them."""
    device = parameters[0].device
    loss = torch.tensor(5.0, device=device)
    lr = 1e-9
    ours: dict[str, Any] = {"hf_momo MomoAdam": MomoAdam(parameters, lr=lr), "hf_momo Momo": Momo(parameters, lr=lr)}
    torch_own: dict[str, torch.optim.Optimizer] = {
        "torch AdamW fused": torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, fused=True),
        "torch AdamW foreach": torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, foreach=True),
        "torch AdamW loop": torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, foreach=False),
        "torch SGD fused": torch.optim.SGD(parameters, lr=lr, momentum=0.9, dampening=0.9, fused=True),
    }
    if importlib.util.find_spec("momo") is not None:
        import momo

        ours["momo-opt MomoAdam"] = momo.MomoAdam(parameters, lr=lr)
        ours["momo-opt Momo"] = momo.Momo(parameters, lr=lr)
    steps: dict[str, Step] = {name: optimizer.step for name, optimizer in torch_own.items()}
    for name, optimizer in ours.items():
        steps[name] = lambda optimizer=optimizer: optimizer.step(loss=loss)  # type: ignore[misc]
    return steps


def measure(steps: dict[str, Step], rounds: int, warm_up: int, synchronize: Step) -> dict[str, list[float]]:
    """Seconds of each step, ``rounds`` of them, the optimizers taking turns."""
    for _ in range(warm_up):
        for step in steps.values():
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in tqdm(range(rounds), desc="rounds"):
        for name, step in steps.items():
            synchronize()
            start = time.perf_counter()
            step()
            synchronize()
            times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    """Run the benchmark, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each optimizer")
    parser.add_argument("--warm_up", type=int, default=3, help="steps of each optimizer before that")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="write the record here, as JSON")
    options = parser.parse_args()

    parameters = iwslt14_parameters(options.device)
    count = sum(parameter.numel() for parameter in parameters)
    synchronize: Step = torch.cuda.synchronize if options.device.startswith("cuda") else lambda: None
    times = measure(candidates(parameters), options.rounds, options.warm_up, synchronize)
    medians = {name: statistics.median(values) for name, values in times.items()}

    print(f"{count / 1e6:.1f}M parameters in {len(parameters)} tensors, {options.device}, torch {torch.__version__}")
    print(f"{'':22} {'median':>10} {'to fused AdamW':>16} {'to fused SGD':>14}")
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        to_adamw, to_sgd = median / medians["torch AdamW fused"], median / medians["torch SGD fused"]
        print(f"{name:22} {median * 1e3:7.1f} ms {to_adamw:16.2f} {to_sgd:14.2f}")
    if options.output is not None:
        record = {
            "parameters": count,
            "tensors": len(parameters),
            "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else platform.machine(),
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "rounds": options.rounds,
            "median_seconds": medians,
            "seconds": times,
        }
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
