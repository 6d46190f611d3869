"""Measure the optimizer's share of a training step, and the share of what hf_momo adds to the Trainer.

    python recipes/benchmarks/train_time.py --output recipes/benchmarks/results/NAME.json

Three Trainers train the translation model of the IWSLT14 recipe on the same batch in one process. They take turns of a
few steps each, so that a slow phase of the machine affects all of them:

- the stock Trainer with ``adamw_torch_fused``,
- the stock Trainer with a MomoAdam that gets the same loss at every step: no tap, no callback, no mixin,
- MomoSeq2SeqTrainer with ``momo_adam``.

The table has the medians of their steps and of the optimizer's share. The third and the second differ only by what
hf_momo adds to the Trainer. The medians of long steps are too inexact to show it, so the time in that code is also
measured directly: the calls of the accelerator's tapped functions and of the log, minus those of the functions that
they wrap, and the pre-hook of the step.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from step_candidates import iwslt14_model
from step_time import machine
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

from hf_momo import MomoAdam, MomoSeq2SeqTrainer, MomoSeq2SeqTrainingArguments

ADAMW, GIVEN, TAPPED = "adamw_torch_fused, stock Trainer", "momo_adam, loss given", "momo_adam, MomoSeq2SeqTrainer"
LEARNING_RATE = 1e-4


class Clock:
    """The seconds spent in functions, step by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any], sign: float = 1.0) -> Callable[..., Any]:
        """Return the function, with its time added to ``name`` or, with ``sign=-1``, subtracted from it."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += sign * (time.perf_counter() - start)

        return call

    def take(self) -> dict[str, float]:
        """Return the seconds spent since the last call."""
        taken = dict(self.seconds)
        self.seconds.clear()
        return taken


class SameBatch(Dataset[dict[str, torch.Tensor]]):
    """Random sentences of one length, so that every step is the same work."""

    def __init__(self, size: int, length: int) -> None:
        self._tokens = torch.randint(4, 10_000, (size, length), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = self._tokens[index]
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}


class GivenLoss(MomoAdam):
    """MomoAdam for a Trainer that hands it no loss."""

    def step(self, closure: Any = None, **kwargs: Any) -> Any:
        """Step with a loss of 5."""
        return super().step(closure, loss=5.0)


class StepTimes(TrainerCallback):
    """Records the time of every step, from its start to the start of the next, including logging."""

    def __init__(self, clock: Clock, steps: list[dict[str, float]], skip: int) -> None:
        self._clock, self._steps, self._skip = clock, steps, skip
        self._started: float | None = None

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Record the previous step and start this one."""
        now, taken = time.perf_counter(), self._clock.take()
        if self._started is not None:
            if self._skip > 0:
                self._skip -= 1
            else:
                self._steps.append({"step": now - self._started, **taken})
        self._started = now


def make_trainer(name: str, steps: int, options: argparse.Namespace, clock: Clock, folder: str) -> Seq2SeqTrainer:
    """Return a Trainer whose optimizer and additions by hf_momo are timed by ``clock``."""
    torch.manual_seed(0)
    common: dict[str, Any] = {
        "output_dir": folder,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "max_steps": steps,
        "per_device_train_batch_size": options.batch_size,
        "logging_steps": 5,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": options.device == "cpu",
    }
    made: dict[str, Any] = {
        "model": iwslt14_model(),
        "train_dataset": SameBatch(options.batch_size * steps, options.length),
    }
    if name == TAPPED:
        arguments = MomoSeq2SeqTrainingArguments(optim="momo_adam", **common)
        trainer: Seq2SeqTrainer = MomoSeq2SeqTrainer(args=arguments, **made)
        _time_additions(trainer, clock)
    else:
        trainer = Seq2SeqTrainer(args=Seq2SeqTrainingArguments(optim="adamw_torch_fused", **common), **made)
    optimizer = trainer.create_optimizer()
    if name == GIVEN:
        groups = [
            {"params": group["params"], "weight_decay": group["weight_decay"]} for group in optimizer.param_groups
        ]
        trainer.optimizer = optimizer = GivenLoss(groups, lr=LEARNING_RATE)
    optimizer.step = clock.timed("optimizer", optimizer.step)  # type: ignore[method-assign]
    return trainer


