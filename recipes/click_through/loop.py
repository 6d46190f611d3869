"""Around the steps of the loop: what it logs, when it evaluates, saves and stops."""

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

# Settings without which a checkpoint cannot go on as if it had never stopped.
_DECISIVE = (
    *("optim", "optim_args", "learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("sgd_momentum", "sgd_dampening", "max_grad_norm", "lr_scheduler_type", "warmup_steps", "bf16", "seed"),
)


def decisive_settings(
    model: ModelArguments, data: DataArguments, args: LoopArguments, num_processes: int
) -> dict[str, Any]:
    """What a resumed run must share with the run before; of the batch sizes, the rows of a step."""
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
    """Keeps count of the steps, and does what is due between them."""

    def __init__(
        self, args: LoopArguments, data: DataArguments, accelerator: Accelerator, model: Any, optimizer: Any
    ) -> None:
        """Take what the loop uses.

        Args:
            args: Of the run.
            data: Of the run.
            accelerator: That prepared the model.
            model: Prepared.
            optimizer: Prepared.
        """
        self.args, self.data, self.accelerator, self.model = args, data, accelerator, model
        self.optimizer: Any = unwrap_optimizer(optimizer)
        self.folder = Path(args.output_dir)
        self.state = LoopState()
        self._since_log, self._loss = 0, torch.zeros((), device=accelerator.device)
        self._counted = (0, 0)

    def start(self, state: LoopState) -> None:
        """Begin, or go on where `state` stands."""
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
        """Whether all steps are taken: --max_steps, or else all passes."""
        if self.args.max_steps > 0:
            return self.state.global_step >= self.args.max_steps
        return self.state.epoch >= self.args.num_train_epochs

    def next_steps(self) -> DataLoader:
        """The steps that are left of the pass that is going on."""
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
        """Count a step, and log, evaluate and save where it is time.

        Args:
            step: That was taken.
            loss: This process's part of its mean loss, 0-dimensional.
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
        """Count a pass over the log."""
        self.state.epoch += 1
        self.state.step_in_epoch = 0

    def finish(self) -> dict[str, float | int]:
        """Log the rest.

        Returns:
            The metrics of training, as the Trainer calls them.
        """
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
        """A log in its own order, in the batches of the evaluation."""
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
        # The schedule moves on with every step, and what is logged is the rate of the step, as the Trainer does.
        return float(self.optimizer.param_groups[0]["lr"])

    def _momo_entry(self) -> dict[str, float]:
        """What the Trainer's mixin logs of MoMo, under the same names."""
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
