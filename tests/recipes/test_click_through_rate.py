"""The click-through rate recipe as a user runs it: training, scores, killed runs, several processes, refusals."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click_through_rate
import numpy as np
import pytest
import torch
from models.dlrm import DLRM
from recipe_runs import read_card
from recipes.criteo_log import write_log
from recipes.launching import ROOT, curve, launch, read_json, reset_accelerate
from safetensors.torch import load_file
from transformers import AutoModel

from hf_momo import get_optimizer_info, list_optimizers
from hf_momo.utils.errors import UsageError

MOMO = [name for name in list_optimizers() if not get_optimizer_info(name).takes_base]
NAMES = ", ".join(MOMO)

SCRIPT = ROOT / "recipes" / "click_through_rate.py"
CONFIG = ROOT / "recipes" / "configs" / "criteo_dlrm.yaml"
# The size of a smoke test.
TINY = [
    *("--hash_sizes", "40", "--embedding_size", "4", "--bottom_hidden_sizes", "8", "--top_hidden_sizes", "8"),
    *("--per_device_train_batch_size", "16", "--logging_steps", "1", "--learning_rate", "1e-2", "--disable_tqdm"),
    *("--draw_pictures", "false"),
]
# The last step has 8 rows.
ROWS, STEPS = 200, 13


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Reset the state that accelerate keeps for a process, here that of another run or test."""
    yield
    reset_accelerate()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return arguments that name a log for each split."""
    folder = tmp_path_factory.mktemp("logs")
    sizes = {"train": ROWS, "validation": 101, "test": 57}
    files = {name: write_log(folder / f"{name}.tsv", size, seed) for seed, (name, size) in enumerate(sizes.items())}
    return [word for name, file in files.items() for word in (f"--{name}_files", str(file))]


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    """Run the recipe in this process, with its configuration at the size of a smoke test."""
    reset_accelerate()
    arguments = ["--config", CONFIG, *TINY, "--use_cpu", *words]
    monkeypatch.setattr(sys, "argv", ["recipes/click_through_rate.py", *map(str, arguments)])
    click_through_rate.main()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_run(folder: Path, other: Path, tolerance: float = 0.0) -> None:
    """Assert that losses at every step, weights and scores are the same."""
    np.testing.assert_allclose(curve(folder, "loss"), curve(other, "loss"), rtol=tolerance)
    for name, weight in weights(folder).items():
        torch.testing.assert_close(weight, weights(other)[name], rtol=tolerance, atol=tolerance, msg=name)
    scores, others = read_json(folder / "record.json")["metrics"], read_json(other / "record.json")["metrics"]
    for split, metrics in scores.items():
        assert metrics == pytest.approx(others[split], rel=tolerance, abs=tolerance)


def test_what_a_run_leaves(tmp_path: Path, logs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    run(monkeypatch, *logs, "--output_dir", folder, "--num_train_epochs", "2", "--eval_steps", "10", "--draw_pictures")
    names = {
        "all_results.json",
        "record.json",
        "trainer_state.json",
        "config.json",
        "dlrm.py",
        "model.safetensors",
        "README.md",
    }
    assert {path.name for path in folder.iterdir()} == names | {"README.md", "loss.png", "step_size.png", "auc.png"}
    record, results = read_json(folder / "record.json"), read_json(folder / "all_results.json")
    assert record["metrics"]["validation"]["loss"] == results["eval_loss"]
    assert record["metrics"]["test"]["auc"] == results["predict_auc"]
    scores = {result.metric_type: result.metric_value for result in read_card(folder).data.eval_results}
    assert scores == {"roc_auc": round(results["predict_auc"], 4), "log_loss": round(results["predict_loss"], 4)}
    assert [record["metrics"][split]["rows"] for split in ("validation", "test")] == [101, 57]
    assert (record["steps"], record["epochs"], record["rows"]) == (2 * STEPS, 2, 2 * ROWS)
    assert (record["seed"], record["optimizer"]["name"], record["model"]["type"]) == (42, "MomoAdam", "dlrm")
    assert [entry["step"] for entry in record["evaluations"]] == [10, 20]
    assert all({"loss", "step_size", "lower_bound", "step_capped", "skipped_steps"} <= set(e) for e in record["curve"])
    assert str(tmp_path) not in (folder / "record.json").read_text()
    # It learns: much better than predicting the click rate.
    validation = record["metrics"]["validation"]
    assert validation["loss"] < validation["constant_loss"] - 0.05
    assert validation["auc"] > 0.8
    model = AutoModel.from_pretrained(folder)
    assert isinstance(model, DLRM)
    assert all(torch.equal(weight, weights(folder)[name]) for name, weight in model.state_dict().items())


def test_scoring_a_saved_model_gives_its_scores(
    tmp_path: Path, logs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, again = tmp_path / "run", tmp_path / "again"
    run(monkeypatch, *logs, "--output_dir", folder)
    options = ("--do_train", "false", "--model_name_or_path", folder, "--per_device_eval_batch_size", "10")
    run(monkeypatch, *logs, *options, "--output_dir", again)
    before, after = read_json(folder / "all_results.json"), read_json(again / "all_results.json")
    for name in ("eval_loss", "eval_auc", "predict_loss", "predict_auc"):
        assert after[name] == pytest.approx(before[name], rel=1e-6)


@pytest.mark.parametrize("optim", ["momo_adam", "momo"])
def test_the_optimizer_is_told_the_loss_that_is_logged(
    tmp_path: Path, logs: list[str], monkeypatch: pytest.MonkeyPatch, optim: str
) -> None:
    """Batches of 16 as four of 4, and the last step of 8 rows as four of 2, log the same averages."""
    folder = tmp_path / "run"
    batches = ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "4"]
    save = ["--save_steps", str(STEPS), "--max_steps", str(STEPS)]
    run(monkeypatch, *logs, *batches, *save, "--optim", optim, "--output_dir", folder)
    losses = curve(folder, "loss")
    average = 0.0 if optim == "momo_adam" else losses[0]
    for loss in losses:
        average = 0.9 * average + 0.1 * loss
    state = torch.load(folder / f"checkpoint-{STEPS}" / "optimizer.bin", weights_only=True)
    assert float(state["param_groups"][0]["loss_avg"]) == pytest.approx(average, rel=1e-5)


def test_a_step_is_the_same_however_its_rows_are_cut(
    tmp_path: Path, logs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of 16 is four accumulated ones of 4; the last step has 8 rows."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(monkeypatch, *logs, "--output_dir", whole)
    batches = ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "4"]
    run(monkeypatch, *logs, *batches, "--output_dir", parts)
    assert_same_run(whole, parts, 2e-4)


def test_with_its_adaptation_switched_off_momo_adam_is_adam(
    tmp_path: Path, logs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    off = ["--optim_args", "lower_bound=-1e12"]
    run(monkeypatch, *logs, *off, "--output_dir", tmp_path / "momo_adam")
    run(monkeypatch, *logs, "--optim", "adamw_torch", "--output_dir", tmp_path / "adamw")
    assert_same_run(tmp_path / "momo_adam", tmp_path / "adamw", 2e-4)


def test_schedule_clipping_and_other_optimizers(
    tmp_path: Path, logs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = ["--lr_scheduler_type", "cosine", "--warmup_steps", "4", "--max_steps", "20"]
    sgd = ["--optim", "sgd", "--sgd_momentum", "0.9", "--sgd_dampening", "0.9", "--max_grad_norm", "0.5"]
    run(monkeypatch, *logs, *schedule, *sgd, "--gradient_accumulation_steps", "2", "--output_dir", tmp_path / "sgd")
    record = read_json(tmp_path / "sgd" / "record.json")
    # 20 steps of 32 rows are more than two passes.
    expected = [1e-2 * min(step / 4, 0.5 + 0.5 * math.cos(math.pi * (step - 4) / 16)) for step in range(20)]
    assert [entry["learning_rate"] for entry in record["curve"]] == pytest.approx(expected, abs=1e-9)
    assert record["rows"] == 2 * ROWS + 6 * 32
    run(monkeypatch, *logs, "--optim", "adagrad", "--bf16", "--output_dir", tmp_path / "adagrad")
    assert read_json(tmp_path / "adagrad" / "record.json")["optimizer"]["name"] == "Adagrad"


def killed_at(work: Callable[[], None]) -> int:
    """Run in a forked process and return the signal that ended it, 0 for none."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    deadline = time.monotonic() + 60
    while (done := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGTERM)
            return os.waitpid(pid, 0)[1]
        time.sleep(0.01)
    return done[1]


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# Threads of other tests exist, but the forked process needs none of them.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_killed_runs_go_on_as_if_they_had_not_been(
    tmp_path: Path, logs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run killed in the middle of a step and then while it saves a checkpoint resumes with the same command."""
    words = [*logs, "--num_train_epochs", "2", "--save_steps", "4", "--output_dir"]
    run(monkeypatch, *words, tmp_path / "unbroken")
    folder = tmp_path / "killed"

    def killed_in_step_10() -> None:
        steps = []

        def take_step(*args: Any) -> torch.Tensor:
            steps.append(1)
            if len(steps) == 10:
                kill_this_process()
            return original(*args)

        original = click_through_rate.take_step
        click_through_rate.take_step = take_step
        run(monkeypatch, *words, folder)

    def killed_while_it_saves_step_16() -> None:
        from click_through.checkpoints import LoopState

        write = LoopState.write

        def write_or_die(self: LoopState, path: Path) -> None:
            if self.global_step == 16:
                kill_this_process()
            write(self, path)

        LoopState.write = write_or_die
        run(monkeypatch, *words, folder)

    assert killed_at(killed_in_step_10) == signal.SIGKILL
    assert {path.name for path in folder.iterdir()} == {"checkpoint-8"}
    assert killed_at(killed_while_it_saves_step_16) == signal.SIGKILL
    assert {path.name for path in folder.iterdir()} == {"checkpoint-12", "checkpoint-16"}
    capsys.readouterr()
    run(monkeypatch, *words, folder)
    assert "resuming from checkpoint-12, after 192 rows" in capsys.readouterr().out
    assert_same_run(tmp_path / "unbroken", folder)
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-24"]


def test_resuming_needs_the_same_settings(tmp_path: Path, logs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*logs, "--save_steps", "4", "--max_steps", "8", "--output_dir", tmp_path / "run"]
    run(monkeypatch, *words)
    (tmp_path / "run" / "record.json").unlink()
    with pytest.raises(UsageError, match=r"trained with learning_rate 0\.01, now it is 0\.1"):
        run(monkeypatch, *words, "--learning_rate", "0.1")
    with pytest.raises(UsageError, match="trained with rows of a step 16, now it is 32"):
        run(monkeypatch, *words, "--gradient_accumulation_steps", "2")
    # Other batches with the same rows a step, and more steps, do not prevent the resume.
    cut = ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2", "--max_steps", "9"]
    run(monkeypatch, *words, *cut)
    assert read_json(tmp_path / "run" / "record.json")["steps"] == 9
    with pytest.raises(UsageError, match="holds a finished run"):
        run(monkeypatch, *words)
    run(monkeypatch, *words, "--overwrite", "--learning_rate", "0.1", "--max_steps", "4")
    assert read_json(tmp_path / "run" / "record.json")["steps"] == 4
    (tmp_path / "run" / "checkpoint-4" / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="checkpoint-4 is incomplete: there are no model weights"):
        run(monkeypatch, *words, "--overwrite", "--resume_from_checkpoint", tmp_path / "run" / "checkpoint-4")


def test_two_processes_are_one(tmp_path: Path, logs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with batches of 4, two a step, train as one with batches of 16; 57 rows leave one short."""
    run(monkeypatch, *logs, "--output_dir", tmp_path / "one")
    batches = ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"]
    words = ["--config", CONFIG, *TINY, *logs, *batches, "--per_device_eval_batch_size", "10"]
    launch("ddp", SCRIPT, *words, "--output_dir", tmp_path / "two", cwd=tmp_path)
    assert read_json(tmp_path / "two" / "record.json")["hardware"]["processes"] == 2
    assert_same_run(tmp_path / "one", tmp_path / "two", 2e-4)


