"""What the pictures show, asked of the figures before they become pixels."""

import itertools
import json

import pytest
from matplotlib.colors import to_rgb

from hf_momo.sweep import pictures
from hf_momo.sweep.grid import Run, parse_grid
from hf_momo.sweep.records import Outcome
from hf_momo.sweep.report import Report
from hf_momo.sweep.settings import Sweep

MOMO, ADAMW = "momo_adam", "adamw_torch"
DIVERGED, CRASHED = Outcome("diverged", reason="loss is nan"), Outcome("crashed", reason="exit status 1")
SCORES = [
    (MOMO, 1e-3, [30.0, 32.0]),
    (MOMO, 1e-2, [31.0, 33.0]),
    (ADAMW, 1e-3, [30.0, 31.0]),
    (ADAMW, 1e-2, [20.0, DIVERGED]),
    (ADAMW, 1e-1, [CRASHED, CRASHED]),
]


def report_of(folder, rows, metric="eval_bleu", greater=True, options=None):
    runs = []
    for optim, rate, outcomes in rows:
        for seed, outcome in enumerate(outcomes):
            run = Run(optim, options or {}, rate, seed)
            outcome = outcome if isinstance(outcome, Outcome) else Outcome("done", outcome)
            runs.append((run, outcome))
    sweep = Sweep("train.py", (), (), False, parse_grid("momo_adam", ["1"], "0", []), metric, greater)
    return Report(sweep, folder, runs)


def lines_of(axes, label=None):
    """Points of the lines of a panel."""
    return [
        list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))
        for line in axes.lines
        if label is None or line.get_label() == label
    ]


def marks_of(axes, marker):
    return [(*line.get_xdata(), *line.get_ydata()) for line in axes.lines if line.get_marker() == marker]


def test_scores_against_learning_rates(tmp_path):
    axes, strip = pictures._draw_scores(report_of(tmp_path, SCORES)).axes
    assert strip.get_xscale() == axes.get_xscale() == "log" and axes.get_yscale() == "linear"
    assert axes.get_ylabel() == "eval_bleu (higher is better)" and strip.get_xlabel() == "learning rate"
    assert lines_of(axes, "momo_adam") == [[(1e-3, 31.0), (1e-2, 32.0)]]
    assert lines_of(axes, "adamw_torch") == [[(1e-3, 30.5), (1e-2, 20.0)]]
    bands = [path.vertices for band in axes.collections for path in band.get_paths()]
    assert (bands[0][:, 1].min(), bands[0][:, 1].max()) == (30.0, 33.0), "from the lowest to the highest seed"
    low, high = axes.get_xlim()
    assert low < 1e-3 and high > 1e-1, "what crashed is in the picture too"


def test_what_has_no_score_is_marked_below(tmp_path):
    figure = pictures._draw_scores(report_of(tmp_path, SCORES))
    strip = figure.axes[1]
    assert [label.get_text() for label in strip.get_yticklabels()] == ["momo_adam", "adamw_torch"]
    assert marks_of(strip, "x") == [(1e-2, 1)] and marks_of(strip, "+") == [(1e-1, 1)]
    assert [text.get_text() for text in strip.texts] == ["1 of 2"]
    # The mean of the seed that survived is drawn hollow.
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [list(line.get_xdata()) for line in hollow] == [[1e-2]]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    marks = [
        "range over seeds",
        "mean of the other seeds",
        "within 1% of the best",
        "best mean",
        "diverged",
        "crashed",
    ]
    assert set(legend) == {"momo_adam", "adamw_torch", *marks} and legend[:2] == ["momo_adam", "adamw_torch"]
    assert len(legend) == 8


def test_the_width_is_drawn(tmp_path):
    scores = [(MOMO, 10.0**k, [score]) for k, score in enumerate([50, 99.5, 100, 99.2, 20])]
    strip = pictures._draw_scores(report_of(tmp_path, scores)).axes[1]
    assert [[x for x, _ in line] for line in lines_of(strip)] == [[10, 1000], [100]]


def test_only_what_is_there_is_in_the_legend(tmp_path):
    figure = pictures._draw_scores(report_of(tmp_path, [(MOMO, 1e-3, [1.0]), (MOMO, 1e-2, [2.0])]))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["momo_adam", "within 1% of the best", "best mean"]


@pytest.mark.parametrize(("losses", "scale"), [([2.0, 3.0], "linear"), ([2.0, 3e5], "log"), ([-1.0, 3e5], "linear")])
def test_losses_of_several_magnitudes_are_on_a_log_axis(tmp_path, losses, scale):
    """One run that all but diverged would press all others into a flat line."""
    rows = [(MOMO, 10.0**k, [loss]) for k, loss in enumerate(losses)]
    assert pictures._draw_scores(report_of(tmp_path, rows, "eval_loss", False)).axes[0].get_yscale() == scale


