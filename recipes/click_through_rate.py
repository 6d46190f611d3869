r"""Train DLRM with MoMo on the Criteo log in a plain accelerate loop; measure log loss and AUC.

On the training log of the Kaggle challenge (train.txt of dac.tar.gz), divided into three files:

    python recipes/click_through_rate.py --config recipes/configs/criteo_dlrm.yaml --train_files data/train.tsv.gz \
        --validation_files data/dev.tsv --test_files data/test.tsv --output_dir runs/criteo

On several GPUs, or on several CPU processes, each with batches of ``--per_device_train_batch_size``:

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/click_through_rate.py \
        --config recipes/configs/criteo_dlrm.yaml --per_device_train_batch_size 64 --output_dir runs/criteo ...

The log is read as a stream with a shuffle buffer, so it may be larger than the memory. ``take_step`` below shows an
accelerate loop with ``hf_momo.create_optimizer``. Every setting of the YAML file can also be given on the command
line, where it wins. ``--optim`` takes momo_adam, momo, adamw_torch, sgd and adagrad; for the first two
``--learning_rate`` is the cap on the step size.

A killed run resumes from its last complete checkpoint (``--save_steps``) when the same command is given again; the
result equals that of an unbroken run. A run writes to ``--output_dir``: the model, loaded by
``AutoModel.from_pretrained(folder, trust_remote_code=True)``; all_results.json with ``eval_loss``, ``eval_auc``,
``predict_loss`` and ``predict_auc``; loss.png, step_size.png and auc.png; trainer_state.json; record.json with all
results; and README.md, the model card made from it. ``hf-momo push`` pushes the folder to the Hub. ``hf-momo sweep``
needs ``--plain`` for this script.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import send_to_device, set_seed

from click_through import checkpoints
from click_through.arguments import DataArguments, LoopArguments, ModelArguments
from click_through.batches import Step
from click_through.card import CLICK_THROUGH_RATE
from click_through.checkpoints import LoopState
from click_through.evaluation import Scores, evaluate
from click_through.loop import LoopKeeper, decisive_settings
from click_through.model import prepare_model
from click_through.optimizer import make_optimizer, make_schedule
from click_through.settings import check_settings
from common.config import parse_settings
from common.pictures import draw_run
from common.processes import agree, check_processes, leave_processes, on_main_process, use_cpu_without_gpu
from common.publishing import write_results
from common.records import RECORD_NAME
from hf_momo.hub.record import portable, run_record
from hf_momo.utils.errors import run_command
from hf_momo.utils.files import write_whole

# The prefix of each split in all_results.json.
_PREFIXES = {"validation": "eval", "test": "predict"}


@dataclass
class Settings:
    """All settings of a run, in the order in which they are parsed."""

    model: ModelArguments
    data: DataArguments
    loop: LoopArguments

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        return Path(self.loop.output_dir)


def main() -> None:
    """Read the settings, check the input, train, evaluate and write the record."""
    use_cpu_without_gpu()
    types = (ModelArguments, DataArguments, LoopArguments)
    settings = Settings(*parse_settings(types, "Train DLRM on the Criteo log; score it with log loss and AUC."))
    args = settings.loop
    accelerator = Accelerator(
        cpu=args.use_cpu,
        mixed_precision="bf16" if args.bf16 else None,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        # LogSteps divides a step among the processes, so the schedule moves once a step.
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
    check_processes(accelerator.num_processes)
    agree(lambda: check_settings(settings.model, settings.data, args))
    set_seed(args.seed)
    model = agree(lambda: prepare_model(settings.model))
    results: dict[str, Any] = {}
    if args.do_train:
        keeper = train(settings, accelerator, model)
        results |= keeper.finish()
        save_model(settings, keeper)
    else:
        model = accelerator.prepare(model)
        keeper = LoopKeeper(args, settings.data, accelerator, model, None)
    scores = {split: evaluate_split(settings, keeper, split) for split in wanted_splits(settings)}
    for split, each in scores.items():
        results |= each.metrics(_PREFIXES[split])
    if accelerator.is_main_process:
        report(settings, keeper, results, scores)
    leave_processes()


def train(settings: Settings, accelerator: Accelerator, model: Any) -> LoopKeeper:
    """Train, from the start or from a checkpoint, and return the keeper of the loop."""
    args = settings.loop
    optimizer: Any = make_optimizer(args, model, accelerator)
    model, optimizer, schedule = accelerator.prepare(model, optimizer, make_schedule(args, optimizer))
    keeper = LoopKeeper(args, settings.data, accelerator, model, optimizer)
    keeper.start(resume(settings, accelerator))
    model.train()
    while not keeper.is_done():
        for step in keeper.next_steps():
            keeper.after_step(step, take_step(step, model, optimizer, schedule, accelerator, args.max_grad_norm))
            if keeper.is_done():
                return keeper
        keeper.end_epoch()
    return keeper


def take_step(
    step: Step, model: Any, optimizer: Any, schedule: Any, accelerator: Accelerator, max_grad_norm: float
) -> torch.Tensor:
    """Take one optimizer step on the mean loss over all rows of all batches and processes.

    Returns:
        This process's part of the mean loss, 0-dimensional.
    """
    # The model divides the loss by the rows of the whole step. ``backward`` divides it by the batches of a process,
    # and gradients are averaged over processes: multiplying by both numbers leaves the sum.
    parts = accelerator.gradient_accumulation_steps * accelerator.num_processes
    total = torch.zeros((), device=accelerator.device)
    for batch in step.micro_batches:
        with accelerator.accumulate(model):
            inputs = send_to_device(batch, accelerator.device)
            loss = model(**inputs, num_items_in_batch=step.num_items).loss
            # hf_momo hands this loss to MoMo, so step takes no argument.
            accelerator.backward(loss * parts)
            if max_grad_norm > 0 and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        total += loss.detach()
    return total


def resume(settings: Settings, accelerator: Accelerator) -> LoopState:
    """Load the checkpoint to resume from, if there is one, and return the position of the loop."""
    args = settings.loop
    decisive = decisive_settings(settings.model, settings.data, args, accelerator.num_processes)
    finished = (settings.folder / RECORD_NAME).exists()
    requested = "false" if finished and args.resume_from_checkpoint is None else args.resume_from_checkpoint
    checkpoint = agree(lambda: checkpoints.find(settings.folder, requested))
    checkpoint = on_main_process(lambda: checkpoint)
    if checkpoint is None:
        if accelerator.is_main_process:
            checkpoints.delete_all(settings.folder)
        return LoopState(settings=decisive)
    state = agree(lambda: checkpoints.read(checkpoint, decisive))
    accelerator.load_state(str(checkpoint))
    accelerator.print(f"resuming from {checkpoint.name}, after {state.rows} rows")
    return state


def save_model(settings: Settings, keeper: LoopKeeper) -> None:
    """Save the model and the history of training before anything else can fail."""
    if not keeper.accelerator.is_main_process:
        return
    # The results of an overwritten run are deleted only now.
    for name in ("all_results.json", RECORD_NAME):
        (settings.folder / name).unlink(missing_ok=True)
    keeper.accelerator.unwrap_model(keeper.model).save_pretrained(settings.folder)
    keeper.state.write(settings.folder)
    if settings.loop.draw_pictures:
        title = f"{settings.loop.optim}, learning rate {settings.loop.learning_rate:g}"
        draw_run(keeper.state.log_history, settings.folder, CLICK_THROUGH_RATE, title)


def wanted_splits(settings: Settings) -> list[str]:
    """Return the splits that are evaluated after training."""
    wanted = {"validation": settings.loop.do_eval, "test": settings.loop.do_predict}
    return [split for split, needed in wanted.items() if needed]


def evaluate_split(settings: Settings, keeper: LoopKeeper, split: str) -> Scores:
    """Print and return the scores of a split."""
    files = {"validation": settings.data.validation_files, "test": settings.data.test_files}[split]
    scores = evaluate(keeper.model, keeper.evaluation_steps(files), keeper.accelerator)
    auc = "undefined" if scores.auc is None else f"{scores.auc:.4f}"
    keeper.accelerator.print(
        f"{split}: log loss {scores.loss:.4f}, AUC {auc}, {scores.rows} rows "
        f"(log loss of predicting the click rate {scores.click_rate:.3f}: {scores.constant_loss:.4f})"
    )
    return scores


def report(settings: Settings, keeper: LoopKeeper, results: dict[str, Any], scores: dict[str, Scores]) -> None:
    """Write all_results.json and, after training, record.json."""
    folder, args, state = settings.folder, settings.loop, keeper.state
    write_whole(folder / "all_results.json", json.dumps(results, indent=4) + "\n")
    if not args.do_train:
        return
    accelerator = keeper.accelerator
    distributed = accelerator.distributed_type if accelerator.num_processes > 1 else None
    model = accelerator.unwrap_model(keeper.model)
    record = run_record(model, keeper.optimizer, accelerator.device, accelerator.num_processes, distributed)
    record |= {
        "settings": portable(
            {"model": asdict(settings.model), "data": asdict(settings.data), "training": asdict(args)}
        ),
        "data": portable({"name": settings.data.data_name, "files": {"train": settings.data.train_files}}),
        "steps": state.global_step,
        "epochs": state.epoch,
        "rows": state.rows,
        "train_runtime": state.runtime,
        "seed": args.seed,
        "curve": [entry for entry in state.log_history if "loss" in entry],
        "evaluations": [entry for entry in state.log_history if "eval_loss" in entry],
        "metrics": {split: asdict(each) for split, each in scores.items()},
    }
    write_results(record, folder, CLICK_THROUGH_RATE)
    print(f"model, scores and pictures are in {folder}")


if __name__ == "__main__":
    sys.exit(run_command(main))
