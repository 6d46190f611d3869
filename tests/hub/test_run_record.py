"""The record of a run holds the command that repeats it, and nothing about the machine, its user or tokens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hf_momo.hub.record import command_line, hub_name, portable

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrSt"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    return str(tmp_path / "train.py")


@pytest.mark.parametrize(
    ("started_by", "processes", "command"),
    [
        (["python", "train.py"], 1, "python train.py --seed 1"),
        (["python", "train.py"], 2, "accelerate launch --num_processes 2 train.py --seed 1"),
        (["python", "/opt/bin/hf-momo", "run", "train.py"], 1, "hf-momo run train.py --seed 1"),
        (["python", "-m", "hf_momo", "run", "train.py"], 1, "hf-momo run train.py --seed 1"),
        (
            ["python", "-m", "hf_momo", "run", "train.py"],
            4,
            "accelerate launch --num_processes 4 -m hf_momo run train.py --seed 1",
        ),
    ],
)
def test_the_command_is_the_one_that_repeats_the_run(
    script: str, monkeypatch: pytest.MonkeyPatch, started_by: list[str], processes: int, command: str
) -> None:
    monkeypatch.setattr(sys, "argv", [script, "--seed", "1"])
    monkeypatch.setattr(sys, "orig_argv", [*started_by, "--seed", "1"])
    assert command_line(processes) == command


@pytest.mark.parametrize("argv", [["-c"], ["", "--seed", "1"], ["/no/such/script.py"]])
def test_without_a_script_there_is_no_command(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert command_line() == ""


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--hub_token", "secret", "--seed", "1"], "--seed 1"),
        (["--push_to_hub_token=secret", "--seed", "1"], "--seed 1"),
        (["--token", "--seed", "1"], "--seed 1"),
        (["--wandb_api_key", "secret"], ""),
        (["--db-password", "secret", "file.txt"], "file.txt"),
        (["--note", f"see {TOKEN}"], "--note 'see <token>'"),
        (["--proxy=http://me:secret@host/x"], "--proxy=http://host/x"),
        # Of text.
        (["--max_new_tokens", "8", "--tokenizer_name", "x", "--forced_bos_token", "de"], None),
        (["--max_tokens_per_batch", "8", "--pad_token", "<pad>"], None),
    ],
)
def test_secrets_of_the_command_are_left_out(
    script: str, monkeypatch: pytest.MonkeyPatch, words: list[str], kept: str | None
) -> None:
    monkeypatch.setattr(sys, "argv", [script, *words])
    command = command_line()
    assert "secret" not in command and TOKEN not in command
    expected = kept if kept is not None else " ".join(words).replace("<pad>", "'<pad>'")
    assert command == f"python train.py {expected}".strip()


def test_paths_are_portable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setenv("USER", "alice")
    paths = {
        str(tmp_path / "data" / "x.txt"): "data/x.txt",
        "/mnt/disk/sets/x.txt": "sets/x.txt",
        "/home/alice/x.txt": "x.txt",
        "~/sets/x.txt": "sets/x.txt",
        "/scratch/alice/x.txt": "scratch/x.txt",
        "/home/bob/x.txt": "x.txt",
        "/Users/bob/sets/x.txt": "sets/x.txt",
        "--data=/mnt/disk/sets/x.txt": "--data=sets/x.txt",
        # The Trainer's optim_args, as a flag's word and as a setting.
        "--optim_args=lower_bound=from=/mnt/disk/runs/pilot,kernel=eager": (
            "--optim_args=lower_bound=from=runs/pilot,kernel=eager"
        ),
        f"kernel=eager,lower_bound=0.9*from={tmp_path / 'runs' / 'pilot'}": (
            "kernel=eager,lower_bound=0.9*from=runs/pilot"
        ),
        "data/x.txt": "data/x.txt",
        "a sentence / with a slash": "a sentence / with a slash",
    }
    assert portable(list(paths)) == list(paths.values())
    assert portable({"files": list(paths), "seed": 1}) == {"files": list(paths.values()), "seed": 1}


def test_names_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    assert hub_name("openai-community/gpt2") == "openai-community/gpt2" and hub_name("gpt2") == "gpt2"
    for name in ("runs/first", str(tmp_path / "gone"), "../x", "~/x", "a/b/c", "", None, "x y"):
        assert hub_name(name) is None, name


def test_the_instructions_are_those_that_torch_computes_with() -> None:
    """The demo had other scores on another processor, and the record did not tell the difference."""
    code = "import torch; from hf_momo.hub.machine import hardware as h; print(h(torch.device('cpu'), 1, None))"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert re.search("'instructions': '(DEFAULT|NO AVX)'", told.stdout), "torch 2.6 says NO AVX"
