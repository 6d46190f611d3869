"""Runs that are killed and resumed, beside the same runs unbroken. ``test_killed_runs.py`` launches this and judges.

python tests/checkpoints/killed_runs.py OUTPUT_FOLDER
ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 tests/checkpoints/killed_runs.py OUTPUT_FOLDER
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from checkpoints import forks
from checkpoints.jobs import SAVE_EVERY, STEPS, Job, with_accelerate, with_trainer
from checkpoints.kills import Kill, random_step
from transformers import Trainer

from hf_momo import MomoTrainer

MOMO = {
    "momo_adam": {"optim": "momo_adam", "optim_args": "adapt_lower_bound=true", "lr_scheduler_type": "linear"},
    "momo": {
        "optim": "momo",
        "learning_rate": 2.0,
        "weight_decay": 0.1,
        "max_grad_norm": 0.5,
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 2,
    },
}
ADAMW = {"optim": "adamw_torch", "learning_rate": 0.05}


class Case(NamedTuple):
    """A run that is killed, and where it must resume."""

    run: str
    kill: Kill
    first: int
    """The step of the last complete checkpoint."""


def cases(ranks: int) -> dict[str, Case]:
    """Every killed run by name: where in a run, or in which file of the checkpoint at the sixth step."""
    found = {}
    for run in ("momo_adam", "momo", "accelerate"):
        step = random_step(f"{run}/{ranks}", 3, STEPS)
        # A Trainer saves after the callbacks of the step.
        saved = step if run == "accelerate" else step - 1
        found[f"{run}/step-{step}"] = Case(run, Kill(step, rank=ranks - 1), saved - saved % SAVE_EVERY)
    files = ["model.safetensors", "optimizer.pt", "scheduler.pt", "training_args.bin", "trainer_state.json"]
    if ranks == 1:
        files += ["rng_state.pth"]
        found["momo_adam/after-the-last-step"] = Case("momo_adam", Kill(-1), 8)
    else:
        files = ["optimizer.pt", "rng_state_0.pth", "trainer_state.json"]
        for before in (False, True):
            kill = Kill(6, "rng_state_1.pth", rank=1, before=before)
            found[f"momo_adam/rng_state_1.pth{'-before' * before}"] = Case("momo_adam", kill, 4)
            found[f"stock/rng_state_1.pth{'-before' * before}"] = Case("stock", kill, 4)
    for file in files:
        found[f"momo_adam/{file}"] = Case("momo_adam", Kill(6, file), 4)
    found["limited/removal"] = Case("limited", Kill(4, "removal"), 6)
    found["limited/optimizer.pt"] = Case("limited", Kill(6, "optimizer.pt"), 4)
    found["over-another/optimizer.pt"] = Case("over-another", Kill(6, "optimizer.pt"), 4)
    if ranks == 2:
        found["over-another/rng_state_1.pth"] = Case("over-another", Kill(6, "rng_state_1.pth", 1, before=True), 4)
    for file in ("optimizer.bin", f"random_states_{ranks - 1}.pkl"):
        found[f"accelerate/{file}"] = Case("accelerate", Kill(6, file, rank=ranks - 1 if "random" in file else 0), 4)
    return found


def job(run: str, folder: Path, **how: Any) -> Job:
    if run == "accelerate":
        return with_accelerate(folder, **how)
    if run == "stock":
        # The stock Trainer trains and saves, ours resumes.
        return with_trainer(folder, cls=Trainer if how.get("kill") else MomoTrainer, **how, **ADAMW)
    options = {"limited": MOMO["momo_adam"] | {"save_total_limit": 1}, "over-another": MOMO["momo_adam"]}
    return with_trainer(folder, **how, **(options.get(run) or MOMO[run]))


def run_case(folder: Path, name: str, case: Case, run: Callable[[str, Job], str]) -> None:
    work = folder / "work" / name.replace("/", "-")
    if forks.RANK == 0:
        work.mkdir(parents=True)
    if case.run == "over-another":
        # Another run stands in the folder, up to the checkpoint in which the second one dies.
        other = MOMO["momo_adam"] | {"learning_rate": 0.01, "max_steps": 6}
        run(f"{name}/other", with_trainer(work, **other))
        if forks.RANK == 0:
            shutil.rmtree(work / "checkpoint-2")
            shutil.rmtree(work / "checkpoint-4")
    outcome = run(f"{name}/killed", job(case.run, work, kill=case.kill))
    if outcome != forks.KILLED:
        raise RuntimeError(f"{name}: {outcome}, but was to be killed")
    run(f"{name}/resumed", job(case.run, work, resume=True))


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    forks.warm_up(job("momo_adam", folder / "work" / f"warm-up-{forks.RANK}"))

    def run(name: str, its_job: Job) -> str:
        return forks.run(folder, name.replace("/", "-"), its_job)

    all_cases = cases(forks.WORLD_SIZE)
    for name in dict.fromkeys(case.run for case in all_cases.values()):
        run(f"{name}/unbroken", job(name, folder / "work" / f"{name}-unbroken"))
    for name, case in all_cases.items():
        run_case(folder, name, case, run)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
