"""What the command refuses, and how it reads its words."""

import pytest
from sweep.commands import METRIC, SCRIPT, records, sweep


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((SCRIPT, "--optim", "sgd", "--learning_rate", "1"), "--metric is missing; usage: hf-momo sweep SCRIPT"),
        (("--optim", "sgd", "--learning_rate", "1", *METRIC), "SCRIPT is missing"),
        ((SCRIPT, "--optim", "sgd", "--learning_rate", "1:2:x", *METRIC), "--learning_rate: got '1:2:x', must end in"),
        (
            (SCRIPT, "--optim", "sgd", "--learning_rate", "1", *METRIC, "--jobs", "0"),
            "--jobs: got '0', must be a whole",
        ),
        ((SCRIPT, "--optim", "sgd", "--learning_rate", "1", *METRIC, "--launcher", "a 'b"), "--launcher: got"),
        (
            (SCRIPT, "--optim", "sgd", "--learning_rate", "1", *METRIC, "--", "--optim", "x"),
            "ARGS: got --optim, which",
        ),
        (
            (SCRIPT, "--optim", "sgd", "--learning_rate", "1", *METRIC, "--set", "momo_adam:max_steps=1"),
            "--set: got 'momo_adam:max_steps=1', but 'momo_adam' is not among the optimizers sgd",
        ),
        *(
            (
                (SCRIPT, "--optim", "sgd", "--learning_rate", "1", *METRIC, "--set", text),
                f"--set: got '{text}', must be OPTIM:NAME=VALUE",
            )
            for text in ("max_steps=1", "sgd:max_steps", "sgd:=1", "sgd")
        ),
        (
            (SCRIPT, "--optim", "sgd", "--learning_rate", "1", *METRIC, "--set", "sgd:seed=1"),
            "ARGS: got --seed=1, which the sweep sets for every run",
        ),
        (("--report", "nowhere"), "nowhere holds no sweep"),
        (("--report", "nowhere", "--optim", "sgd"), "--report goes with --metric, --greater_is_better and --storage"),
    ],
)
def test_bad_commands_are_one_line(folder, undrawn, capsys, words, message):
    assert sweep(*words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"hf-momo sweep: error: {message}") and len(captured.err.splitlines()) == 1
    assert not folder.exists()


def test_a_folder_with_something_else_is_left_alone(folder, undrawn, capsys):
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("x")
    words = (SCRIPT, "--optim", "sgd", "--learning_rate", "1", *METRIC)
    assert sweep(*words) == 2
    assert "holds other files and no sweep; give a new folder" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    assert sweep(*words, "--output_dir", folder / "thesis.tex") == 2
    assert "which is a file or a broken link; give a folder" in capsys.readouterr().err


def test_words_after_the_dashes_are_the_scripts(folder, undrawn):
    """Those that look like the sweep's own too, and with SCRIPT in any place."""
    words = ("--optim", "sgd", "--learning_rate", "1", *METRIC, SCRIPT, "--", "--max_steps", "2", "--", "--jobs")
    assert sweep(*words) == 0
    (record,) = records(folder).values()
    assert record["arguments"] == ["--max_steps", "2", "--", "--jobs"] and record["seed"] == 42
