"""The translation recipe with `--push_to_hub`: the model loaded back from the Hub scores as the one trained."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import translation
from hub.server import Hub
from hub.tiny_runs import check_no_token, saved
from huggingface_hub import ModelCard
from recipe_runs import ROOT, TINY, write_sides

NAME = "me/de-en"


def run(patch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    quiet = ("--disable_tqdm", "true", "--use_cpu", "--report_to", "none")
    config = ROOT / "recipes" / "configs" / "multi30k.yaml"
    patch.setattr(
        sys, "argv", ["recipes/translation.py", "--config", str(config), *TINY, *quiet, *map(str, arguments)]
    )
    translation.main()


def test_translation(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four sentences, half learned by heart: a model that is not the trained one cannot have its BLEU."""
    data = [f"--{split}_file={write_sides(tmp_path, split)}" for split in ("train", "validation", "test")]
    steps = ("--max_steps", "45", "--warmup_steps", "2", "--learning_rate", "1e-2", "--dropout", "0")
    saves = ("--eval_strategy", "no", "--save_strategy", "no")
    folder, again = tmp_path / "run", tmp_path / "again"
    run(monkeypatch, *data, *steps, *saves, "--output_dir", folder, "--push_to_hub", "--hub_model_id", NAME)
    files = hub.repositories[NAME].files
    assert files == saved(folder)
    bleu = json.loads(files["record.json"])["metrics"]["test"]["bleu"]
    card = ModelCard(files["README.md"].decode())
    assert [each.metric_value for each in card.data.eval_results if each.metric_type == "bleu"] == [round(bleu, 2)]
    assert hub.count("yaml") > 0  # the Hub has looked at the metadata

    run(monkeypatch, *data, "--output_dir", again, "--model_name_or_path", NAME, "--do_train", "false")
    first, second = (json.loads((each / "all_results.json").read_text()) for each in (folder, again))
    names = [f"predict_{name}" for name in ("bleu", "chrf", "loss")]
    assert [second[name] for name in names] == [first[name] for name in names]
    assert first["predict_bleu"] == bleu > 5
    check_no_token(hub, tmp_path)
