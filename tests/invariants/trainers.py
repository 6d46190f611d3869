"""Trains a row with ``MomoTrainer``: a tiny causal language model with uneven numbers of labels."""

from __future__ import annotations

import tempfile
from typing import Any

from accelerate.state import GradientState
from invariants.batches import LAYOUTS, accumulation_steps, windows
from invariants.configurations import Row
from invariants.loops import final_weights, options_of
from invariants.models import build, examples
from invariants.recording import Recorder
from torch.utils.data import SequentialSampler
from trainer.tiny import arguments

from hf_momo import MomoTrainer
from hf_momo.optimizers.registry import unwrap_optimizer


class RecordedTrainer(MomoTrainer):
    """A Trainer that takes the examples in their order and records the steps."""

    recorder: Recorder
    attached = False

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        optimizer = super().create_optimizer(*args, **kwargs)
        if not self.attached:
            self.recorder.attach(unwrap_optimizer(optimizer))
            self.attached = True
        return optimizer

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def training_arguments(row: Row, folder: str, *, euler: bool) -> Any:
    """Return the training arguments of a row."""
    setting, ranks = row.setting, row.backend.ranks
    options = options_of(setting, euler=euler)
    given: dict[str, Any] = {
        "optim": setting.optim,
        "learning_rate": options.pop("lr"),
        "weight_decay": options.pop("weight_decay", 0.0),
        "adam_epsilon": options.pop("eps", 1e-8),
        "optim_args": ",".join(f"{key}={value}" for key, value in options.items()),
        "per_device_train_batch_size": LAYOUTS[setting.layout](ranks)[0],
        "gradient_accumulation_steps": accumulation_steps(setting.layout, ranks),
        "average_tokens_across_devices": setting.normalize == "items",
        "max_grad_norm": setting.max_norm,
        "bf16": setting.precision == "autocast",
        "max_steps": len(windows(setting.layout, setting.examples, ranks)),
        "accelerator_config": {"even_batches": False},
    }
    if row.backend.name == "ddp":
        given["ddp_backend"] = "gloo"
    if row.backend.kind != "replicated" or row.backend.device == "cuda":
        given["use_cpu"] = False  # run_on_cpu selects the CPU
    return arguments(folder, **given)


def train_with_the_trainer(row: Row, *, euler: bool) -> dict[str, Any]:
    """Train a row; every rank calls this."""
    GradientState._reset_state()
    with tempfile.TemporaryDirectory() as folder:
        trainer = RecordedTrainer(
            model=build("trainer", row.setting, euler=euler, dtype=row.dtype),
            args=training_arguments(row, folder, euler=euler),
            train_dataset=examples("trainer", row.setting, euler=euler, dtype=row.dtype),
        )
        trainer.recorder = Recorder(row.backend.kind)
        trainer.train()
    return {
        "steps": trainer.recorder.steps,
        "skipped": [],
        "weights": final_weights(trainer.model_wrapped, row),
    }
