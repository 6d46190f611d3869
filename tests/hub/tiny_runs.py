"""Tiny runs that push, and what they left behind."""

from __future__ import annotations

import re
import shlex
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


def tokenizer() -> PreTrainedTokenizerFast:
    """Words w0, w1, ... as tokens 0, 1, ..."""
    model = Tokenizer(WordLevel({f"w{index}": index for index in range(VOCABULARY)}, unk_token="w0"))
    model.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=model, unk_token="w0", pad_token="w0", eos_token="w1")


def trainer(folder: Path, **options: Any) -> MomoTrainer:
    """A Trainer of a tiny language model that pushes to NAME."""
    options = {"push_to_hub": True, "hub_model_id": NAME, "hub_strategy": "end", "max_steps": 2} | options
    return MomoTrainer(
        model=gpt2(),
        args=arguments(folder, **options),
        train_dataset=text_examples(8),
        processing_class=tokenizer(),
    )


def saved(folder: Path) -> dict[str, bytes]:
    """Name to content of the files at the top of a run's folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def push_command(text: str) -> list[str]:
    """The words after `hf-momo` of the command that an error names."""
    found = re.search(r"hf-momo (push .+)", text)
    assert found is not None, text
    return shlex.split(found[1])


def check_no_token(hub: Hub, folder: Path, *texts: str) -> None:
    """The token stands in no file, no output and nowhere on the Hub."""
    for text in texts:
        assert TOKEN not in text
    for path in folder.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    assert hub.holds(TOKEN) == []
