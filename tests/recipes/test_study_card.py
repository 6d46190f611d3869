"""The card of a study shows the scores of its runs beside the published ones."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_study_card
import pytest
from huggingface_hub import ModelCard
from recipe_runs import ROOT

from hf_momo.sweep.grid import parse_grid
from hf_momo.sweep.records import Record
from hf_momo.sweep.settings import Sweep
from hf_momo.sweep.trials import Study
from hf_momo.utils.errors import UsageError
from study_card.cells import read_cells, read_reference
from study_card.page import render_study

# optimizer, learning rate: scores by seed; None for a run that diverged, which ended with the score of chance.
SCORES = {
    ("momo", 0.1): (0.972, 0.974),
    ("momo", 1.0): (0.981, 0.979),
    ("sgd", 0.1): (0.95, 0.96),
    ("sgd", 10.0): (None, 0.13),
    ("sgd", 100.0): (None, None),
}
PUBLISHED = """optimizer,learning_rate,mean,deviation
momo,0.1,0.9755,0.001
momo,1,0.98,0.001
sgd,0.1,0.965,0.002
sgd,10,0.1,0
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """The folder of a sweep, as ``hf-momo sweep`` and the recipe write it."""
    return sweep_of(tmp_path, SCORES)


def sweep_of(
    tmp_path: Path,
    scores: Mapping[tuple[str, float], Sequence[float | None]],
    greater: bool = True,
    own: Sequence[tuple[str, str]] = (),
) -> Path:
    folder = tmp_path / "sweep"
    rates: dict[str, list[str]] = {}
    for optimizer, rate in scores:
        rates.setdefault(optimizer, []).append(repr(rate))
    grid = parse_grid(",".join(rates), [f"{name}={','.join(each)}" for name, each in rates.items()], "0,1", [])
    sweep = Sweep("recipe.py", (), (), True, grid, "eval_accuracy", greater, own)
    with Study(folder, None, sweep) as study:
        study.begin(sweep, retry_failed=False)
        for trial in study.trials().values():
            run = study.claim(trial, sweep)
            assert run is not None
            write(folder / run.folder / "output" / "record.json", details(f"python recipe.py --seed {run.seed}"))
            study.finish(trial, ended(scores[run.optim, run.learning_rate][run.seed]), sweep.metric)
    (tmp_path / "paper.csv").write_text(PUBLISHED)
    return folder


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


CRASHED = Record(1, None, None, None)


def ended(score: float | None) -> Record:
    if score == -1:
        return CRASHED
    results = {"eval_accuracy": 0.098 if score is None else score, "eval_loss": None, "train_runtime": 30.0}
    return Record(0, results, None if score is not None else "loss is nan from step 3 on", None)


def details(command: str) -> dict[str, Any]:
    data = {"name": "mnist", "splits": {"train": 60_000, "test": 10_000}}
    hardware = {"device": "a processor", "threads": 1}
    return {"command": command, "steps": 4680, "data": data, "versions": {"torch": "2"}, "hardware": hardware}


def make_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    words = [
        folder,
        "--reference",
        folder.parent / "paper.csv",
        "--title",
        "A study",
        "--output",
        folder.parent / "card",
    ]
    monkeypatch.setattr(sys, "argv", ["make_study_card.py", *map(str, words)])
    make_study_card.main()
    return folder.parent / "card"


