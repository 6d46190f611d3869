"""The bookkeeping of the loop: logging, evaluation, checkpoints and the end of training."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from tqdm import tqdm

from click_through import checkpoints
from click_through.arguments import DataArguments, LoopArguments, ModelArguments
from click_through.batches import LogSteps, Step
from click_through.checkpoints import LoopState
from click_through.evaluation import evaluate
from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.registry import unwrap_optimizer

# A resumed run equals an unbroken one only if these settings are the same.
_DECISIVE = (
    *("optim", "optim_args", "learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("sgd_momentum", "sgd_dampening", "max_grad_norm", "lr_scheduler_type", "warmup_steps", "bf16", "seed"),
)


def decisive_settings(
    model: ModelArguments, data: DataArguments, args: LoopArguments, num_processes: int
) -> dict[str, Any]:
    """Return the settings that a resumed run must share with its checkpoint; of batch sizes, the rows of a step."""
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * num_processes
    ends = {"max_steps": args.max_steps} if args.lr_scheduler_type in ("linear", "cosine") else {}
    return {
        **asdict(model),
        **{name: getattr(args, name) for name in _DECISIVE},
        **ends,
        "train_files": data.train_files,
        "max_train_rows": data.max_train_rows,
        "shuffle_buffer": data.shuffle_buffer,
        "rows of a step": rows,
    }


class LoopKeeper:
    """Counts the steps, and logs, evaluates and saves between them."""

    def __init__(
        self, args: LoopArguments, data: DataArguments, accelerator: Accelerator, model: Any, optimizer: Any
    ) -> None:
        """Hold the objects of the loop.

        Args:
            args: The settings of the loop.
            data: The settings of the data.
            accelerator: The accelerator that prepared the model.
            model: The prepared model.
            optimizer: The prepared optimizer.
        """
        self.args, self.data, self.accelerator, self.model = args, data, accelerator, model
        self.optimizer: Any = unwrap_optimizer(optimizer)
        self.folder = Path(args.output_dir)
        self.state = LoopState()
        self._since_log, self._loss = 0, torch.zeros((), device=accelerator.device)
        self._counted = (0, 0)

    def start(self, state: LoopState) -> None:
        """Start from ``state``, which is that of a checkpoint or a new one."""
        self.state = state
        self._started = time.monotonic() - state.runtime
        self._learning_rate = self._next_learning_rate()
        if isinstance(self.optimizer, MomoOptimizer):
            last = self.optimizer.last_step
            self._counted = (last.num_steps, last.capped_steps)
        self._bar = tqdm(
            total=self.args.max_steps if self.args.max_steps > 0 else None,
            initial=state.global_step,
            disable=self.args.disable_tqdm or not self.accelerator.is_main_process,
            unit="step",
            smoothing=0.05,
        )

    def is_done(self) -> bool:
        """Return whether all steps are taken: ``--max_steps``, or else all epochs."""
        if self.args.max_steps > 0:
            return self.state.global_step >= self.args.max_steps
        return self.state.epoch >= self.args.num_train_epochs

    def next_steps(self) -> DataLoader:
        """Return the remaining steps of the current epoch."""
        steps = LogSteps(
            self.data.train_files,
            self.args.per_device_train_batch_size,
            micro_batches=self.args.gradient_accumulation_steps,
            process_index=self.accelerator.process_index,
            num_processes=self.accelerator.num_processes,
            shuffle_buffer=self.data.shuffle_buffer,
            seed=self.args.seed,
            epoch=self.state.epoch,
            max_rows=self.data.max_train_rows,
            skipped_steps=self.state.step_in_epoch,
        )
        return DataLoader(steps, batch_size=None, num_workers=self.args.dataloader_num_workers)

    def after_step(self, step: Step, loss: torch.Tensor) -> None:
        """Count a step, and log, evaluate and save where due.

        Args:
            step: The step that was taken.
            loss: This process's part of the mean loss of the step, 0-dimensional.
        """
        state, args = self.state, self.args
        state.global_step += 1
        state.step_in_epoch += 1
        state.rows += step.num_items
        state.runtime = time.monotonic() - self._started
        self._loss += loss
        self._since_log += 1
        self._bar.update()
        if state.global_step % args.logging_steps == 0:
            self._log()
        if args.eval_steps and state.global_step % args.eval_steps == 0:
            scores = evaluate(self.model, self.evaluation_steps(self.data.validation_files), self.accelerator)
            self._write({**scores.metrics("eval"), "step": state.global_step})
        if args.save_steps and state.global_step % args.save_steps == 0:
            self._log()
            checkpoints.save(self.accelerator, state, self.folder, args.save_total_limit)
        self._learning_rate = self._next_learning_rate()

    def end_epoch(self) -> None:
        """Count an epoch."""
        self.state.epoch += 1
        self.state.step_in_epoch = 0

    def finish(self) -> dict[str, float | int]:
        """Log the last steps and return the metrics of training under the Trainer's names."""
        self._log()
        self._bar.close()
        state = self.state
        metrics = {
            "train_loss": state.loss_sum / max(state.global_step, 1),
            "train_runtime": state.runtime,
            "train_samples": state.rows,
            "train_samples_per_second": state.rows / max(state.runtime, 1e-9),
            "train_steps_per_second": state.global_step / max(state.runtime, 1e-9),
        }
        state.log_history.append({**metrics, "step": state.global_step})
        return metrics

    def evaluation_steps(self, files: list[str]) -> LogSteps:
        """Return the steps of an evaluation: the log in its own order, in batches for evaluation."""
        return LogSteps(
            files,
            self.args.per_device_eval_batch_size,
            process_index=self.accelerator.process_index,
            num_processes=self.accelerator.num_processes,
            max_rows=self.data.max_eval_rows,
        )

    def _log(self) -> None:
        if self._since_log == 0:
            return
        loss = float(self.accelerator.reduce(self._loss, "sum"))
        self.state.loss_sum += loss
        entry = {"loss": loss / self._since_log, "learning_rate": self._learning_rate}
        entry |= self._momo_entry()
        self._loss.zero_()
        self._since_log = 0
        self._write({**entry, "epoch": self.state.epoch, "step": self.state.global_step})

    def _next_learning_rate(self) -> float:
        # Read before the schedule moves on: the Trainer, too, logs the learning rate of the step.
        return float(self.optimizer.param_groups[0]["lr"])

    def _momo_entry(self) -> dict[str, float]:
        """Return the entries that the Trainer's mixin logs for MoMo, under the same names."""
        if not isinstance(self.optimizer, MomoOptimizer):
            return {}
        last = self.optimizer.last_step
        taken, capped = last.num_steps - self._counted[0], last.capped_steps - self._counted[1]
        self._counted = (last.num_steps, last.capped_steps)
        return {
            "step_size": last.step_size[0],
            "lower_bound": last.lower_bound,
            "step_capped": capped / taken if taken else 0.0,
            "skipped_steps": last.skipped_steps,
        }

    def _write(self, entry: dict[str, Any]) -> None:
        self.state.log_history.append(entry)
        shown = {name: f"{value:.4g}" for name, value in entry.items() if isinstance(value, float)}
        self._bar.set_postfix(shown, refresh=False)
