"""Trainings that ``accelerate launch`` runs on two processes. Every rank writes its results.

    ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 tests/trainer/two_ranks.py OUTPUT_FOLDER

``test_two_ranks.py`` launches it and compares the results.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.utils.data import DataLoader
from trainer.tiny import (
    ALWAYS_CAPPED,
    Classifier,
    DistillingTrainer,
    Examples,
    LinearLoss,
    LinearLossOverWindow,
    Probe,
    ProbedSeq2SeqTrainer,
    ProbedTrainer,
    WindowClassifier,
    arguments,
    class_examples,
    marian,
    scalars_of,
    score_examples,
    score_loss_func,
    seq2seq_arguments,
    text_examples,
    training_logs,
)
from uninitialized import fill_with_nan

from common.processes import leave_processes
from hf_momo import MomoAdam
from hf_momo.optimizers.registry import unwrap_optimizer
from hf_momo.tap.accelerator import tap_accelerator

EULER: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "plain": (LinearLoss, {}),
    "momo_adam": (LinearLoss, {"optim": "momo_adam"}),
    "accumulation": (LinearLoss, {"gradient_accumulation_steps": 3}),
    "num-items": (LinearLossOverWindow, {"gradient_accumulation_steps": 3}),
    "num-items-no-averaging": (
        LinearLossOverWindow,
        {"gradient_accumulation_steps": 3, "average_tokens_across_devices": False},
    ),
    "compute-loss-func": (LinearLoss, {"gradient_accumulation_steps": 3, "compute_loss_func": score_loss_func}),
    "compute-loss-func-no-averaging": (
        LinearLossOverWindow,
        {
            "gradient_accumulation_steps": 3,
            "compute_loss_func": score_loss_func,
            "average_tokens_across_devices": False,
        },
    ),
    "clipping": (LinearLoss, {"gradient_accumulation_steps": 2, "max_grad_norm": 0.2}),
    "uneven-window": (LinearLoss, {"gradient_accumulation_steps": 2, "examples": 40}),
    "uneven-batch": (LinearLoss, {"examples": 19}),
}

# Each is compared with one process on the whole batch.
TRAJECTORIES: dict[str, dict[str, Any]] = {
    "momo": {"optim": "momo", "learning_rate": 2.0},
    "momo_adam": {"optim": "momo_adam", "learning_rate": 0.1},
    "estimated-bound": {"optim": "momo_adam", "learning_rate": 0.1, "optim_args": "adapt_lower_bound=true"},
    "weight-decay": {"optim": "momo", "learning_rate": 2.0, "weight_decay": 0.1},
    "clipped": {"optim": "momo_adam", "learning_rate": 0.1, "max_grad_norm": 0.3},
}
TRAJECTORY_STEPS = 6
# With a bound that comes with the batch; by the class of the model, whose loss is divided by the Trainer or by itself.
DISTILLED: dict[str, type[Classifier]] = {"means": Classifier, "items": WindowClassifier}
BAD_EXAMPLE = 13  # in the second batch of the second rank, so the second step is bad on one rank alone


def euler(name: str, folder: str) -> ProbedTrainer:
    model_class, options = EULER[name]
    options = dict(options)
    compute_loss_func, count = options.pop("compute_loss_func", None), options.pop("examples", 48)
    return ProbedTrainer(
        model=model_class(),
        args=arguments(folder, ddp_backend="gloo", **(ALWAYS_CAPPED | options)),
        train_dataset=score_examples(count),
        compute_loss_func=compute_loss_func,
    )


def trajectory(name: str, folder: str) -> ProbedTrainer:
    return ProbedTrainer(
        model=Classifier(),
        args=arguments(folder, ddp_backend="gloo", max_steps=TRAJECTORY_STEPS, **TRAJECTORIES[name]),
        train_dataset=class_examples(),
    )


def distillation(name: str, folder: str) -> DistillingTrainer:
    return DistillingTrainer(
        model=DISTILLED[name](),
        teacher=DISTILLED[name](),
        args=arguments(
            folder,
            ddp_backend="gloo",
            optim="momo_adam",
            learning_rate=0.1,
            max_steps=TRAJECTORY_STEPS,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
        ),
        train_dataset=class_examples(),
    )


def translation(folder: str) -> ProbedSeq2SeqTrainer:
    return ProbedSeq2SeqTrainer(
        model=marian(),
        args=seq2seq_arguments(folder, ddp_backend="gloo", gradient_accumulation_steps=3, max_steps=1),
        train_dataset=text_examples(),
    )


def bad_batch_on_one_rank(folder: str) -> ProbedTrainer:
    examples = [dict(example) for example in class_examples().examples]
    examples[BAD_EXAMPLE]["features"] = torch.full_like(examples[BAD_EXAMPLE]["features"], torch.nan)
    return ProbedTrainer(
        model=Classifier(),
        args=arguments(folder, ddp_backend="gloo", learning_rate=0.1, max_steps=4),
        train_dataset=Examples(examples),
    )


def train(trainer: Any) -> dict[str, Any]:
    trainer.train()
    return {
        "steps": trainer.probe.steps,
        "logs": training_logs(trainer),
        **final(trainer.model, unwrap_optimizer(trainer.optimizer)),
    }


def final(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """Return what must be equal on all ranks to the bit."""
    return {
        "scalars": [{name: value.hex() for name, value in group.items()} for group in scalars_of(optimizer)],
        "weights": [param.flatten().tolist() for param in model.parameters()],
    }


def accelerate_loop() -> dict[str, Any]:
    """Train in a loop of accelerate with accumulation, an uneven last window, clipping and unequal losses per rank."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = LinearLoss()
    optimizer, probe = MomoAdam(model.parameters(), lr=1e-3, lower_bound=-1e6), Probe()
    tap_accelerator(accelerator).attach(optimizer)
    probe.attach(optimizer)
    prepared, wrapped, loader = accelerator.prepare(model, optimizer, DataLoader(score_examples(40), batch_size=4))
    for batch in loader:
        with accelerator.accumulate(prepared):
            accelerator.backward(prepared(**batch)["loss"])
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(prepared.parameters(), 0.3)
            wrapped.step()
            wrapped.zero_grad()
    return {"steps": probe.steps, **final(model, optimizer)}


def main(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    fill_with_nan()
    gc.freeze()  # every train() collects garbage, which takes long over the imported modules
    runs: dict[str, Callable[[], dict[str, Any]]] = {}
    work = str(folder / "work")
    for name in EULER:
        runs[f"euler/{name}"] = lambda name=name: train(euler(name, work))
    for name in TRAJECTORIES:
        runs[f"trajectory/{name}"] = lambda name=name: train(trajectory(name, work))
    for name in DISTILLED:
        runs[f"distilled/{name}"] = lambda name=name: train(distillation(name, work))
    runs["translation"] = lambda: train(translation(work))
    runs["bad-batch"] = lambda: train(bad_batch_on_one_rank(work))
    results = {name: run() for name, run in runs.items()}
    AcceleratorState._reset_state()
    results["accelerate-loop"] = accelerate_loop()
    (folder / f"rank{rank}.json").write_text(json.dumps(results))
    leave_processes()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
