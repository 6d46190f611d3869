"""Mistakes and broken surroundings: one line, a status other than 0, and nothing lost."""

import io
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path

import pytest
from sweep.commands import METRIC, SCRIPT, records, sweep

# Somebody without rights may not be able to load the rest of Python.
import_module("hf_momo.sweep.runs")
ONE = (SCRIPT, "--optim", "sgd", "--learning_rate", "1e-3", "--seed", "0", *METRIC)


@contextmanager
def unprivileged():
    """The rights of nobody, since root may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that every user may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def error_of(capsys):
    """The one line of an error."""
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("hf-momo sweep: error: ")]
    assert errors == lines[-1:], lines
    return errors[0]


def below_a_file(folder):
    (folder / "file").write_text("")
    return folder / "file" / "sweep", "Not a directory"


def dangling_link(folder):
    (folder / "link").symlink_to(folder / "nowhere")
    return folder / "link", "which is a file or a broken link"


def read_only(folder):
    folder.chmod(0o555)
    return folder / "sweep", "Permission denied"


def long_name(folder):
    return folder / ("x" * 300), "File name too long"


@pytest.mark.parametrize("kind", [below_a_file, dangling_link, read_only, long_name])
def test_an_output_folder_that_cannot_be_written_is_found_before_the_first_run(open_folder, capsys, kind):
    """They were tracebacks."""
    output, message = kind(open_folder)
    with unprivileged() if kind is read_only else nullcontext():
        assert sweep(*ONE, "--output_dir", output) == 2
    error = error_of(capsys)
    assert "--output_dir: " in error and message in error


def test_a_full_disk_ends_the_sweep_and_the_same_command_goes_on(open_folder, undrawn, capsys):
    """A traceback, and a journal with half a line that nothing could read any more."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", open_folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        output = open_folder / "sweep"
        command = (SCRIPT, "--optim", "sgd", "--learning_rate", "1e-3:1:decades", *METRIC, "--output_dir", output)
        (open_folder / "ballast").write_bytes(bytes(216 * 1024))
        assert sweep(*command) == 2
        assert "No space left on device" in error_of(capsys)
        (open_folder / "ballast").unlink()
        assert sweep(*command, "--retry_failed") == 0
        assert sorted(record["status"] for record in records(output).values()) == ["diverged"] + ["done"] * 3
    finally:
        subprocess.run(["umount", open_folder], check=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--grid", f"optim_args={'a' * 300}"), "--grid: the folder optim_args_aaaa"),
        (("--grid", f"optim_args={'ä' * 150}"), "a name of 311 bytes; a file system takes at most 255"),
        (("--optim", "a" * 256), "--optim: the folder aaaa"),
        (("--optim", "momo_adma", "--sampler", "grid"), "which neither hf_momo nor transformers has (did you mean"),
        (("--sampler", "random"), "--sampler: got 'random', must be grid without --trials, or tpe with --trials N"),
        (("--sampler", "tpe"), "--sampler: got 'tpe', must be"),
        (("--trials", "3"), "--sampler: got 'grid', must be"),
        (("--sampler", "tpe", "--trials", "3"), "--learning_rate: got '1e-3', must be the range LOW:HIGH of a search"),
        (("--storage", "oracle://x"), "--storage: "),
        (("--storage", "postgresql+psycopg://me:secret@localhost:1/x"), "--storage: "),
        (("--storage", SCRIPT), "is not JSON of Optuna's journal"),
    ],
)
def test_values_that_cannot_work_are_found_before_the_first_run(folder, capsys, words, message, monkeypatch):
    monkeypatch.setattr("hf_momo.sweep.storage.PATIENCE_FOR_DATABASE", 0.5)
    plain = ONE[:-1] if "momo_adma" in words else ONE
    assert sweep(*plain, *words) == 2
    error = error_of(capsys)
    assert message in error and "secret" not in error
    assert not records(folder)


