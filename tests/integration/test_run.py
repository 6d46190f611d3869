"""Under ``hf-momo run`` an unmodified script trains as if it used ``MomoTrainer``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import hf_momo

SCRIPT = Path(__file__).with_name("stock_script.py")
COMMON = ["--use_cpu", "--report_to", "none", "--logging_steps", "1", "--save_strategy", "no"]
OPTIONS = ["--max_steps", "6", "--per_device_train_batch_size", "4", "--weight_decay", "0.1"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def launch(*words: str, prefix: tuple[str, ...] = (sys.executable,), check: bool = True) -> Any:
    done = subprocess.run([*prefix, *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def history(folder: Path) -> list[dict[str, float]]:
    state = json.loads((folder / "trainer_state.json").read_text())
    entries: list[dict[str, float]] = [entry for entry in state["log_history"] if "loss" in entry]
    assert entries
    return entries


@pytest.mark.parametrize(
    "more",
    [
        ["--optim", "momo_adam", "--learning_rate", "0.01", "--gradient_accumulation_steps", "2"],
        ["--optim", "momo", "--optim_args", "lower_bound=0.5"],
    ],
    ids=["momo_adam", "momo"],
)
def test_the_curve_is_that_of_momo_trainer_to_the_bit(tmp_path: Path, more: list[str]) -> None:
    ours = tmp_path / "written_in.py"
    text = (
        SCRIPT.read_text()
        .replace("Trainer(model=", "MomoTrainer(model=")
        .replace("(DataArguments, TrainingArguments)", "(DataArguments, MomoTrainingArguments)")
    )
    ours.write_text(
        text.replace("import torch\n", "import torch\nfrom hf_momo import MomoTrainer, MomoTrainingArguments\n")
    )
    words = [*COMMON, *OPTIONS, *more, "--output_dir"]
    launch("-m", "hf_momo", "run", str(SCRIPT), *words, str(tmp_path / "run"))
    launch(str(ours), *words, str(tmp_path / "ours"))
    assert history(tmp_path / "run") == history(tmp_path / "ours")
    assert {"step_size", "lower_bound", "step_capped", "skipped_steps"} <= history(tmp_path / "run")[0].keys()
    weights = [torch.load(tmp_path / name / "training_args.bin", weights_only=False) for name in ("run", "ours")]
    assert weights[0].optim == weights[1].optim


def test_two_processes_by_accelerate_launch(tmp_path: Path) -> None:
    prefix = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
    words = [*COMMON, "--max_steps", "4", "--per_device_train_batch_size", "2", "--optim", "momo_adam", "--output_dir"]
    launch(
        "--main_process_port", "0", "-m", "hf_momo", "run", str(SCRIPT), *words, str(tmp_path / "two"), prefix=prefix
    )
    words[words.index("--per_device_train_batch_size") + 1] = "4"
    launch("-m", "hf_momo", "run", str(SCRIPT), *words, str(tmp_path / "one"))
    two, one = history(tmp_path / "two"), history(tmp_path / "one")
    assert [entry["step_size"] for entry in two] == pytest.approx([entry["step_size"] for entry in one], rel=1e-5)


def test_a_yaml_configuration_and_resume(tmp_path: Path) -> None:
    settings = {
        "output_dir": str(tmp_path / "run"),
        "optim": "momo_adam",
        "max_steps": 6,
        "save_steps": 3,
        "logging_steps": 1,
        "use_cpu": True,
        "report_to": "none",
    }
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(settings))
    launch("-m", "hf_momo", "run", str(SCRIPT), str(tmp_path / "whole.yaml"))
    whole = history(tmp_path / "run")
    checkpoint = str(tmp_path / "run" / "checkpoint-3")
    (tmp_path / "rest.yaml").write_text(yaml.safe_dump({**settings, "resume_from_checkpoint": checkpoint}))
    launch("-m", "hf_momo", "run", str(SCRIPT), str(tmp_path / "rest.yaml"))
    assert [entry["loss"] for entry in history(tmp_path / "run")] == [entry["loss"] for entry in whole]


def test_without_us_the_script_knows_no_such_name(tmp_path: Path) -> None:
    done = launch(str(SCRIPT), "--output_dir", str(tmp_path), "--optim", "momo_adam", check=False)
    assert done.returncode == 2
    assert "invalid choice: 'momo_adam'" in done.stderr


def test_help_of_the_script_shows_the_names() -> None:
    output = launch("-m", "hf_momo", "run", str(SCRIPT), "--help").stdout
    assert "momo_adam" in output
    assert "--examples" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no_such.py"], "PROGRAM: got 'no_such.py', must be a file or an installed command (or use -m MODULE)"),
        ([], "PROGRAM is missing; usage: hf-momo run [-m] [--no_children] PROGRAM [ARGS ...]"),
        (["--no_children", "env"], "is not a Python program, so nothing would be changed"),
        (["-m", "email"], "-m: got 'email', a package without a __main__ module; name one of its modules"),
        (["-m", "nothere"], "-m: got 'nothere', which is not a module that Python can import"),
        (["-m", "nothere.train"], "-m: got 'nothere.train', which is not a module"),
        ([str(SCRIPT), "--optim", "momo_adm"], "--optim: got 'momo_adm'; did you mean momo_adam?"),
        ([str(SCRIPT), "--optim=adamw_troch"], "--optim: got 'adamw_troch'; did you mean adamw_torch?"),
        (
            [str(SCRIPT), "--optim", "momo", "--optim_args", "bound=0"],
            "--optim_args: momo has no option 'bound'; it has",
        ),
        ([str(SCRIPT), "--optim", "momo", "--optim-args=beta=x"], "--optim_args: got beta=x, must be a number"),
    ],
)
def test_a_bad_command_is_one_line(words: list[str], message: str) -> None:
    """A misspelt name ended in the usage of two hundred flags, a missing module in a traceback."""
    done = launch("-m", "hf_momo", "run", *words, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("hf-momo run: error: ")
    assert message in line


def test_version() -> None:
    assert launch("-m", "hf_momo", "--version").stdout == f"hf_momo {hf_momo.__version__}\n"


def test_a_list_that_nobody_reads_on_is_no_error() -> None:
    """`hf-momo list | head -1` ended in a traceback of BrokenPipeError."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "hf_momo", "list"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_listing_needs_torch_alone() -> None:
    code = (
        "import sys; sys.modules['transformers'] = sys.modules['accelerate'] = None;"
        " from hf_momo.cli import main; sys.exit(main(['list']))"
    )
    output = launch("-c", code).stdout
    assert "momo_adam: Adam with MoMo's adaptive step size" in output
    assert "defaults      lr=0.01, betas=(0.9, 0.999)" in output
    assert "--optim_args  weight_decay_form, lower_bound, adapt_lower_bound, slope, gap, caution, kernel" in output
