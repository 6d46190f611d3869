"""The time of a MomoAdam step on many GPUs, computed from rates and not measured.

    python recipes/benchmarks/scale.py --bandwidth 3.35e12 --efficiency 0.75 --latency 2e-5

Every GPU holds its share of the parameters, gradients and averages (FSDP, float32). A step reads all of them once to
measure, reduces one message, and reads them again to write parameters and averages, like torch's fused AdamW. The
message is the loss and three sums a parameter group, whatever the model. So MoMo adds to AdamW the first reading,
which shrinks with the share, and one all-reduce, whose latency grows with the logarithm of the number of GPUs. The
defaults are the bandwidth in NVIDIA's data sheet of the H100 SXM and assumptions for the efficiency and the latency;
pass the rates of your machine. The memory of a GPU is not taken into account.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

BYTES = 4
MEASURE_TENSORS = 4  # reads parameter, gradient and both averages
UPDATE_TENSORS = 7  # reads these and writes all but the gradient
GROUPS = 2  # with and without weight decay, as in the Trainer

PARAMETERS = (1e9, 7e9, 70e9)
GPUS = (8, 64, 256, 1024)


@dataclass(frozen=True)
class Cost:
    """The cost of one step on one GPU.

    Attributes:
        measure_bytes: Bytes that the kernel reads to measure.
        message_bytes: Bytes of the all-reduce.
        measure_seconds: Time to read them at the given bandwidth.
        message_seconds: Latency of the all-reduce; so small a message has no other cost.
        update_seconds: Time of torch's fused AdamW at the same bandwidth.
    """

    measure_bytes: float
    message_bytes: int
    measure_seconds: float
    message_seconds: float
    update_seconds: float

    @property
    def to_adamw(self) -> float:
        """The time of the step relative to fused AdamW."""
        return 1.0 + (self.measure_seconds + self.message_seconds) / self.update_seconds


def step_cost(parameters: float, gpus: int, bytes_per_second: float, hop_seconds: float) -> Cost:
    """Return the cost of a step on one of several GPUs.

    Args:
        parameters: The number of parameters of the whole model.
        gpus: The number of GPUs that share it, at least 1.
        bytes_per_second: The memory bandwidth that a kernel reaches.
        hop_seconds: The latency of one hop of an all-reduce, which goes up and down a binary tree.
    """
    share = parameters / gpus
    measure_bytes = MEASURE_TENSORS * BYTES * share
    return Cost(
        measure_bytes=measure_bytes,
        message_bytes=BYTES * (2 + 3 * GROUPS),
        measure_seconds=measure_bytes / bytes_per_second,
        message_seconds=2 * math.ceil(math.log2(gpus)) * hop_seconds if gpus > 1 else 0.0,
        update_seconds=UPDATE_TENSORS * BYTES * share / bytes_per_second,
    )


def main(arguments: list[str] | None = None) -> None:
    """Print the table as markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bandwidth", type=float, default=3.35e12, help="bytes a second of the memory (H100 SXM)")
    parser.add_argument(
        "--efficiency", type=float, default=0.75, help="share of the bandwidth that is reached, in (0, 1]"
    )
    parser.add_argument("--latency", type=float, default=1e-5, help="seconds of one hop of an all-reduce")
    options = parser.parse_args(arguments)
    if not (options.bandwidth > 0 and 0 < options.efficiency <= 1 and options.latency >= 0):
        parser.error("--bandwidth must be positive, --efficiency in (0, 1], --latency not negative")

    rates = f"{options.efficiency:.0%} of {options.bandwidth / 1e12:g} TB/s and {options.latency:g} s a hop"
    print(f"Computed for {rates}.\n")
    print("| parameters | GPUs | measure, bytes a GPU | measure | all-reduce of bytes | all-reduce | to fused AdamW |")
    print("|---|---|---|---|---|---|---|")
    for parameters in PARAMETERS:
        for gpus in GPUS:
            cost = step_cost(parameters, gpus, options.bandwidth * options.efficiency, options.latency)
            print(
                f"| {parameters / 1e9:g}B | {gpus:,} | {cost.measure_bytes / 1e9:.2f} GB"
                f" | {cost.measure_seconds * 1e3:.2f} ms | {cost.message_bytes}"
                f" | {cost.message_seconds * 1e3:.2f} ms | {cost.to_adamw:.2f} |"
            )


if __name__ == "__main__":
    main()