@pytest.mark.parametrize("optim", MOMO)
def test_every_optimizer_trains(tmp_path: Path, logs: list[str], monkeypatch: pytest.MonkeyPatch, optim: str) -> None:
    """``momo_lion`` has betas and no epsilon, which was passed to it all the same and refused."""
    run(monkeypatch, *logs, "--optim", optim, "--max_steps", "2", "--output_dir", tmp_path / "run")
    assert math.isfinite(read_json(tmp_path / "run" / "all_results.json")["eval_loss"])


REFUSALS = {
    "an unknown optimizer": (["--optim", "adam"], f"--optim adam: must be one of {NAMES}, adamw_torch"),
    "the wrapper": (["--optim", "momo_wrapper"], f"--optim momo_wrapper: must be one of {NAMES}, adamw_torch"),
    "an unknown option": (["--optim_args", "bound=1"], "momo_adam has no option 'bound'; it has"),
    "a beta of 1": (["--adam_beta1", "1"], "betas"),
    "options of others": (["--optim", "sgd", "--optim_args", "x=1"], f"only for {NAMES}, not sgd"),
    "an unknown schedule": (["--lr_scheduler_type", "cosin"], "must be one of constant, constant_with_warmup"),
    "a schedule without an end": (["--lr_scheduler_type", "cosine"], "give --max_steps"),
    "a warm-up of a constant": (["--warmup_steps", "5"], "use constant_with_warmup"),
    "no steps": (["--max_steps", "0"], "--max_steps 0: must be 1 or more, or -1"),
    "no batch": (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size 0: must be 1 or more"),
    "too few tables": (["--hash_sizes", "5", "6"], "must be one or 26 numbers"),
    "no folder": (["--output_dir", ""], "--output_dir is not set"),
    "a file that is not there": (["--train_files", "no.tsv"], "no.tsv does not exist"),
    "two readers": (["--dataloader_num_workers", "2"], "the log is one stream; give 0 or 1"),
    "a model that is not there": (["--model_name_or_path", "./nowhere"], "no saved DLRM"),
    "nothing to do": (["--do_train", "0", "--do_eval", "0", "--do_predict", "0"], "nothing to do"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_bad_settings_are_refused_before_training(
    tmp_path: Path, logs: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    words, message = REFUSALS[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(message)):
        run(monkeypatch, *logs, "--output_dir", "run", *words)
    assert not (tmp_path / "run").exists()