def test_an_optimizer_that_the_script_refuses_stops_the_sweep(folder, undrawn, tmp_path, capsys):
    """With --plain only the script knows its optimizers; all runs of a misspelt one crashed, with status 0."""
    script = tmp_path / "choosy.py"
    script.write_text(
        "import argparse\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--optim', choices=['sgd', 'momo'])\n"
        "parser.parse_known_args()\n"
    )
    words = (script, "--optim", "sgdd", "--learning_rate", "1e-3:1:decades", *METRIC, "--output_dir", folder)
    for _ in range(2):
        assert sweep(*words) == 2
        error = error_of(capsys)
        assert f"--optim: got sgdd, which {script} does not take: choosy.py: error: argument --optim" in error
        assert "'sgd', 'momo'" in error or "sgd, momo" in error, "the names that there are"
    assert len(records(folder)) == 1


def test_a_metric_that_no_run_has_never_ends_with_status_0(folder, undrawn, capsys):
    """The second time, when the run had ended, the report was printed as if nothing was wrong."""
    for _ in range(2):
        assert sweep(*ONE, "--metric", "eval_bleu") == 2
        assert "it has eval_accuracy, eval_loss, train_runtime" in error_of(capsys)
    assert sweep("--report", folder, "--metric", "eval_bleu") == 2
    assert "it has eval_accuracy, eval_loss, train_runtime" in error_of(capsys)
    assert sweep("--report", folder, "--metric", "eval_accuracy") == 0


def test_a_sweep_of_the_format_before_is_refused(folder, capsys):
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text("{}")
    for words in (ONE, ("--report", folder)):
        assert sweep(*words) == 2
        assert "holds a sweep of an hf_momo before Optuna (sweep.json), which this" in error_of(capsys)


def test_a_journal_of_something_else(folder, capsys):
    folder.mkdir(parents=True)
    for content, message in (("hello", "is not JSON"), ('{"a": 1}', "is not JSON"), ("", "has no sweep")):
        (folder / "sweep.journal").write_text(content)
        assert sweep("--report", folder) == 2
        assert message in error_of(capsys)
        assert sweep(*ONE) == (2 if content else 0), "and nothing is cut off"
        assert not content or (folder / "sweep.journal").read_text() == content
        capsys.readouterr()


def test_a_report_on_a_read_only_folder(open_folder, undrawn, capsys):
    """Somebody else's sweep, which one may read; it was a traceback before the report was printed."""
    output = open_folder / "sweep"
    assert sweep(*ONE, "--output_dir", output) == 0
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    if os.geteuid() != 0:
        output.chmod(0o555)
    with unprivileged():
        assert sweep("--report", output) == 0
    output.chmod(0o755)
    captured = capsys.readouterr()
    assert "eval_accuracy (higher is better), 1 runs" in captured.out and "cannot be written to" in captured.err
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_a_report_on_an_ascii_terminal(folder, undrawn, monkeypatch):
    """The ± of the scores was a UnicodeEncodeError."""
    assert sweep(*ONE, "--seed", "0,1") == 0
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert sweep("--report", folder) == 0
    terminal.flush()
    assert b"0.9010+/-0.0014" in terminal.buffer.getvalue()


def test_a_reader_that_has_read_enough(folder, undrawn):
    """``hf-momo sweep --report FOLDER | head -1`` blamed the disk."""
    assert sweep(*ONE) == 0
    (folder / "report.md").unlink()
    command = f"set -o pipefail; {sys.executable} -m hf_momo sweep --report {folder} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and (folder / "report.md").exists()


def test_without_optuna_the_command_says_what_to_install(folder, monkeypatch, capsys):
    for name in ("hf_momo.sweep.runs", "hf_momo.sweep.trials", "hf_momo.sweep.storage"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "optuna.trial", None)
    assert sweep(*ONE) == 2
    assert "a sweep needs optuna.trial: install it with: pip install 'hf_momo[sweep]'" in error_of(capsys)