def test_card(sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    card = make_card(sweep, monkeypatch)
    assert "5 cells, 1 disagree" in capsys.readouterr().out
    rows = [line for line in (card / "README.md").read_text().splitlines() if line.startswith("| `")]
    assert rows == [
        "| `momo` | 1e-01 | 97.30 ± 0.14 |  | 97.55 ± 0.10 | -0.25 | yes |",
        "| `momo` | 1e+00 | 98.00 ± 0.14 |  | 98.00 ± 0.10 | +0.00 | yes |",
        "| `sgd` | 1e-01 | 95.50 ± 0.71 |  | 96.50 ± 0.20 | -1.00 | **no** |",
        # 9.8 and 13: no better than twice chance, as published.
        "| `sgd` | 1e+01 | 11.40 ± 2.26 | 1 | 10.00 ± 0.00 | +1.40 | yes |",
        "| `sgd` | 1e+02 | 9.80 ± 0.00 | 2 |  |  |  |",
    ]
    record = json.loads((card / "record.json").read_text())
    assert len(record["runs"]) == 10 and [cell["agrees"] for cell in record["cells"]] == [
        True,
        True,
        False,
        True,
        None,
    ]
    assert math.isclose(record["cells"][2]["mean"], 0.955)
    assert (card / "score.png").stat().st_size > 10_000


def test_a_card_is_made_anew_from_its_record(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = make_card(sweep, monkeypatch)
    before = {path.name: path.read_bytes() for path in card.iterdir()}
    record = json.loads(before["record.json"])
    monkeypatch.setattr(make_study_card, "_STUDIES", sweep.parent)
    monkeypatch.setattr(sys, "argv", ["make_study_card.py", str(card)])
    make_study_card.main()
    assert {path.name: path.read_bytes() for path in card.iterdir()} == before
    (card / "record.json").write_text(json.dumps({**record, "title": "Another", "notes": ["A toy."]}))
    make_study_card.main()
    text = (card / "README.md").read_text()
    assert "# Another" in text and "- A toy.\n" in text
    (card / "README.md").write_text("Somebody's own.")
    with pytest.raises(UsageError, match="was not generated; move it away"):
        make_study_card.main()


def test_scores_that_are_no_shares_and_have_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss, lower is better, with other scores and the share of capped steps beside it."""
    sweep = sweep_of(tmp_path, SCORES, greater=False)
    for path in sweep.rglob("record.json"):
        capped = {"curve": [{"step": 4, "step_capped": 0.25}]} if "momo" in path.parts else {"curve": [{"step": 4}]}
        seed = int(path.parts[-3].removeprefix("seed_"))
        write(path, details("python x.py") | capped | {"rows": 9, "metrics": {"test": {"auc": 0.5 + seed / 10}}})
    words = ["--title", "A loss", "--digits", "3", "--output", sweep.parent / "card"]
    monkeypatch.setattr(sys, "argv", ["make_study_card.py", *map(str, [sweep, *words])])
    make_study_card.main()
    page = (sweep.parent / "card" / "README.md").read_text()
    assert "| optimizer | learning rate or cap | eval_accuracy | diverged | test AUC | steps at the cap |" in page
    assert "| `momo` | 1e-01 | 0.973 ± 0.001 |  | 0.550 ± 0.071 | 25% |" in page
    assert "| `sgd` | 1e-01 | 0.955 ± 0.007 |  | 0.550 ± 0.071 |  |" in page
    assert "published" not in page and "percent" not in page


def test_several_sweeps_become_one_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MoMo's options stand in sweeps of their own, as a stock optimizer does not take them."""
    folders = [
        sweep_of(tmp_path / name, {point: scores for point, scores in SCORES.items() if point[0] == name})
        for name in ("momo", "sgd")
    ]
    words = [*folders, "--title", "Two sweeps", "--output", tmp_path / "card"]
    monkeypatch.setattr(sys, "argv", ["make_study_card.py", *map(str, words)])
    make_study_card.main()
    record = json.loads((tmp_path / "card" / "record.json").read_text())
    assert [(cell["optimizer"], cell["learning_rate"]) for cell in record["cells"]] == list(SCORES)

    monkeypatch.setattr(sys, "argv", [*sys.argv, "--rename", "sgd", "SGD, as it is"])
    make_study_card.main()
    page = (tmp_path / "card" / "README.md").read_text()
    assert "| `SGD, as it is` | 1e-01 |" in page and "`sgd`" not in page
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--rename", "adam", "Adam"])
    with pytest.raises(UsageError, match="--rename: got 'adam', must be one of: momo; sgd"):
        make_study_card.main()


def test_widths_around_the_scores_of_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {
        ("momo", 0.01): (2.1, 2.1),
        ("momo", 0.1): (2.0, 2.0),
        ("momo", 1.0): (2.02, 2.02),
        ("sgd", 0.01): (2.08, 2.12),
        ("sgd", 0.03): (3.0, 3.0),
        ("sgd", 0.1): (4.0, 4.2),
    }
    sweep = sweep_of(tmp_path, losses, greater=False)
    words = [sweep, "--title", "A loss", "--digits", "2", "--base", "sgd", "--base", "momo", "--output"]
    words.append(tmp_path / "card")
    monkeypatch.setattr(sys, "argv", ["make_study_card.py", *map(str, words)])
    make_study_card.main()
    page = (tmp_path / "card" / "README.md").read_text()
    assert "| within 1% / 5% of `sgd` (2.10) | within 1% / 5% of `momo` (2.00) |" in page
    # A better score is within the width of a worse base; three times 0.01 was not run with momo.
    assert "| `momo` | 2.00 | 1e-01 | 2.0 / 2.0 | 1.0 / 2.0 | not run | +1.0% |" in page
    assert "| `sgd` | 2.10 | 1e-02 | 0.0 / 0.0 | none / 0.0 | +42.9% | +95.2% |" in page
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--base", "adam"])
    with pytest.raises(UsageError, match="--base: got 'adam', must be one of: momo; sgd"):
        make_study_card.main()


def test_sweeps_that_differ_in_own_arguments_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sweeps of momo, one with a bound by `--set`, became one line, as if their runs were seeds of one cell."""
    scores = {("momo", 0.1): (0.9, 0.91)}
    plain = sweep_of(tmp_path / "plain", scores)
    bound = sweep_of(tmp_path / "bound", scores, own=[("momo", "--optim_args=lower_bound=1")])
    words = [plain, bound, "--title", "Two sweeps", "--output", tmp_path / "card"]
    monkeypatch.setattr(sys, "argv", ["make_study_card.py", *map(str, words)])
    make_study_card.main()
    record = json.loads((tmp_path / "card" / "record.json").read_text())
    assert [cell["optimizer"] for cell in record["cells"]] == ["momo", "momo, optim_args=lower_bound=1"]

    words[1] = plain
    monkeypatch.setattr(sys, "argv", ["make_study_card.py", *map(str, words)])
    with pytest.raises(UsageError, match=r"momo has two runs at 0\.1 with seed 0; leave one of their sweeps out"):
        make_study_card.main()


def test_what_is_no_finished_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = sweep_of(tmp_path / "crashed", {("momo", 0.1): (0.9, 0.9), ("sgd", 0.1): (0.9, -1)})
    with pytest.raises(UsageError, match="seed_1 has no eval_accuracy: exit status 1"):
        make_card(crashed, monkeypatch)
    whole = sweep_of(tmp_path, SCORES)
    with Study(whole) as study:
        grid = replace(study.sweep.grid, seeds=(0, 1, 2))
        study.begin(replace(study.sweep, grid=grid), retry_failed=False)
    with pytest.raises(UsageError, match="seed_2 has not ended yet; repeat the command of the sweep"):
        make_card(whole, monkeypatch)
    (tmp_path / "paper.csv").write_text("optimizer,rate\nmomo,1\n")
    with Study(whole) as study:
        study.begin(replace(study.sweep, grid=replace(study.sweep.grid, seeds=(0, 1))), retry_failed=False)
    with pytest.raises(UsageError, match="is not a table with the columns optimizer, learning_rate, mean, deviation"):
        make_card(whole, monkeypatch)
    with pytest.raises(UsageError, match="holds no sweep"):
        make_card(tmp_path, monkeypatch)
    assert not (tmp_path / "card").exists()


STUDY_CARDS = [
    record
    for record in sorted((ROOT / "model_cards").glob("*/record.json"))
    if "cells" in json.loads(record.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("path", STUDY_CARDS, ids=[path.parent.name for path in STUDY_CARDS])
def test_published_cards_are_the_render_of_their_records(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    name = record["reference"]
    reference = read_reference(ROOT / "recipes" / "studies" / name) if name else {}
    cells = read_cells(record["runs"], reference, record["chance"], record["tolerance"])
    assert json.loads(json.dumps([cell.to_json() for cell in cells])) == record["cells"]
    page = (path.parent / "README.md").read_text(encoding="utf-8")
    assert page == render_study(record, reference)
    assert {"hf_momo", *(cell.optimizer.split(",")[0] for cell in cells)} <= set(ModelCard(page).data.tags)
    assert (path.parent / "score.png").exists()


def test_there_are_study_cards() -> None:
    assert {path.parent.name for path in STUDY_CARDS} == {
        *("mnist-mlp-study", "mnist-mlp-init-seed-study", "mnist-mlp-methods-study", "criteo-subset-study"),
        *("multi30k-from-scratch-study", "multi30k-to-iwslt14-finetune-study", "multi30k-to-iwslt14-lora-study"),
        *("iwslt14-to-multi30k-finetune-study", "tinyshakespeare-from-scratch-study"),
        "tinyshakespeare-to-talks-finetune-study",
    }
