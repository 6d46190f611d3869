"""A sweep whose arguments stand in a file."""

import json
from pathlib import Path

import pytest
from sweep.commands import SCRIPT, records, sweep

STUDY = f"""
script: {SCRIPT}
plain: true
optim: [momo_adam, sgd]
learning_rate:
  momo_adam: 1e-3:1e-2:decades
  sgd: [1e-3]
seed: [0, 1]
grid:
  weight_decay: 0,0.1
metric: eval_accuracy
greater_is_better: true
jobs: 2
arguments:
  max_steps: 3
"""


@pytest.fixture
def study(folder, undrawn):
    path = folder.parents[1] / "study.yaml"
    path.write_text(STUDY)
    return path


def points(found):
    return sorted({(record["optim"], record["learning_rate"], record["seed"]) for record in found.values()})


def test_the_file_is_the_command(study):
    assert sweep("--config", study) == 0
    found = records(study.parent / "sweeps" / "study")
    assert points(found) == [
        *(("momo_adam", rate, seed) for rate in (1e-3, 1e-2) for seed in (0, 1)),
        *(("sgd", 1e-3, seed) for seed in (0, 1)),
    ]
    assert sorted({record["options"]["weight_decay"] for record in found.values()}) == ["0", "0.1"]
    assert {record["plain"] for record in found.values()} == {True}
    assert {tuple(record["arguments"]) for record in found.values()} == {("--max_steps", "3")}
    # The same in words goes on with the same sweep: nothing is run again, and nothing refused.
    before = {path: path.stat().st_mtime_ns for path in Path("sweeps", "study").rglob("run.json")}
    words = (SCRIPT, "--plain", "--optim", "momo_adam,sgd", "--learning_rate", "momo_adam=1e-3,1e-2")
    more = ("--learning_rate", "sgd=1e-3", "--seed", "0,1", "--grid", "weight_decay=0,0.1")
    end = ("--metric", "eval_accuracy", "--output_dir", Path("sweeps", "study"), "--", "--max_steps", "3")
    assert sweep(*words, *more, *end) == 0
    assert before == {path: path.stat().st_mtime_ns for path in Path("sweeps", "study").rglob("run.json")}


def test_the_command_line_wins(study, folder):
    words = ("--optim", "sgd", "--seed", "7", "--grid", "weight_decay=0.5", "--learning_rate", "sgd=1e-4")
    assert sweep("--config", study, *words, "--output_dir", folder, "--", "--max_steps", "2", "--seconds", "0") == 0
    (record,) = records(folder).values()
    assert points({"": record}) == [("sgd", 1e-4, 7)]
    assert record["options"] == {"weight_decay": "0.5"}
    assert record["arguments"] == ["--max_steps", "2", "--seconds", "0"]


def test_one_rate_on_the_command_line_is_for_all(study, folder):
    words = ("--learning_rate", "1e-5", "--seed", "0", "--grid", "weight_decay=0")
    assert sweep("--config", study, *words, "--output_dir", folder) == 0
    assert points(records(folder)) == [("momo_adam", 1e-5, 0), ("sgd", 1e-5, 0)]


def test_an_argument_for_one_optimizer(study, folder, capsys):
    """AdamW refuses MoMo's ``optim_args``, so a bound for MoMo could not stand in a comparison with AdamW."""
    study.write_text(
        f"{STUDY.replace('seed: [0, 1]', 'seed: 0').replace('weight_decay: 0,0.1', 'weight_decay: 0')}"
        "set:\n  momo_adam:\n    max_steps: 7\n  sgd:\n    seconds: 0\n"
    )
    command = ("--config", study, "--output_dir", folder)
    assert sweep(*command, "--optim", "sgd", "--learning_rate", "sgd=1e-3") == 0
    assert "momo_adam with" not in capsys.readouterr().out
    assert sweep(*command, "--set", "sgd:seconds=0") == 0
    assert "\nmomo_adam with --max_steps=7\nsgd with --seconds=0\n" in capsys.readouterr().out
    arguments = {record["optim"]: record["arguments"] for record in records(folder).values()}
    common = ["--max_steps", "3"]
    assert arguments == {"momo_adam": [*common, "--max_steps=7"], "sgd": [*common, "--seconds=0"]}
    steps = {record["optim"]: len(history(folder, path)) for path, record in records(folder).items()}
    assert steps == {"momo_adam": 7, "sgd": 3}
    # A run with another value is another run, for that optimizer alone.
    assert sweep(*command, "--set", "momo_adam:max_steps=8") == 2
    assert "momo_adam/" in (message := capsys.readouterr().err) and "--max_steps 3 --max_steps 7 before" in message


