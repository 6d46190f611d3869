"""Train a causal language model with ``MomoTrainer`` on the CPU, under any launcher.

    accelerate launch --config_file recipes/accelerate/fsdp2.yaml tests/recipes/causal_lm.py FOLDER

The first process writes FOLDER/run.json: the losses and step sizes, and what the parameters were while training.
Without a launcher it trains in one process, on the same sentences a step.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, TrainerCallback

from common.processes import leave_processes

VOCABULARY, STEPS, BATCH = 24, 6, 8


class ParameterTypes(TrainerCallback):
    """Return the names of the types of the parameters during training."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any, **kwargs: Any) -> None:
        self.names |= {type(param.data).__name__ for param in model.parameters()}


def model() -> GPT2LMHeadModel:
    torch.manual_seed(8)
    sizes = {"vocab_size": VOCABULARY, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**sizes, **no_dropout, bos_token_id=0, eos_token_id=1))


def sentences() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(9)
    tokens = torch.randint(0, VOCABULARY, (STEPS * BATCH, 10), generator=generator)
    return [{"input_ids": each, "labels": each} for each in tokens]


def main(folder: Path) -> None:
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        from recipes.observed import take_cpu_for_gpu

        take_cpu_for_gpu()
    from hf_momo import MomoTrainer, MomoTrainingArguments

    args = MomoTrainingArguments(
        str(folder),
        use_cpu=ranks == 1,
        # The gradient of an attention's key bias is rounding error, which Adam's epsilon of 1e-8 would amplify.
        adam_epsilon=1e-5,
        learning_rate=0.1,
        optim_args="lower_bound=2.0",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        max_steps=STEPS,
        per_device_train_batch_size=BATCH // ranks,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    types = ParameterTypes()
    trainer = MomoTrainer(model=model(), args=args, train_dataset=sentences(), callbacks=[types])  # type: ignore[arg-type]
    trainer.train()
    trainer.save_model()
    if trainer.is_world_process_zero():
        logs = [entry for entry in trainer.state.log_history if "loss" in entry]
        run = {name: [entry[name] for entry in logs] for name in ("loss", "step_size", "step_capped")}
        (folder / "run.json").write_text(json.dumps({**run, "parameters": sorted(types.names)}))
    leave_processes()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