@pytest.mark.parametrize("options", [{}, {"weight_decay": "0.1"}, {"optim_args": "a" * 60}])
def test_legend_and_panels_are_in_the_picture_and_do_not_overlap(tmp_path, options):
    names = ["momo_adam", "adamw_torch", "sgd", "adafactor", "lion"]
    rows = [(name, 10.0**k, [k, k + 1, DIVERGED]) for name in names for k in (0, 1)]
    figure = pictures._draw_scores(report_of(tmp_path, rows, options=options))
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    panels = [axes.get_tightbbox() for axes in figure.axes]
    assert not any(legend.overlaps(panel) for panel in panels)
    assert not figure.axes[0].get_window_extent().overlaps(figure.axes[1].get_window_extent())
    for box in (legend, *panels):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_styles_differ_in_more_than_colour():
    colours, dashes, markers = zip(*pictures.STYLES, strict=True)
    assert len(set(colours)) == len(set(markers)) == len(pictures.STYLES)
    # Neighbours can be told apart in grey, or by their dashes.
    grey = [0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in map(to_rgb, colours)]
    for (one, its_dashes), (other, other_dashes) in itertools.pairwise(zip(grey, dashes, strict=True)):
        assert its_dashes != other_dashes or abs(one - other) > 0.1


def write_history(folder, run, history):
    output = folder / run.folder / "output"
    output.mkdir(parents=True)
    (output / "trainer_state.json").write_text(json.dumps({"log_history": history}))


def test_curves_of_the_best_learning_rates(tmp_path):
    for optim, rate, outcomes in SCORES:
        for seed in range(len(outcomes)):
            losses = [{"step": step, "loss": 10 / step + seed, "learning_rate": rate} for step in (1, 2, 5)]
            scores = [{"step": step, "eval_bleu": 5.0 * step, "eval_loss": 1.0} for step in (2, 5)]
            write_history(tmp_path, Run(optim, {}, rate, seed), losses + scores)
    figure = pictures._draw_curves(report_of(tmp_path, SCORES))
    loss, bleu = figure.axes
    assert (loss.get_ylabel(), bleu.get_ylabel()) == ("training loss", "eval_bleu")
    assert loss.get_xlabel() == bleu.get_xlabel() == "training step"
    assert lines_of(loss, "momo_adam, lr 1e-02") == [[(1, 10.5), (2, 5.5), (5, 2.5)]], "the mean of two seeds"
    assert len(lines_of(loss)) == 6, "and every seed beside it"
    assert lines_of(bleu, "adamw_torch, lr 1e-03") == [[(2, 10.0), (5, 25.0)]]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["momo_adam, lr 1e-02", "adamw_torch, lr 1e-03", "single seeds, of which the line is the mean"]


def test_curves_of_seeds_that_stopped_at_different_steps(tmp_path):
    write_history(tmp_path, Run(MOMO, {}, 1.0, 0), [{"step": step, "loss": 1.0} for step in (1, 2, 3)])
    write_history(tmp_path, Run(MOMO, {}, 1.0, 1), [{"step": 1, "loss": 3.0}, {"step": 2, "loss": float("nan")}])
    (panel,) = pictures._draw_curves(report_of(tmp_path, [(MOMO, 1.0, [1.0, 1.0])])).axes
    assert lines_of(panel, "momo_adam, lr 1e+00") == [[(1, 2.0)]]


def test_a_script_without_a_log_has_no_curves(tmp_path):
    (tmp_path / pictures.CURVES_PICTURE).write_bytes(b"of before")
    report = report_of(tmp_path, SCORES)
    assert pictures.draw_report(report, tmp_path) == [pictures.SCORES_PICTURE]
    assert [path.name for path in tmp_path.iterdir()] == [pictures.SCORES_PICTURE]
    first = (tmp_path / pictures.SCORES_PICTURE).read_bytes()
    pictures.draw_report(report, tmp_path)
    assert (tmp_path / pictures.SCORES_PICTURE).read_bytes() == first


def test_a_sweep_without_any_score_is_drawn(tmp_path):
    rows = [(MOMO, 1e-3, [DIVERGED]), (ADAMW, 1e-3, [CRASHED])]
    assert pictures.draw_report(report_of(tmp_path, rows), tmp_path) == [pictures.SCORES_PICTURE]
