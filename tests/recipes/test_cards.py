"""The model cards of the recipes: the texts of each task, and the published cards."""

import json
from pathlib import Path
from typing import Any

import list_model_cards
import make_model_card
import pytest
from huggingface_hub import ModelCard
from recipe_runs import ROOT

from click_through.card import CLICK_THROUGH_RATE
from common.tasks import Task
from hf_momo.hub.cards import render_model_card
from images.card import IMAGE_CLASSIFICATION
from language_models.card import LANGUAGE_MODELING
from machine_translation.card import TOKENIZED_BLEU, TRANSLATION

MODEL_CARDS = ROOT / "model_cards"
RECORDS = {path.parent.name: json.loads(path.read_text("utf-8")) for path in MODEL_CARDS.glob("*/record.json")}
# The cards of studies are tested in test_study_card.py.
RUNS = sorted(name for name, record in RECORDS.items() if "runs" not in record)
SIGNATURE, CHRF_SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a", "nrefs:1|case:mixed|eff:yes|nc:6"


def record_of(data: dict[str, Any], metrics: dict[str, Any], **others: Any) -> dict[str, Any]:
    """The record of a run that saw ``data`` and scored ``metrics``."""
    training = {"optim": "momo_adam", "learning_rate": 0.002, "lr_scheduler_type": "linear", "max_grad_norm": 0.5}
    return {
        "name": "some-model",
        "command": "python recipes/some.py",
        "settings": {"model": {"model_name_or_path": None}, "data": {}, "training": {**training, "optim_args": None}},
        "optimizer": {"name": "MomoAdam", "betas": [0.9, 0.98]},
        "model": {"type": "marian", "parameters": 1234567},
        **{"steps": 400, "epochs": 2.5, "train_runtime": 660.0, "seed": 7},
        "versions": {"python": "3.11.7"},
        "hardware": {"processes": 1, "device": "A CPU"},
        **{"curve": [{"step": 1, "loss": 3.0, "learning_rate": 0.002}], "evaluations": []},
        **{"data": data, "metrics": metrics},
        **others,
    }


def rendered(record: dict[str, Any], task: Task) -> str:
    """The card of a record that has been to a file and back."""
    return render_model_card(json.loads(json.dumps(record | {"task": task.name, "card": task.texts(record)})))


def scores_of(text: str) -> dict[str, Any]:
    return {result.metric_type: result.metric_value for result in ModelCard(text).data.eval_results}


@pytest.fixture
def translation() -> dict[str, Any]:
    data = {
        **{"source_lang": "de", "target_lang": "en", "name": None, "files": {"train": "train.de", "test": "test.de"}},
        "pairs": {"train": 5000, "test": 1},
    }
    scores = {"bleu": 21.987, "chrf": 43.214, "loss": 2.3456, "signature": SIGNATURE, "chrf_signature": CHRF_SIGNATURE}
    samples = [{"source": "Ein | Hund.", "reference": "A dog.", "translation": "A dog."}]
    record = record_of(data, {"test": scores}, samples=samples)
    record["settings"]["data"] = {"num_beams": 4, "max_eval_samples": 200, "max_predict_samples": 1000}
    return record


def test_translation(translation: dict[str, Any]) -> None:
    text = rendered(translation, TRANSLATION)
    data = ModelCard(text).data
    assert (data.language, data.pipeline_tag) == (["de", "en"], "translation")
    assert scores_of(text) == {"bleu": 21.99, "chrf": 43.21}
    bleu = data.eval_results[0]
    assert bleu.metric_args == {"signature": SIGNATURE}
    assert (bleu.dataset_name, bleu.dataset_type) == ("test.de", "parallel-text")
    assert "that translates de to en, trained from scratch on 5,000 sentence pairs (train.de and its" in text
    assert "Scored on 1 sentence of test, beam 4." in text
    assert "| Ein \\| Hund. | A dog. | A dog. |" in text and 'translate("Ein | Hund.")' in text
    # Test was scored, so the limit of validation is of no consequence.
    assert "A part of the data was used (max_predict_samples 1,000)," in text
    assert "Moses" not in text


def test_a_score_of_tokens_has_a_name_of_its_own(translation: dict[str, Any]) -> None:
    translation["settings"]["data"]["moses_tokenized"] = True
    score = {TOKENIZED_BLEU: 33.333, f"{TOKENIZED_BLEU}_signature": "nrefs:1|case:lc|tok:none"}
    translation["metrics"]["test"] |= score
    text = rendered(translation, TRANSLATION)
    header, rule, first = (line for line in text.splitlines() if line.startswith("|") and line.count("|") == 13)
    assert header.split("|")[-2].strip() == f"test {TOKENIZED_BLEU}"
    assert first.split("|")[-2].strip() == "33.33"
    assert set(rule) == {"|", "-", ":", " "}
    assert "`nrefs:1|case:lc|tok:none`. BLEU and chrF are of the detokenized text." in text
    assert "reads and writes Moses tokens" in text


