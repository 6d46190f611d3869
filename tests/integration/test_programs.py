"""Programs of other people beneath ``hf-momo run``: while the cap limits every step, their losses are AdamW's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trainer.trl_runs import data_of, llama, texts, tokenizer

SENTENCE_SCRIPT = Path(__file__).with_name("sentence_script.py")
COMMON = ["--use_cpu", "--report_to", "none", "--max_steps", "3", "--logging_steps", "1", "--save_steps", "3"]
COMMON += ["--learning_rate", "0.01", "--weight_decay", "0.1", "--seed", "3"]
CAPPED = ["--optim", "momo_adam", "--optim_args", "lower_bound=-1e12,weight_decay_form=adamw"]
ADAMW = ["--optim", "adamw_torch"]

ENVIRONMENT = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
ENVIRONMENT |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
SAMPLING = ["--num_generations", "2", "--max_completion_length", "4", "--reward_funcs", "rewards.small_tokens"]
# The data of each command of TRL, and its own options.
COMMANDS: dict[str, tuple[Any, list[str]]] = {
    "sft": (texts, ["--max_length", "12"]),
    "dpo": (lambda: data_of("DPO"), ["--max_length", "12"]),
    "kto": (lambda: data_of("KTO"), ["--max_length", "12"]),
    "reward": (lambda: data_of("Reward"), ["--max_length", "12"]),
    "grpo": (lambda: data_of("GRPO"), SAMPLING),
    "rloo": (lambda: data_of("RLOO"), SAMPLING),
}
REWARDS = "def small_tokens(completion_ids, **_):\n    return [-sum(ids) / len(ids) for ids in completion_ids]\n"


def launch(folder: Path, *words: str) -> list[dict[str, float]]:
    """Run a command of Python that saves one checkpoint, and return the entries of its training log."""
    out = folder / words[words.index("--optim") + 1]
    command = [sys.executable, *words, "--output_dir", str(out)]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    state = json.loads((out / "checkpoint-3" / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


def prepare(folder: Path, command: str) -> list[str]:
    """Write what a command of TRL reads, and return its options."""
    make_data, own = COMMANDS[command]
    llama().save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    (folder / "data").mkdir()
    make_data().to_json(folder / "data" / "train.jsonl")
    (folder / "rewards.py").write_text(REWARDS)
    return ["--model_name_or_path", "model", "--dataset_name", "data", "--bf16", "false", *own, *COMMON]


def check_same(capped: list[dict[str, float]], adamw: list[dict[str, float]]) -> None:
    assert len(capped) == 3
    assert {entry["step_capped"] for entry in capped} == {1.0}
    assert [entry["loss"] for entry in capped] == pytest.approx([entry["loss"] for entry in adamw], rel=1e-6)


@pytest.mark.parametrize("command", COMMANDS)
def test_trl(tmp_path: Path, command: str) -> None:
    """``trl`` starts its script as a child, which failed: "invalid choice: 'momo_adam'"."""
    options = prepare(tmp_path, command)
    capped = launch(tmp_path, "-m", "hf_momo", "run", "trl", command, *options, *CAPPED)
    check_same(capped, launch(tmp_path, "-m", f"trl.scripts.{command}", *options, *ADAMW))


def test_a_module_beneath_accelerate_launch(tmp_path: Path) -> None:
    options = prepare(tmp_path, "sft")
    launcher = ["-m", "accelerate.commands.launch", "--num_processes", "1"]
    capped = launch(tmp_path, *launcher, "-m", "hf_momo", "run", "-m", "trl.scripts.sft", *options, *CAPPED)
    check_same(capped, launch(tmp_path, *launcher, "-m", "trl.scripts.sft", *options, *ADAMW))


def test_sentence_transformers(tmp_path: Path) -> None:
    """Its trainer makes parameter groups from the weights of the model and of the loss."""
    pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")
    capped = launch(tmp_path, "-m", "hf_momo", "run", str(SENTENCE_SCRIPT), *COMMON, *CAPPED)
    check_same(capped, launch(tmp_path, str(SENTENCE_SCRIPT), *COMMON, *ADAMW))
