import csv
import io
import json
import math
from pathlib import Path

import pytest

from hf_momo.optimizers.bounds import PILOT_SHARE
from hf_momo.sweep.grid import Run, parse_grid
from hf_momo.sweep.records import Outcome
from hf_momo.sweep.report import Report, describe_width, render_csv, render_markdown, render_text, suggest_bound
from hf_momo.sweep.settings import Sweep

MOMO, ADAMW = "momo_adam", "adamw_torch"
DIVERGED = Outcome("diverged", reason="loss is nan")


def report_of(rows, metric="eval_bleu", greater=True):
    """Rows of optimizer, learning rate and, by seed, scores or outcomes."""
    runs = [
        (Run(optim, {}, rate, seed), outcome if isinstance(outcome, Outcome) else Outcome("done", outcome))
        for optim, rate, outcomes in rows
        for seed, outcome in enumerate(outcomes)
    ]
    sweep = Sweep("train.py", (), (), False, parse_grid("momo_adam", ["1"], "0", []), metric, greater)
    return Report(sweep, Path(), runs)


def best_of(means, greater=True, unsound=()):
    """One seed; learning rates 1, 10, 100, ...; those in `unsound` have a second seed that diverged."""
    rows = [(MOMO, 10.0**k, [mean, *[DIVERGED] * (k in unsound)]) for k, mean in enumerate(means)]
    report = report_of(rows, greater=greater)
    best = report.bests[MOMO]
    return best, best and describe_width(best, report.points[MOMO])


def test_mean_and_sample_deviation():
    crashed = Outcome("crashed", reason="exit status 1")
    rows = [(MOMO, 1.0, [1.0, 2.0, 4.0]), (MOMO, 2.0, [1.0, DIVERGED, DIVERGED, crashed]), (MOMO, 3.0, [crashed])]
    whole, partial, failed = report_of(rows).points[MOMO]
    assert whole.mean == pytest.approx(7 / 3) and whole.deviation == pytest.approx(math.sqrt(7 / 3))
    assert (whole.lowest, whole.highest, whole.is_sound) == (1.0, 4.0, True)
    assert (partial.mean, partial.deviation, partial.is_sound) == (1.0, None, False)
    assert (partial.runs, partial.diverged, partial.crashed) == (4, 2, 1)
    assert (failed.mean, failed.lowest, failed.is_sound) == (None, None, False)


@pytest.mark.parametrize(
    ("means", "greater", "best", "low", "high"),
    [
        ([50, 99, 100, 99.5, 98.9], True, 100, 10, 1000),
        ([2.0, 1.009, 1.0, 1.011], False, 100, 10, 100),
        # What is close again beyond a gap is not round the best.
        ([99.9, 50, 100, 98], True, 100, 100, 100),
        # Exactly 1% is within it, whatever the rounding of the subtraction.
        ([0.99, 1.0, 0.989], True, 10, 1, 10),
        ([0.297, 0.3, 0.1], True, 10, 1, 10),
        # 1% of a negative score, too, is 1% of its size.
        ([-101, -100, -102], True, 10, 1, 10),
        ([5, 5, 5], True, 1, 1, 100),
        ([0.0, 0.0], True, 1, 1, 10),
    ],
)
def test_the_width_is_the_contiguous_range_around_the_best(means, greater, best, low, high):
    found, _ = best_of(means, greater)
    assert found.best_learning_rate == best
    assert (found.low, found.high) == (low, high)
    assert found.width_decades == pytest.approx(math.log10(high / low))


def test_a_rate_at_which_a_seed_diverged_is_neither_best_nor_within():
    """The mean of the seeds that survived is no result of that learning rate."""
    found, width = best_of([99.5, 100, 101, 100], unsound={2})
    assert (found.best_learning_rate, found.low, found.high) == (10, 1, 10)
    assert width == "1.0 or more (the grid ends below)"
    assert best_of([1, 2], unsound={0, 1}) == (None, None)


def test_the_width_says_what_the_grid_leaves_open():
    inside, text = best_of([1, 100, 100, 1])
    assert (inside.width_decades, inside.width_at_most) == (1, pytest.approx(3)) and text == "1.0 (< 3.0)"
    ends, text = best_of([100, 100, 1])
    assert ends.width_at_most is None and text == "1.0 or more (the grid ends below)"
    assert best_of([1, 100])[1] == "0.0 or more (the grid ends above)"
    assert best_of([100])[1] == "0.0 or more (the grid ends below and above)"


