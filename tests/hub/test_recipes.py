"""The recipes with ``--push_to_hub``: the model that is loaded from the Hub has the scores of the trained one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click_through_rate
import image_classification
import language_modeling
import pytest
import translation
from hub.server import Hub
from hub.tiny_runs import check_no_token, saved
from huggingface_hub import ModelCard
from recipe_runs import ROOT, TINY, write_sides
from recipes.criteo_log import write_log
from recipes.image_data import write_mnist

from hf_momo.cli import main
from hf_momo.utils.errors import run_command
from recipes import test_click_through_rate, test_image_classification, test_language_modeling

NAME = "me/model"
PUSH = ("--push_to_hub", "--hub_model_id", NAME)


def run(patch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    quiet = ("--disable_tqdm", "true", "--use_cpu", "--report_to", "none")
    config = ROOT / "recipes" / "configs" / "multi30k.yaml"
    patch.setattr(
        sys, "argv", ["recipes/translation.py", "--config", str(config), *TINY, *quiet, *map(str, arguments)]
    )
    translation.main()


def test_translation(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model overfits four sentences, so no other model can have its BLEU."""
    data = [f"--{split}_file={write_sides(tmp_path, split)}" for split in ("train", "validation", "test")]
    steps = ("--max_steps", "45", "--warmup_steps", "2", "--learning_rate", "1e-2", "--dropout", "0")
    saves = ("--eval_strategy", "no", "--save_strategy", "no")
    folder, again = tmp_path / "run", tmp_path / "again"
    run(monkeypatch, *data, *steps, *saves, "--output_dir", folder, *PUSH)
    files = hub.repositories[NAME].files
    assert files == saved(folder)
    bleu = json.loads(files["record.json"])["metrics"]["test"]["bleu"]
    card = ModelCard(files["README.md"].decode())
    assert [each.metric_value for each in card.data.eval_results if each.metric_type == "bleu"] == [round(bleu, 2)]
    assert hub.count("yaml") > 0  # the Hub has checked the metadata

    run(monkeypatch, *data, "--output_dir", again, "--model_name_or_path", NAME, "--do_train", "false")
    first, second = (json.loads((each / "all_results.json").read_text()) for each in (folder, again))
    names = [f"predict_{name}" for name in ("bleu", "chrf", "loss")]
    assert [second[name] for name in names] == [first[name] for name in names]
    assert first["predict_bleu"] == bleu > 5
    check_no_token(hub, tmp_path)


def pushed_card(hub: Hub, folder: Path) -> ModelCard:
    """Check that all files of a run are on the Hub as they were saved, and return the card."""
    files = hub.repositories[NAME].files
    assert files == saved(folder)
    return ModelCard(files["README.md"].decode())


def test_language_model(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "verses.txt").write_text("".join(test_language_modeling.made_up_lines(300)), encoding="utf-8")
    config = ("--config", test_language_modeling.CONFIG, *test_language_modeling.TINY, "--report_to", "none")
    where = ("--train_file", tmp_path / "verses.txt", "--output_dir", tmp_path / "run")
    words = [*config, *where, "--save_strategy", "no", *PUSH]
    monkeypatch.setattr(sys, "argv", ["recipes/language_modeling.py", *map(str, words)])
    language_modeling.main()
    card = pushed_card(hub, tmp_path / "run")
    assert card.data.eval_results[0].metric_type == "perplexity"
    check_no_token(hub, tmp_path)


def test_image_classifier(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "digits")
    config = (*test_image_classification.MNIST, *test_image_classification.FEW, "--report_to", "none")
    where = ("--data_dir", tmp_path / "digits", "--output_dir", tmp_path / "run", "--num_train_epochs", "1")
    words = [*config, *where, "--save_strategy", "no", *PUSH]
    monkeypatch.setattr(sys, "argv", ["recipes/image_classification.py", *map(str, words)])
    image_classification.main()
    card = pushed_card(hub, tmp_path / "run")
    assert [each.metric_type for each in card.data.eval_results] == ["accuracy"]
    check_no_token(hub, tmp_path)


def test_model_of_clicks(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An accelerate loop does not push; the command does."""
    train, test = (write_log(tmp_path / f"{split}.tsv", 64) for split in ("train", "test"))
    logs = ("--train_files", train, "--test_files", test)
    config = ("--config", test_click_through_rate.CONFIG, *test_click_through_rate.TINY, "--use_cpu")
    words = [*config, *logs, "--do_eval", "false", "--output_dir", tmp_path / "run"]
    monkeypatch.setattr(sys, "argv", ["recipes/click_through_rate.py", *map(str, words)])
    click_through_rate.main()
    assert hub.requests == []
    assert main(["push", str(tmp_path / "run"), "--hub_model_id", NAME]) == 0
    card = pushed_card(hub, tmp_path / "run")
    assert {each.metric_type for each in card.data.eval_results} == {"roc_auc", "log_loss"}


def test_a_refusal_is_one_line(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "wrong" * 7)
    data = [f"--{split}_file={write_sides(tmp_path, split)}" for split in ("train", "validation", "test")]
    arguments = ("--output_dir", tmp_path / "run", *PUSH)
    assert run_command(lambda: run(monkeypatch, *data, *arguments)) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: push_to_hub: the Hub at {hub.url} refuses the token (401): log in with")
    assert not list((tmp_path / "run").glob("*.safetensors"))
