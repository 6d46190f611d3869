"""Pictures show what was logged."""

import struct
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from common import pictures
from images.card import IMAGE_CLASSIFICATION
from machine_translation.card import TRANSLATION


def history(momo: bool, lower_bound: float = 0.5) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for step in range(10, 60, 10):
        entry = {"step": step, "loss": 60.0 / step, "learning_rate": 1e-3 * (step - 10)}
        if momo:
            entry |= {
                "step_size": 5e-4 * step,
                "lower_bound": lower_bound,
                "step_capped": step / 100,
                "skipped_steps": 0,
            }
        entries.append(entry)
    entries.insert(3, {"step": 30, "eval_loss": 3.0, "eval_bleu": 12.5})
    return [*entries, {"step": 50, "train_loss": 2.0, "train_runtime": 1.0}]


def lines(axes: Axes) -> dict[str, list[float]]:
    return {str(line.get_label()): [float(y) for y in line.get_ydata()] for line in axes.lines}  # type: ignore[union-attr]


def width_and_height(path: Path) -> tuple[int, ...]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


@pytest.mark.parametrize("momo", [True, False])
def test_a_run_is_drawn_at_readme_width(tmp_path: Path, momo: bool) -> None:
    drawn = pictures.draw_run(history(momo), tmp_path, TRANSLATION, "a title")
    assert sorted(drawn) == ["bleu.png", "loss.png", "step_size.png"]
    assert set(drawn) == set(TRANSLATION.picture_names)
    assert {path.name for path in tmp_path.iterdir()} == set(drawn)
    assert all(width_and_height(tmp_path / name)[0] == 960 for name in drawn)


def test_without_bleu_there_is_no_picture_of_it(tmp_path: Path) -> None:
    entries = [entry for entry in history(True) if "eval_bleu" not in entry]
    assert "bleu.png" not in pictures.draw_run(entries, tmp_path, TRANSLATION)


def test_each_task_has_its_own_score_and_unit(tmp_path: Path) -> None:
    entries = [*history(True), {"step": 50, "eval_loss": 0.1, "eval_accuracy": 0.9751}]
    task = IMAGE_CLASSIFICATION
    assert sorted(pictures.draw_run(entries, tmp_path, task)) == ["accuracy.png", "loss.png", "step_size.png"]
    (axes,) = pictures._draw_score(entries, "", task).axes
    assert lines(axes)["validation, while training"] == [0.9751]
    assert [text.get_text() for text in axes.texts] == ["0.975"]
    (axes,) = pictures._draw_loss(entries, "", task).axes
    assert axes.get_ylabel() == "loss (nats per image)"


@pytest.mark.parametrize(
    ("bias_corrected", "name"),
    [(True, "cap (learning rate)"), (False, "cap (learning rate, before bias correction)")],
)
def test_step_size_stands_with_its_cap_on_a_log_axis(bias_corrected: bool, name: str) -> None:
    size, capped, bound = pictures.draw_step_size(history(True), "", bias_corrected=bias_corrected).axes
    assert size.get_yscale() == "log"
    assert next(iter(lines(size))) == name
    cap, applied = lines(size).values()
    assert cap == [1e-3 * step for step in (0, 10, 20, 30, 40)]
    assert applied == [5e-4 * step for step in (10, 20, 30, 40, 50)]
    assert list(lines(capped).values()) == [[0.1, 0.2, 0.3, 0.4, 0.5]]
    assert lines(bound)["lower bound"] == [0.5] * 5
    assert all(axes.get_ylabel() for axes in (size, capped, bound))


def test_a_bound_far_below_the_loss_does_not_flatten_the_loss() -> None:
    *_, bound = pictures.draw_step_size(history(True, lower_bound=-1e12), "").axes
    assert bound.get_ylim()[0] > -10
    assert "lower bound: -1e+12, far below" in lines(bound)


def test_other_optimizers_show_their_learning_rate() -> None:
    (axes,) = pictures.draw_step_size(history(False), "").axes
    assert list(lines(axes)) == ["learning rate"]


def test_comparison_has_one_line_per_run(tmp_path: Path) -> None:
    path = tmp_path / "comparison.png"
    pictures.draw_comparison({"one": history(True), "two": history(False)}, path)
    assert width_and_height(path)[0] == 960
    before = path.read_bytes()
    pictures.draw_comparison({"one": history(True)}, path)
    assert path.read_bytes() != before
