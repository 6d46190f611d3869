"""Runs that push, on two processes: OUTPUT_FOLDER gets rankN.json. test_two_processes.py launches this."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from hub.tiny_runs import trainer

from hf_momo.utils.errors import PushError
from hf_momo.utils.threads import wait_for_idle_threads

EVERY_SAVE = {"hub_strategy": "every_save", "save_strategy": "steps", "save_steps": 1, "hub_always_push": True}


def train_and_push(folder: Path, **options: Any) -> dict[str, Any]:
    """Train and push, and then gather from all processes."""
    run = trainer(folder, **EVERY_SAVE, **options)
    run.train()
    commit = run.push_to_hub()
    return {"commit": None if commit is None else commit.oid, "loss": run.evaluate(run.train_dataset)["eval_loss"]}


def refused(folder: Path, **options: Any) -> dict[str, Any]:
    """Train with an invalid token; the processes can still communicate afterwards."""
    try:
        trainer(folder, **options)
    except PushError as error:
        torch.distributed.barrier()
        return {"error": str(error)}
    return {}


def main(folder: Path) -> None:
    """Make every run, and write the results of this process."""
    results = {
        "good": train_and_push(folder / "good", hub_model_id="me/good"),
        "broken": train_and_push(folder / "broken", hub_model_id="me/broken"),
        "refused": refused(folder / "refused", hub_model_id="me/refused", hub_token="hf_" + "wrong" * 7),
    }
    (folder / f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()
    wait_for_idle_threads()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
