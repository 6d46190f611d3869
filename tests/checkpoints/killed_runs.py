"""Runs that are killed and resumed, and the same runs unbroken. ``test_killed_runs.py`` launches and compares them.

python tests/checkpoints/killed_runs.py OUTPUT_FOLDER
ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 tests/checkpoints/killed_runs.py OUTPUT_FOLDER
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from checkpoints import forks
from checkpoints.distributed_jobs import converted, with_distributed_checkpoint
from checkpoints.jobs import SAVE_EVERY, STEPS, Job, failing, with_accelerate, with_trainer
from checkpoints.kills import Kill, random_step
from transformers import Trainer
from uninitialized import fill_with_nan

ADAM = {"optim": "momo_adam", "optim_args": "adapt_lower_bound=true", "lr_scheduler_type": "linear"}
MOMO = {
    "optim": "momo",
    "learning_rate": 2.0,
    "weight_decay": 0.1,
    "max_grad_norm": 0.5,
    "gradient_accumulation_steps": 2,
    "per_device_train_batch_size": 2,
}
ADAMW = {"optim": "adamw_torch", "learning_rate": 0.05}

RUNS: dict[str, Callable[..., Job]] = {
    "momo_adam": partial(with_trainer, **ADAM),
    "momo": partial(with_trainer, **MOMO),
    "limited": partial(with_trainer, **ADAM, save_total_limit=1),
    "over-another": partial(with_trainer, **ADAM),
    "stock": partial(with_trainer, **ADAMW),
    "accelerate": with_accelerate,
    "fsdp2": partial(with_trainer, backend="fsdp2", **ADAM),
    "fsdp2-accelerate": partial(with_accelerate, backend="fsdp2"),
    "fsdp1": partial(with_trainer, backend="fsdp1", **ADAM),
    "fsdp1-accelerate": partial(with_accelerate, backend="fsdp1"),
    "zero2": partial(with_trainer, backend="zero2", **ADAM),
    "zero3": partial(with_trainer, backend="zero3", **ADAM),
    **{
        f"dcp-{setting}{'-flat' * flat}": partial(with_distributed_checkpoint, setting=setting, flat=flat)
        for setting, flat in (
            ("momo_adam", False),
            ("momo_adam", True),
            ("momo", True),
            ("momo_adafactor", False),
            ("momo_muon", False),
            ("estimates", False),
        )
    },
}


class Case(NamedTuple):
    """A run that is killed, and where it must resume."""

    run: str
    kill: Kill
    first: int
    """The step of the last complete checkpoint."""
    killed_on: int
    """Number of ranks."""
    resumed_on: int


def cases(ranks: int) -> dict[str, Case]:
    """Return every killed run by name, for a launch with this number of ranks."""
    found: dict[str, Case] = {}

    def add(run: str, kill: Kill, first: int) -> None:
        what = kill.file or ("the-end" if kill.step < 0 else f"step-{kill.step}")
        found[f"{run}/{what}{'-before' * kill.before}"] = Case(run, kill, first, ranks, ranks)

    def add_step(run: str) -> None:
        step = random_step(f"{run}/{ranks}", 3, STEPS)
        # A Trainer saves after the callbacks of the step.
        saved = step if "accelerate" in run or "dcp" in run else step - 1
        add(run, Kill(step, rank=ranks - 1), saved - saved % SAVE_EVERY)

    for run in ("momo_adam", "momo", "accelerate"):
        add_step(run)
    # Otherwise half of the files would be complete files of the other run.
    add("over-another", Kill(6, "optimizer.pt" if ranks == 1 else "rng_state_1.pth", ranks - 1, before=True), 4)
    add("limited", Kill(6, "optimizer.pt"), 4)
    add("accelerate", Kill(6, f"random_states_{ranks - 1}.pkl", ranks - 1), 4)
    if ranks == 1:
        add("limited", Kill(4, "removal"), 6)
        add("accelerate", Kill(6, "optimizer.bin"), 4)
        add("momo_adam", Kill(-1), STEPS)
        for file in ("model.safetensors", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
            add("momo_adam", Kill(6, file), 4)
        add("momo_adam", Kill(6, "trainer_state.json"), 4)
        return found
    add("momo_adam", Kill(6, "optimizer.pt"), 4)
    for run in ("momo_adam", "stock"):
        add(run, Kill(6, "rng_state_1.pth", 1), 4)
        add(run, Kill(6, "rng_state_1.pth", 1, before=True), 4)
    for run in ("fsdp2", "fsdp2-accelerate", "zero2", "zero3"):
        add_step(run)
    add("fsdp2", Kill(6, "metadata"), 4)
    add("zero2", Kill(6, "zero_pp_rank_1_mp_rank_00_optim_states.pt", 1), 4)
    for run in (name for name in RUNS if name.startswith("dcp")):
        add_step(run)
        step = found[f"{run}/step-{random_step(f'{run}/2', 3, STEPS)}"]
        for killed_on, resumed_on in ((2, 1), (1, 2)):
            kill = Kill(step.kill.step, rank=killed_on - 1)
            found[f"{run}/{killed_on}-to-{resumed_on}"] = Case(run, kill, step.first, killed_on, resumed_on)
    add("dcp-momo_adam", Kill(6, "metadata"), 4)
    return found


NOT_RESUMED = ("fsdp1", "fsdp1-accelerate")
"""Runs on two ranks whose checkpoints lack what a resume needs."""


def run_case(folder: Path, name: str, case: Case, run: Callable[..., str]) -> None:
    work = folder / "work" / name.replace("/", "-")
    make = RUNS[case.run]
    if forks.RANK == 0:
        work.mkdir(parents=True)
    if case.run == "over-another":
        # The folder holds another run, up to the checkpoint in which the second run dies.
        run(f"{name}/other", with_trainer(work, **ADAM | {"learning_rate": 0.01, "max_steps": 6}))
        if forks.RANK == 0:
            shutil.rmtree(work / "checkpoint-2")
            shutil.rmtree(work / "checkpoint-4")
    # The stock Trainer trains and saves, ours resumes.
    stock: dict[str, Any] = {"cls": Trainer} if case.run == "stock" else {}
    outcome = run(f"{name}/killed", make(work, kill=case.kill, **stock), ranks=case.killed_on)
    if outcome != forks.KILLED:
        raise RuntimeError(f"{name}: {outcome}, but was to be killed")
    run(f"{name}/resumed", make(work, resume=True), ranks=case.resumed_on)


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    fill_with_nan()
    forks.warm_up(RUNS["momo_adam"](folder / "work" / f"warm-up-{forks.RANK}"))

    def run(name: str, job: Job, ranks: int = forks.WORLD_SIZE) -> str:
        return forks.run(folder, name.replace("/", "-"), job, ranks=ranks)

    all_cases = cases(forks.WORLD_SIZE)
    for name in dict.fromkeys(case.run for case in all_cases.values()):
        run(f"{name}/unbroken", RUNS[name](folder / "work" / f"{name}-unbroken"))
    for name, case in all_cases.items():
        run_case(folder, name, case, run)
    for name in NOT_RESUMED if forks.WORLD_SIZE == 2 else ():
        work = folder / "work" / name
        run(f"{name}/killed", RUNS[name](work, kill=Kill(5, rank=1)))
        run(f"{name}/resumed", failing(RUNS[name](work, resume=True)))
    for ranks in range(1, forks.WORLD_SIZE + 1):
        run(f"converted/{ranks}", converted, ranks=ranks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
