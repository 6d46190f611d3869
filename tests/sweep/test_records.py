import json
import math
from dataclasses import asdict

import pytest

from hf_momo.sweep.records import Outcome, collect, describe_exit, read_history


def run_folder(folder, results=None, history=None, log="", status=0):
    """A run's folder as it is right after the script has ended, collected."""
    (folder / "output").mkdir()
    (folder / "log.txt").write_text(log)
    if results is not None:
        (folder / "output" / "all_results.json").write_text(json.dumps(results))
    if history is not None:
        (folder / "output" / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    return collect(folder, status).judge("eval_bleu")


def test_done(tmp_path):
    assert run_folder(tmp_path, {"eval_bleu": 31, "eval_loss": 2.0}, [{"loss": 2.5, "step": 1}]) == Outcome("done", 31)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_finite_diverged(tmp_path, value):
    outcome = run_folder(tmp_path, {"eval_bleu": value})
    assert outcome == Outcome("diverged", reason="eval_bleu is not finite")
    # Strict JSON, which has no NaN, for other programs to read.
    json.loads(json.dumps(asdict(collect(tmp_path, 0))), parse_constant=pytest.fail)


def test_a_loss_that_ends_not_finite_diverged(tmp_path):
    """A generating model with weights of NaN still has a BLEU of 0."""
    losses = [3.0, math.nan, 2.0, math.nan, math.nan]
    history = [{"loss": loss, "step": 10 * number} for number, loss in enumerate(losses)]
    outcome = run_folder(tmp_path, {"eval_bleu": 0.0}, history)
    assert outcome == Outcome("diverged", reason="loss is nan from step 30 on")


@pytest.mark.parametrize("key", ["eval_loss", "train_loss"])
def test_a_loss_among_the_results_that_is_not_finite_diverged(tmp_path, key):
    assert run_folder(tmp_path, {"eval_bleu": 0.0, key: math.nan}) == Outcome("diverged", reason=f"{key} is nan")


def test_a_loss_that_recovered_did_not_diverge(tmp_path):
    """MoMo and gradient scaling skip a batch whose loss is not finite."""
    history = [{"loss": math.nan, "step": 1}, {"loss": 2.0, "step": 2}, {"eval_loss": 2.0, "step": 2}]
    assert run_folder(tmp_path, {"eval_bleu": 12.5}, history).status == "done"


@pytest.mark.parametrize(
    ("status", "log", "reason"),
    [
        (1, "step 1\nValueError: no data\n\n", "exit status 1: ValueError: no data"),
        (1, "", "exit status 1"),
        (137, "10%|#\r20%|##", "exit status 137 (SIGKILL; out of memory?): 20%|##"),
        (139, b"\xff\xfe torn".decode(errors="replace"), "exit status 139 (SIGSEGV): \ufffd\ufffd torn"),
    ],
)
def test_crashed(tmp_path, status, log, reason):
    """Results of a script that failed afterwards do not count."""
    outcome = run_folder(tmp_path, {"eval_bleu": 30.0}, log=log, status=status)
    assert outcome == Outcome("crashed", reason=reason)


def test_the_error_of_the_script_and_not_of_its_launcher(tmp_path):
    log = (
        "[rank1]: Traceback (most recent call last):\n"
        "[rank1]: torch.OutOfMemoryError: tried to allocate 2 GiB\n"
        "Root Cause (first observed failure):\n"
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:\n"
        "subprocess.CalledProcessError: Command 'python' returned non-zero exit status 1.\n"
    )
    outcome = run_folder(tmp_path, log=log, status=1)
    assert outcome.reason == "exit status 1: [rank1]: torch.OutOfMemoryError: tried to allocate 2 GiB"


def test_no_results_is_a_crash(tmp_path):
    outcome = run_folder(tmp_path, log="nothing to do\n")
    assert outcome == Outcome("crashed", reason="left no all_results.json in its --output_dir: nothing to do")


@pytest.mark.parametrize("content", ['{"eval_bleu": 3', "[3]", "\x00"])
def test_results_that_are_no_json_are_called_so(tmp_path, content):
    """They were reported as missing, while the file was there."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "all_results.json").write_text(content)
    record = collect(tmp_path, 0)
    assert record.results is None and "the file there is no JSON object" in record.judge("eval_bleu").reason


@pytest.mark.parametrize("results", [{"eval_loss": 1.0}, {"eval_bleu": "high"}])
def test_no_metric(tmp_path, results):
    assert run_folder(tmp_path, results).status == "no metric"


def test_another_metric_is_judged_anew(tmp_path):
    run_folder(tmp_path, {"eval_bleu": math.nan, "eval_chrf": 40.0, "note": "x"})
    record = collect(tmp_path, 0)
    assert record.judge("eval_chrf") == Outcome("done", 40.0)
    assert record.judge("eval_ter").status == "no metric"
    assert read_history(tmp_path) == []


def test_statuses_in_words():
    assert [describe_exit(status) for status in (1, 143, 255)] == [
        "exit status 1",
        "exit status 143 (SIGTERM)",
        "exit status 255",
    ]