def rows_of(report, name):
    return list(csv.DictReader(io.StringIO(render_csv(report)[name])))


def test_tables():
    diverged, crashed = (
        Outcome("diverged", reason="loss is nan"),
        Outcome("crashed", reason="exit status 1: no memory"),
    )
    report = report_of(
        [
            (MOMO, 1e-3, [36.1, 36.3]),
            (MOMO, 1e-2, [36.2, 36.0]),
            (ADAMW, 1e-3, [35.0, 35.5]),
            (ADAMW, 1e-2, [20.0, diverged]),
            (ADAMW, 1e-1, [diverged, crashed]),
        ]
    )
    points = rows_of(report, "points.csv")
    assert [(row["optimizer"], row["learning_rate"], row["runs"]) for row in points] == [
        ("momo_adam", "0.001", "2"),
        ("momo_adam", "0.01", "2"),
        ("adamw_torch", "0.001", "2"),
        ("adamw_torch", "0.01", "2"),
        ("adamw_torch", "0.1", "2"),
    ]
    assert [row["mean"] for row in points[2:]] == ["35.25", "20.0", ""]
    assert [(row["diverged"], row["crashed"]) for row in points[2:]] == [("0", "0"), ("1", "0"), ("1", "1")]
    best = rows_of(report, "best.csv")
    assert [row["best_learning_rate"] for row in best] == ["0.001", "0.001"]
    assert [row["width_decades"] for row in best] == ["1.0", "0.0"] and best[0]["width_at_most"] == ""
    assert rows_of(report, "runs.csv")[-1] == {
        **{"optimizer": "adamw_torch", "learning_rate": "0.1", "seed": "1"},
        **{"status": "crashed", "score": ""},
    }
    for text in (render_text(report), render_markdown(report, ["score_by_learning_rate.png"])):
        assert "eval_bleu (higher is better), 10 runs" in text
        assert "36.20 ± 0.14" in text and "1e-03 to 1e-02" in text
        assert "adamw_torch/lr_1e-01/seed_1 crashed: exit status 1: no memory" in text
    assert "| adamw_torch | 1e-02 | 20.00 |  | 2 | 1 |  |" in text
    assert "![score by learning rate](score_by_learning_rate.png)" in text
    header, *rows = render_text(report).split("\n\n")[1].splitlines()
    end = header.index("mean") + len("mean")
    assert [row[end - 5 : end] for row in rows[:4]] == ["36.20", "36.10", "35.25", "20.00"], "numbers below each other"


def test_small_losses_show_four_digits():
    text = render_text(report_of([(MOMO, 1e-3, [0.00123456]), (MOMO, 1e9, [5e9])], "eval_loss", greater=False))
    assert "eval_loss (lower is better)" in text
    assert " 0.001235" in text and " 5.000e+09" in text


def test_an_optimizer_without_any_score():
    report = report_of([(MOMO, 1.0, [Outcome("no metric", reason="x")])])
    (row,) = rows_of(report, "best.csv")
    assert row == {**dict.fromkeys(row, ""), "optimizer": "momo_adam"}
    assert "momo_adam/lr_1e+00/seed_0 no metric: x" in render_text(report)


def test_the_bound_that_the_best_run_suggests(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(MOMO, 1e-3, [36.1]), (MOMO, 1e-2, [35.0]), (ADAMW, 1e-3, [35.5, 37.5]), (ADAMW, 1e-2, [99.0, DIVERGED])]
    report = report_of(rows)
    assert suggest_bound(report) is None, "no run has left a log"
    for loss, (run, _) in enumerate(report.runs, start=1):
        state = run.folder / "output" / "trainer_state.json"
        state.parent.mkdir(parents=True)
        state.write_text(json.dumps({"log_history": [{"step": 1, "loss": 9.0}, {"step": 20, "loss": float(loss)}]}))
    best = "adamw_torch/lr_1e-03/seed_1"
    assert suggest_bound(report) == (
        f"lower_bound for later runs: {PILOT_SHARE * 4:g}, {PILOT_SHARE} of 4, the last training loss in"
        f" {best}/output/trainer_state.json\n  --optim_args lower_bound=from={best}"
    )
    lower = report_of(rows, "eval_loss", greater=False)
    assert "--optim_args lower_bound=from=momo_adam/lr_1e-02/seed_0" in suggest_bound(lower)
    assert suggest_bound(report_of([(MOMO, 1e-3, [DIVERGED])])) is None
