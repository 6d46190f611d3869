import json
from dataclasses import asdict, replace

import pytest

from hf_momo.sweep.grid import parse_grid
from hf_momo.sweep.settings import Sweep, check_script, describe_difference, is_greater_better
from hf_momo.utils.errors import UsageError

GRID = parse_grid("momo,sgd", ["1:100:decades", "sgd=0.1"], "0,1", ["beta=0.8,0.9"])
SWEEP = Sweep("train.py", ["--max_steps", "100", "--fp16"], [], False, GRID, "eval_loss", False)


def difference(**changes):
    return describe_difference(SWEEP.script_settings("momo"), replace(SWEEP, **changes).script_settings("momo"))


def test_a_sweep_is_read_as_it_was_written():
    sweep = replace(SWEEP, own_arguments=[["momo", "--optim_args=lower_bound=auto"]])
    content = json.loads(json.dumps(asdict(sweep)))
    assert Sweep.from_json(content) == sweep and Sweep.from_json(content).grid.runs == sweep.grid.runs
    # One that was written before optimizers could have arguments of their own.
    del content["own_arguments"]
    assert Sweep.from_json(content) == replace(SWEEP, own_arguments=())
    # One whose options were pairs.
    for variant in content["grid"]["variants"]:
        variant["options"] = [list(pair) for pair in variant["options"].items()]
    assert Sweep.from_json(content).grid.runs == SWEEP.grid.runs


def test_same_settings_do_not_differ():
    assert difference() is None
    assert difference(arguments=("--fp16", "--max_steps=100")) is None
    assert difference(grid=parse_grid("lion", ["1"], "5", []), metric="eval_bleu") is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"arguments": ("--max_steps", "200", "--fp16")}, "--max_steps 100 before, --max_steps 200 now"),
        ({"arguments": ("--max_steps", "100")}, "--fp16 before, nothing now"),
        ({"arguments": (*SWEEP.arguments, "--bf16")}, "nothing before, --bf16 now"),
        ({"arguments": ("--max_steps", "100", "--fp16", "false")}, "--fp16 before, --fp16 false now"),
        ({"arguments": ("config.yaml", *SWEEP.arguments)}, "SCRIPT train.py before, SCRIPT train.py config.yaml now"),
        ({"script": "other.py"}, "SCRIPT train.py before, SCRIPT other.py now"),
        ({"plain": True}, "no --plain before, --plain now"),
        ({"own_arguments": (("momo", "--beta=0.5"),)}, "nothing before, --beta 0.5 now"),
        ({"own_arguments": (("sgd", "--beta=0.5"),)}, None),
        ({"launcher": ("accelerate", "launch")}, "--launcher '' before, --launcher 'accelerate launch' now"),
        ({"arguments": (*SWEEP.arguments, "--fp16", "no")}, "--fp16 before, --fp16 --fp16 no now"),
        ({"script": "a.py", "plain": True}, "no --plain before, --plain now; SCRIPT train.py before, SCRIPT a.py now"),
    ],
)
def test_differences_are_named(changes, text):
    assert difference(**changes) == text


def test_commands(tmp_path):
    import sys

    run = SWEEP.grid.runs[0]
    swept = ["--optim", "momo", "--learning_rate", "1.0", "--seed", "0", "--beta", "0.8", "--output_dir", "out"]
    arguments = ["train.py", "--max_steps", "100", "--fp16", *swept]
    assert SWEEP.command(run, "out") == [sys.executable, "-m", "hf_momo", "run", *arguments]
    assert replace(SWEEP, plain=True).command(run, "out") == [sys.executable, *arguments]
    own = replace(SWEEP, plain=True, own_arguments=(("sgd", "--x=1"), ("momo", "--y=a=b")))
    assert own.command(run, "out")[1:6] == ["train.py", "--max_steps", "100", "--fp16", "--y=a=b"]
    launched = replace(SWEEP, launcher=("accelerate", "launch"))
    assert launched.command(run, "out") == ["accelerate", "launch", "-m", "hf_momo", "run", *arguments]


def test_what_cannot_be_started_is_refused(tmp_path):
    script = tmp_path / "train.py"
    with pytest.raises(UsageError, match=r"SCRIPT: got '.*train\.py', must be a Python file"):
        check_script(replace(SWEEP, script=str(script)))
    script.write_text("")
    sweep = replace(SWEEP, script=str(script))
    check_script(sweep)
    with pytest.raises(UsageError, match=r"--optim: got 'momo_adma', .* \(did you mean momo_adam\?\)"):
        check_script(replace(sweep, grid=parse_grid("momo_adma,adamw_torch", ["1"], "0", [])))
    check_script(replace(sweep, plain=True, grid=parse_grid("my_own", ["1"], "0", [])))
    with pytest.raises(UsageError, match="--launcher: got 'torchrum -n 2', but there is no command 'torchrum'"):
        check_script(replace(sweep, launcher=("torchrum", "-n", "2")))
    for words in (("--seed", "1"), ("--learning-rate=1",), ("--output_dir", "x"), ("--beta", "0.5")):
        with pytest.raises(UsageError, match=f"ARGS: got {words[0]}, which the sweep sets for every run"):
            check_script(replace(sweep, arguments=words))
    for words in (("--hub_token", "hf_abc"), ("--hub-token=hf_abc",)):
        with pytest.raises(UsageError, match=r"--hub_token.*set HF_TOKEN instead") as refused:
            check_script(replace(sweep, arguments=words))
        assert "hf_abc" not in str(refused.value)


def test_direction_of_metrics():
    greater = ["eval_bleu", "eval_accuracy", "predict_rougeL", "eval_lossless_ratio", "eval_f1"]
    lower = ["eval_loss", "perplexity", "eval_wer", "eval_TER", "predict_mse", "train_loss"]
    assert [is_greater_better(metric) for metric in greater + lower] == [True] * 5 + [False] * 6


def test_the_metric_of_a_report():
    other = SWEEP.with_metric("eval_bleu", None)
    assert (other.metric, other.greater_is_better) == ("eval_bleu", True)
    assert SWEEP.with_metric(None, None) == SWEEP == SWEEP.with_metric("eval_loss", None)
    assert SWEEP.with_metric(None, "true").greater_is_better is True
    assert SWEEP.with_metric("eval_bleu", "false").greater_is_better is False
