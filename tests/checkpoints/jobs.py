"""Trainings that are killed and resumed: with a Trainer, and in a plain loop of accelerate."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import DataLoaderConfiguration, set_seed
from checkpoints.backends import use, whole
from checkpoints.kills import Kill, die, install
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from trainer.tiny import Classifier, arguments, class_examples, scalars_of, training_logs
from transformers import Trainer, TrainerCallback

from hf_momo import MomoTrainer, create_optimizer
from hf_momo.optimizers.registry import unwrap_optimizer

STEPS, SAVE_EVERY = 8, 2
EXAMPLES = 24
"""Six batches of one process, three of two: a run crosses epochs, and checkpoints stand in the middle of them."""

Job = Callable[[], dict[str, Any]]


class _Killer(TrainerCallback):
    def __init__(self, kill: Kill | None) -> None:
        self.kill = kill
        self.first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.first = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._is_due(state.global_step):
            die()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._is_due(-1):
            die()

    def _is_due(self, step: int) -> bool:
        kill = self.kill
        return kill is not None and (kill.step, kill.file, kill.rank) == (step, None, _rank())


def _rank() -> int:
    return int(os.environ.get("RANK", 0))


def with_trainer(
    folder: Path,
    *,
    kill: Kill | None = None,
    resume: bool | str | None = None,
    cls: type[Trainer] = MomoTrainer,
    backend: str | None = None,
    **options: Any,
) -> Job:
    """Train with a Trainer, dropout and random order; return the losses by step and the final state."""

    def job() -> dict[str, Any]:
        install(kill)
        torch.manual_seed(0)
        defaults = {"max_steps": STEPS, "save_strategy": "steps", "save_steps": SAVE_EVERY, "learning_rate": 0.1}
        trainer = cls(
            model=Classifier(dropout=0.3),
            args=arguments(folder, **(defaults | use(backend) | options)),
            train_dataset=class_examples(EXAMPLES),
            callbacks=[killer := _Killer(kill)],
        )
        trainer.train(resume_from_checkpoint=resume)
        logs = {entry["step"]: {k: v for k, v in entry.items() if k != "epoch"} for entry in training_logs(trainer)}
        return {"first": killer.first, "losses": logs, **_end(trainer.model, trainer.optimizer)}

    return job


def _end(model: Any, optimizer: Any) -> dict[str, Any]:
    inner = unwrap_optimizer(optimizer)
    is_momo, is_zero = "loss_avg" in inner.param_groups[0], "ACCELERATE_USE_DEEPSPEED" in os.environ
    state = list(inner.state.items()) if is_zero else [(param, inner.state[param]) for param in model.parameters()]
    return {
        # ZeRO has flat pieces instead of the parameters.
        "weights": [whole(param) for param, _ in state],
        "state": [whole(entry[name]) for _, entry in state for name in sorted(entry)],
        "scalars": scalars_of(optimizer) if is_momo else [],
    }


def with_accelerate(
    folder: Path, *, kill: Kill | None = None, resume: bool = False, backend: str | None = None
) -> Job:
    """Train in a loop with accumulation, clipping, a scheduler and dropout that saves its state at every second step.

    A state is saved under another name and renamed when it is complete, so that a state with its name is complete.
    """

    def job() -> dict[str, Any]:
        install(kill)
        use(backend)
        set_seed(0)
        # Accelerate's way to a reproducible order: a sampler seeded by run and epoch.
        seedable = DataLoaderConfiguration(use_seedable_sampler=True)
        accelerator = Accelerator(cpu=backend is None, gradient_accumulation_steps=2, dataloader_config=seedable)
        model = Classifier(dropout=0.3)
        optimizer = create_optimizer("momo_adam", model, accelerator=accelerator, lr=0.1, adapt_lower_bound=True)
        # Without its own generator, every iterator draws a seed from the generator that dropout uses, which is
        # one draw more in a run that is resumed in the middle of an epoch.
        own = torch.Generator().manual_seed(0)
        loader = DataLoader(class_examples(EXAMPLES), batch_size=2, shuffle=True, generator=own)
        scheduler = LambdaLR(optimizer, lambda step: 1.0 / (1.0 + 0.1 * step))
        model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
        steps_per_epoch = len(loader) // accelerator.gradient_accumulation_steps
        step = first = (
            max((int(path.name.split("-")[1]) for path in folder.glob("state-*")), default=0) if resume else 0
        )
        if resume:
            accelerator.load_state(str(folder / f"state-{first}"))
        losses = {}
        while step < STEPS:
            loader.set_epoch(step // steps_per_epoch)
            skipped = step % steps_per_epoch * accelerator.gradient_accumulation_steps
            for batch in skip_first_batches(loader, skipped) if skipped else loader:
                with accelerator.accumulate(model):
                    loss = model(**batch)["loss"]
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), 0.5)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
                if not accelerator.sync_gradients:
                    continue
                step += 1
                losses[step] = float(loss.detach())
                if step % SAVE_EVERY == 0:
                    _save_whole(accelerator, folder, step)
                if kill is not None and (kill.step, kill.file, kill.rank) == (step, None, _rank()):
                    die()
                if step == STEPS:
                    break
        return {"first": first, "losses": losses, **_end(accelerator.unwrap_model(model), optimizer)}

    return job


def _save_whole(accelerator: Accelerator, folder: Path, step: int) -> None:
    accelerator.save_state(str(folder / f"saving-{step}"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (folder / f"saving-{step}").rename(folder / f"state-{step}")
    accelerator.wait_for_everyone()


def failing(job: Job) -> Job:
    """Run the job and return its error."""

    def run() -> dict[str, Any]:
        try:
            job()
        except RuntimeError as error:
            return {"error": str(error)}
        return {"error": None}

    return run
