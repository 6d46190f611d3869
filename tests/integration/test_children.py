"""Python processes started beneath ``hf-momo run`` know the optimizers too, and only those."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hf_momo import cli

SCRIPT = Path(__file__).with_name("stock_script.py")
CHILDREN = str(Path(cli.__file__).with_name("children"))
WORDS = ["--use_cpu", "--report_to", "none", "--logging_steps", "1", "--save_strategy", "no", "--max_steps", "4"]
WORDS += ["--optim", "momo_adam", "--gradient_accumulation_steps", "2", "--output_dir"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def launch(*words: str, check: bool = True, path: str = "", cwd: Path | None = None) -> Any:
    """Start a process whose ``PYTHONPATH`` begins with the folders of ``path``."""
    paths = [path, ENVIRONMENT.get("PYTHONPATH", "")]
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(each for each in paths if each)}
    done = subprocess.run(words, env=environment, cwd=cwd, capture_output=True, text=True, timeout=400, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def run(*words: str, check: bool = True) -> Any:
    return launch(sys.executable, "-m", "hf_momo", "run", *words, check=check)


def history(folder: Path) -> list[dict[str, float]]:
    state = json.loads((folder / "trainer_state.json").read_text())
    return [{key: entry[key] for key in ("loss", "step_size")} for entry in state["log_history"] if "loss" in entry]


@pytest.fixture(scope="module")
def by_one_process(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """The curve of a script that ``hf-momo run`` runs in its own process."""
    folder = tmp_path_factory.mktemp("one")
    run(str(SCRIPT), "--per_device_train_batch_size", "4", *WORDS, str(folder))
    assert len(history(folder)) == 4
    return history(folder)


def test_a_shell_script(tmp_path: Path, by_one_process: Any) -> None:
    """The examples of many programs are shell scripts; the script of this one is a child of a child."""
    shell = tmp_path / "train.sh"
    shell.write_text(f'#!/bin/sh\n{sys.executable} -m accelerate.commands.launch --num_processes 1 {SCRIPT} "$@"\n')
    shell.chmod(0o755)
    run(str(shell), "--per_device_train_batch_size", "4", *WORDS, str(tmp_path / "out"))
    assert history(tmp_path / "out") == by_one_process


def test_two_processes_of_a_command(tmp_path: Path, by_one_process: Any) -> None:
    """``torchrun`` is a console command, and its processes are Python's."""
    words = ["--per_device_train_batch_size", "2", *WORDS, str(tmp_path)]
    run("torchrun", "--standalone", "--nproc_per_node", "2", str(SCRIPT), *words)
    for two, one in zip(history(tmp_path), by_one_process, strict=True):
        assert two["step_size"] == pytest.approx(one["step_size"], rel=1e-5)
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-2)  # each process draws its own dropout


SPAWNING = """\
import multiprocessing, sys

def look():
    from transformers.training_args import OptimizerNames
    print([name.value for name in OptimizerNames if "momo" in name.value], flush=True)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=look)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


@pytest.mark.parametrize(("flags", "known"), [([], True), (["--no_children"], False)])
def test_a_process_of_multiprocessing(tmp_path: Path, flags: list[str], known: bool) -> None:
    """A script without arguments ended in a traceback: the look for ``--optim`` failed where there are no words."""
    script = tmp_path / "spawning.py"
    script.write_text(SPAWNING)
    output = run(*flags, str(script)).stdout
    assert ("momo_adam" in output) is known


LOOK = """
from transformers import HfArgumentParser, Trainer, TrainingArguments
(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(
    ["--output_dir", "out", "--use_cpu", "--optim", "momo_adam"]
)
assert args.learning_rate == 0.01
assert Trainer.get_optimizer_cls_and_kwargs(args)[0].__name__ == "MomoAdam"
assert hasattr(Trainer.__init__, "__wrapped__")
"""


@pytest.mark.parametrize(
    "first", ["transformers.trainer_callback", "transformers.trainer_seq2seq", "peft", "trl.trainer.sft_config"]
)
def test_whatever_is_imported_first(first: str) -> None:
    """Each of these is half loaded when it brings in a module that is changed, and must not be imported then."""
    package = first.partition(".")[0]
    pytest.importorskip(package, reason=f"needs {package}")
    done = launch(sys.executable, "-c", f"import {first}{LOOK}", path=CHILDREN)
    assert "warning: " not in done.stderr.replace("FutureWarning: ", "")


def test_a_process_that_does_not_train_loads_nothing(tmp_path: Path) -> None:
    """The folder is not left on ``sys.path``, and the user's own startup file runs as if there were no other."""
    (tmp_path / "sitecustomize.py").write_text("import builtins\nbuiltins.own = True\n")
    code = "import sys, sitecustomize; print(own, sitecustomize.__file__, 'hf_momo' in sys.modules, *sys.path)"
    own, file, loaded, *folders = launch(
        sys.executable, "-c", code, path=os.pathsep.join([CHILDREN, str(tmp_path)])
    ).stdout.split()
    assert (own, file, loaded) == ("True", str(tmp_path / "sitecustomize.py"), "False")
    assert CHILDREN not in folders


def test_the_error_of_a_startup_file_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import no_such_module\n")
    done = launch(sys.executable, "-c", "print(1)", path=os.pathsep.join([CHILDREN, str(tmp_path)]))
    alone = launch(sys.executable, "-c", "print(1)", path=str(tmp_path))
    assert done.stdout == alone.stdout == "1\n"
    assert done.stderr.splitlines()[-1] == alone.stderr.splitlines()[-1] != ""


def test_a_python_without_hf_momo_goes_on(tmp_path: Path) -> None:
    """A program may start another Python, whose transformers is not for us to change."""
    for name, text in {"hf_momo": "raise ImportError('not here')", "transformers": ""}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    (tmp_path / "transformers" / "training_args.py").write_text("value = 7\n")
    code = "from transformers.training_args import value; print(value)"
    # With -c the working directory comes first on the path, and that of the tests holds hf_momo.
    done = launch(sys.executable, "-c", code, path=os.pathsep.join([CHILDREN, str(tmp_path)]), cwd=tmp_path)
    assert done.stdout == "7\n"
    expected = f"{sys.executable} does not know the optimizers of hf_momo (ImportError: not here)"
    assert done.stderr == f"hf-momo run: warning: {expected}\n"


def test_the_flag_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    assert "--no_children" in capsys.readouterr().out
