"""A script in the style of transformers' examples that pretends to train, in milliseconds, alike for equal arguments.

The accuracy of momo_adam has a plateau over the learning rate, that of every other optimizer a peak at 1e-3, which
diverges from 0.1 on (there only for some seeds) and crashes at 10.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--optim", required=True)
    parser.add_argument("--learning_rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--resume_from_checkpoint", type=Path)
    parser.add_argument("--max_steps", type=int, default=4)
    parser.add_argument("--weight_decay", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=0.0, help="how long it takes")
    parser.add_argument("--started", type=Path, help="a file that gets a line with the process for every start")
    arguments = parser.parse_args()
    if arguments.started is not None:
        with arguments.started.open("a") as file:
            file.write(f"{os.getpid()} {arguments.output_dir}\n")
    # The examples refuse a folder with something in it that is no checkpoint.
    if arguments.resume_from_checkpoint is None and any(arguments.output_dir.iterdir()):
        raise ValueError(f"Output directory ({arguments.output_dir}) already exists and is not empty.")
    sys.stdout.write(f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}\n")
    train(arguments)


def train(arguments):
    rate, seed = arguments.learning_rate, arguments.seed
    history = []
    for step in range(1, arguments.max_steps + 1):
        time.sleep(arguments.seconds / arguments.max_steps)
        loss = 2.0 / step ** (0.5 if arguments.optim == "momo_adam" else 0.4) + 0.02 * seed
        diverges = arguments.optim != "momo_adam" and rate >= 0.1 and (rate > 0.1 or seed == 2)
        history.append({"step": step, "loss": math.nan if diverges and step > 2 else loss, "learning_rate": rate})
        write(arguments.output_dir / "partial.json", {"step": step})
    if arguments.optim != "momo_adam" and rate >= 10:
        sys.stderr.write("Loss is not finite, stopping.\n")
        sys.exit(3)
    distance = math.log10(rate / 1e-3)
    lost = (0.001 if 0 <= distance <= 3 else 0.1) if arguments.optim == "momo_adam" else 0.08
    accuracy = max(0.1, 0.9 - lost * distance**2) + 0.002 * seed - arguments.weight_decay
    write(arguments.output_dir / "trainer_state.json", {"log_history": history})
    results = {"eval_accuracy": accuracy, "eval_loss": history[-1]["loss"], "train_runtime": time.process_time()}
    write(arguments.output_dir / "all_results.json", results)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


if __name__ == "__main__":
    main()