def _time_additions(trainer: Any, clock: Clock) -> None:
    """Time what hf_momo adds to a Trainer, without the backward pass, the clipping and the log that it wraps."""
    from accelerate import Accelerator

    from hf_momo.tap import accelerator, loss_tap

    tapped = accelerator.tap_accelerator(trainer.accelerator)
    for name in ("backward", "clip_grad_norm_"):
        inner = clock.timed("additions", functools.partial(getattr(Accelerator, name), trainer.accelerator), sign=-1.0)
        setattr(trainer.accelerator, name, inner)
    trainer.accelerator.backward = accelerator._tapped_backward(trainer.accelerator, tapped)
    trainer.accelerator.clip_grad_norm_ = accelerator._tapped_clipping(trainer.accelerator, tapped)
    for name in ("backward", "clip_grad_norm_"):
        setattr(trainer.accelerator, name, clock.timed("additions", getattr(trainer.accelerator, name)))
    tap_cls: Any = loss_tap.LossTap
    tapped._before_step = clock.timed("additions", tap_cls._before_step.__get__(tapped))  # type: ignore[method-assign]
    stock_log = Seq2SeqTrainer.log
    trainer.log = clock.timed("additions", trainer.log)
    Seq2SeqTrainer.log = clock.timed("additions", stock_log, sign=-1.0)  # type: ignore[method-assign]


def run(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return the times of every counted step of each Trainer."""
    names = (ADAMW, GIVEN, TAPPED)
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    # A step is recorded when the next one starts, so one more is needed.
    length = options.steps + options.warm_up + 1
    with tempfile.TemporaryDirectory() as folder:
        for turn in tqdm(range(options.rounds), desc="rounds"):
            for name in [*names[turn % 3 :], *names[: turn % 3]]:
                stock_log, clock = Seq2SeqTrainer.log, Clock()
                trainer = make_trainer(name, length, options, clock, folder)
                trainer.add_callback(StepTimes(clock, steps[name], options.warm_up))
                try:
                    trainer.train()
                finally:
                    Seq2SeqTrainer.log = stock_log  # type: ignore[method-assign]
    return steps


def summarize(steps: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the median seconds of a step of each Trainer, and the shares of optimizer and additions."""
    medians = {}
    for name, each in steps.items():
        step = statistics.median(one["step"] for one in each)
        medians[name] = {
            "step_seconds": step,
            "optimizer_share": statistics.median(one["optimizer"] / one["step"] for one in each),
            # The mean, because only every fifth step logs.
            "additions_share": statistics.fmean(one.get("additions", 0.0) for one in each) / step,
        }
    return medians


def main() -> None:
    """Run the benchmark, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=8, help="sentence pairs of a batch")
    parser.add_argument("--length", type=int, default=32, help="tokens of a sentence on each side")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each turn")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each Trainer")
    parser.add_argument("--warm_up", type=int, default=2, help="steps before these")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="JSON file to write the record to")
    options = parser.parse_args()
    about = machine(options.device)
    steps = run(options)
    medians = summarize(steps)
    print(f"{options.batch_size} pairs of {options.length} tokens, {options.device}, torch {torch.__version__}")
    print(f"{'':34} {'step':>10} {'to AdamW':>9} {'optimizer':>10} {'tap, callback, mixin':>21}")
    for name, each in medians.items():
        print(
            f"{name:34} {each['step_seconds'] * 1e3:7.0f} ms"
            f" {each['step_seconds'] / medians[ADAMW]['step_seconds']:9.3f} {each['optimizer_share']:10.1%}"
            f" {each['additions_share']:21.3%}"
        )
    if options.output is not None:
        settings = {name: getattr(options, name) for name in ("batch_size", "length", "steps", "rounds", "warm_up")}
        record = {**about, **settings, "medians": medians, "steps": steps}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