def history(folder, run):
    state = folder / run / "output" / "trainer_state.json"
    return json.loads(state.read_text())["log_history"]


@pytest.mark.parametrize("text", ["momo_adam", "[momo_adam]", "{momo_adam: max_steps}", "{sgd: {max_steps: [1, 2]}}"])
def test_what_is_no_mapping_of_optimizers_is_refused(study, folder, capsys, text):
    study.write_text(f"{STUDY}set: {text}\n")
    assert sweep("--config", study, "--output_dir", folder) == 2
    message = capsys.readouterr().err
    assert "must be `name: value` lines" in message or "max_steps: got ['1', '2'], must be one value" in message


def test_numbers_stand_in_the_file_as_on_the_command_line(study, folder):
    study.write_text(
        f"script: {SCRIPT}\nplain: true\noptim: sgd\nlearning_rate: 1:10:2\nseed: 010\nmetric: eval_accuracy\n"
        "arguments: [--max_steps, 1, --weight_decay=-0.5]\n"
    )
    assert sweep("--config", study, "--output_dir", folder) == 0
    found = records(folder)
    assert points(found) == [("sgd", 1.0, 10), ("sgd", 10.0, 10)]
    assert next(iter(found.values()))["arguments"] == ["--max_steps", "1", "--weight_decay=-0.5"]


def test_negative_values_and_flags_reach_the_script(study, folder):
    text = STUDY.replace("max_steps: 3", "max_steps: 3\n  eta-min: -0.5\n  do_train:\n  files: [a, b]")
    study.write_text(text)
    sweep("--config", study, "--output_dir", folder, "--optim", "sgd", "--seed", "0")
    (arguments,) = {tuple(record["arguments"]) for record in records(folder).values()}
    assert arguments == ("--max_steps", "3", "--eta-min=-0.5", "--do_train", "--files", "a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optims: sgd", "optims is no key of a study (did you mean optim?); it takes script, optim"),
        ("- optim", "must hold `name: value` lines, not a list"),
        ("a: [", "is not YAML: while parsing"),
        ("optim: {a: b}", "optim: got {'a': 'b'}, must be one value, or a list of values"),
        ("metric: [a]", "metric: got ['a'], must be one value"),
        ("plain: yes", "plain: got 'yes', must be true or false"),
        ("arguments: word", "arguments: got 'word', must be `name: value` lines"),
        ("arguments: {a: {b: c}}", "arguments: a: got {'b': 'c'}, must be one value, or a list of values"),
        ("grid: [a]", "grid: got ['a'], must be `name: value` lines"),
        ("optim: a\nlearning_rate: {a: {b: c}}", "learning_rate: a: got {'b': 'c'}, must be one value, or a list"),
        ("optim: a", "SCRIPT is missing; usage: hf-momo sweep SCRIPT"),
    ],
)
def test_bad_files_are_one_line(study, capsys, text, message):
    study.write_text(text)
    assert sweep("--config", study) == 2
    captured = capsys.readouterr()
    assert message in captured.err and len(captured.err.splitlines()) == 1
    assert not (study.parent / "sweeps").exists()


def test_a_missing_file_and_a_report_are_refused(study, capsys):
    assert sweep("--config", "nowhere.yaml") == 2
    assert "--config nowhere.yaml: No such file" in capsys.readouterr().err
    assert sweep("--config", study, "--report", "nowhere") == 2
    assert "--report goes with --metric" in capsys.readouterr().err
