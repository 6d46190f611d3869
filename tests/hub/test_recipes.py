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
from recipe_runs import DEMO_CONFIG, TINY


def run(patch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    words = [*map(str, arguments), "--config", str(DEMO_CONFIG), *TINY, "--disable_tqdm", "true", "--use_cpu"]
    patch.setattr(sys, "argv", ["recipes/translation.py", *words])
    translation.main()


def test_translation(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps leave a BLEU that is low and not 0, so another model would score otherwise."""
    steps = ("--max_steps", "60", "--eval_strategy", "no", "--warmup_steps", "2", "--logging_steps", "20")
    push = ("--push_to_hub", "--hub_model_id", "me/de-en", "--hub_strategy", "end")
    folder = tmp_path / "run"
    run(monkeypatch, "--output_dir", folder, *steps, *push)
    files = hub.repositories["me/de-en"].files
    assert files == saved(folder)
    record = json.loads(files["record.json"])
    card = ModelCard(files["README.md"].decode())
    card.validate()
    [split] = record["metrics"]
    [bleu] = [each.metric_value for each in card.data.eval_results if each.metric_type == "bleu"]
    assert bleu == round(record["metrics"][split]["bleu"], 2)

    again = tmp_path / "again"
    run(monkeypatch, "--output_dir", again, "--model_name_or_path", "me/de-en", "--do_train", "false")
    names = [f"predict_{name}" for name in ("bleu", "chrf", "loss")]
    first, second = (json.loads((each / "all_results.json").read_text()) for each in (folder, again))
    assert [second[name] for name in names] == [first[name] for name in names]
    assert first["predict_bleu"] > 0.1
    check_no_token(hub, tmp_path)
