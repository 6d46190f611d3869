"""Tiny runs that push, and helpers for their folders."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from hub.server import Hub
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from trainer.tiny import VOCABULARY, arguments, gpt2, text_examples
from transformers import PreTrainedTokenizerFast

from hf_momo import MomoTrainer

USER = "me"
TOKEN = "hf_" + "Zq7Xw2Kd9Rt4" * 3
NAME = f"{USER}/tiny"
CARDS = Path(__file__).parents[2] / "model_cards"
# Files that are never pushed.
STAYS = (
    "checkpoint-2/trainer_state.json",
    "_notes.txt",
    ".secret",
    "run.log",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with the words w0, w1, ... as tokens 0, 1, ..."""
    model = Tokenizer(WordLevel({f"w{index}": index for index in range(VOCABULARY)}, unk_token="w0"))
    model.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=model, unk_token="w0", pad_token="w0", eos_token="w1")


def trainer(folder: Path, **options: Any) -> MomoTrainer:
    """Return a Trainer of a tiny language model that pushes to NAME; it does not log, to draw no picture."""
    hub = {"push_to_hub": True, "hub_model_id": NAME, "hub_strategy": "end"}
    options = {**hub, "max_steps": 2, "logging_strategy": "no"} | options
    return MomoTrainer(
        model=gpt2(),
        args=arguments(folder, **options),
        train_dataset=text_examples(8),
        processing_class=tokenizer(),
    )


def saved(folder: Path) -> dict[str, bytes]:
    """Return the files at the top of a run's folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def push_command(text: str) -> list[str]:
    """Return the words after ``hf-momo`` of the command in an error message."""
    found = re.search(r"hf-momo (push .+)", text)
    assert found is not None, text
    return shlex.split(found[1])


def check_no_token(hub: Hub, folder: Path, *texts: str) -> None:
    """Check that the token is in no file, no output and nowhere on the Hub."""
    for text in texts:
        assert TOKEN not in text
    for path in folder.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    assert hub.holds(TOKEN) == []


def finished_run(folder: Path) -> Path:
    """Return the folder of a finished translation run, with the record of a real one and files that are not pushed."""
    model, words = gpt2(), tokenizer()
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    shutil.copy(CARDS / "demo-de-en-momo_adam" / "record.json", folder)
    shutil.copy(CARDS / "demo-de-en-momo_adam" / "step_size.png", folder)
    (folder / "all_results.json").write_text('{"eval_bleu": 30.0}\n')
    (folder / "translation_pipeline.py").write_text("# the pipeline\n")
    (folder / "runs" / "one").mkdir(parents=True)
    (folder / "runs" / "one" / "events.out.tfevents.1").write_bytes(b"logged")
    for name in STAYS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}" if name.endswith(".json") else "stays here")
    return folder