def test_click_through_rate() -> None:
    scores = {"loss": 0.45678, "auc": 0.78912, "rows": 1000, "click_rate": 0.25, "constant_loss": 0.56234}
    data = {"name": "a log", "files": {"train": ["train.tsv"]}}
    text = rendered(record_of(data, {"test": scores}, rows=5000), CLICK_THROUGH_RATE)
    assert scores_of(text) == {"roc_auc": 0.7891, "log_loss": 0.4568}
    assert "on 5,000 rows (a log, 2.5 passes over the log)" in text
    assert "1,000 rows of test, of which 25.0% are clicks; predicting that rate for every row has a" in text
    assert "log loss of 0.5623" in text and "| test AUC | test log loss |" in text
    assert 'AutoModel.from_pretrained("some-model"' in text and "categories=codes" in text
    assert ModelCard(text).data.pipeline_tag == "tabular-classification"


def test_language_modeling() -> None:
    data = {"name": None, "files": {"train": "my.txt"}, "tokens": {"train": 9000, "validation": 1000}}
    scores = {"loss": 3.2, "perplexity": 24.5325, "bits_per_byte": 2.34567}
    samples = [{"prompt": "To be", "text": " or ```not```"}]
    text = rendered(record_of(data, {"validation": scores}, samples=samples), LANGUAGE_MODELING)
    assert scores_of(text) == {"perplexity": 24.53, "bits_per_byte": 2.346}
    assert "on 9,000 tokens (my.txt)" in text and "1,000 tokens of validation" in text
    assert 'generate("To be", ' in text
    # A fence longer than any in the sample.
    assert "````\nTo be or ```not```\n````" in text


def test_image_classification() -> None:
    data = {"name": "cifar10", "splits": {"train": 800, "test": 200}, "image": [32, 32, 3], "classes": 10}
    hub = {"datasets": ["uoft-cs/cifar10"], "base_model": "google/vit-base", "license": "mit"}
    record = record_of(data, {"test": {"accuracy": 0.91237, "loss": 0.3}}, **hub)
    record["settings"]["data"] = {"max_train_samples": 800, "dataset_name": "cifar10"}
    text = rendered(record, IMAGE_CLASSIFICATION)
    card = ModelCard(text).data
    assert scores_of(text) == {"accuracy": 0.9124}
    assert (card.datasets, card.base_model, card.license) == (["uoft-cs/cifar10"], "google/vit-base", "mit")
    assert card.eval_results[0].dataset_type == "uoft-cs/cifar10"
    assert "for images of 32 x 32 x 3 in 10 classes" in text and "fine-tuned from [google/vit-base]" in text
    assert "A part of the data was used (max_train_samples 800), and the scores are of that part." in text


@pytest.mark.parametrize("name", RUNS)
def test_published_cards_are_the_render_of_their_records(name: str) -> None:
    record, folder = RECORDS[name], MODEL_CARDS / name
    texts = make_model_card.TASKS[record["task"]].texts(record)
    assert (folder / "README.md").read_text(encoding="utf-8") == render_model_card(record | {"card": texts})
    assert all((folder / picture).exists() for picture in record["pictures"])


def test_a_card_is_made_anew_from_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the card may change: the records hold the numbers that README and cards are checked against."""
    folder = tmp_path / "card"
    folder.mkdir()
    original = (MODEL_CARDS / RUNS[0] / "record.json").read_bytes()
    (folder / "record.json").write_bytes(original)
    monkeypatch.setattr("sys.argv", ["make_model_card.py", str(folder)])
    make_model_card.main()
    assert (folder / "record.json").read_bytes() == original
    card = (MODEL_CARDS / RUNS[0] / "README.md").read_text(encoding="utf-8")
    assert (folder / "README.md").read_text(encoding="utf-8") == card
    # The record of a newer run carries the texts, which are brought up to date.
    record = json.loads(original) | {"card": {"description": "out of date", "usage": ""}}
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    make_model_card.main()
    assert json.loads((folder / "record.json").read_text("utf-8"))["card"]["description"] in card
    assert (folder / "README.md").read_text(encoding="utf-8") == card


def test_the_list_of_cards_is_the_render_of_all_records() -> None:
    text = (MODEL_CARDS / "README.md").read_text(encoding="utf-8")
    assert text == list_model_cards.render(MODEL_CARDS)
    assert all(text.count(f"]({name}/README.md)") == 1 for name in RECORDS)
