"""A model card says what its record says."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from hf_momo.hub.cards import card_from_folder, is_generated, render_model_card, summarize, write_model_card

# Every folder but those of studies, whose cards are rendered by recipes/ and tested there.
CARDS = [
    folder / "README.md"
    for folder in sorted((Path(__file__).parents[2] / "model_cards").iterdir())
    if "runs" not in json.loads((folder / "record.json").read_text(encoding="utf-8"))
]
SIGNATURE, CHRF_SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a", "nrefs:1|case:mixed|eff:yes|nc:6"


def entry(step: int, size: float, capped: float, bound: float) -> dict[str, Any]:
    return {
        "step": step,
        "loss": 3.0,
        "learning_rate": 0.002,
        "step_size": size,
        "step_capped": capped,
        "lower_bound": bound,
        "skipped_steps": 0,
    }


@pytest.fixture
def record() -> dict[str, Any]:
    training = {
        "optim": "momo_adam",
        "optim_args": "adapt_lower_bound=true",
        "learning_rate": 0.002,
        "lr_scheduler_type": "linear",
        "max_grad_norm": 0.5,
        "seed": 7,
    }
    return {
        "name": "some-model",
        "task": "translation",
        "command": "python recipes/translation.py --seed 7",
        "settings": {
            "model": {"model_name_or_path": None, "model_type": "marian", "d_model": 96},
            "data": {"num_beams": 4},
            "training": training,
        },
        "optimizer": {"name": "MomoAdam", "betas": [0.9, 0.98]},
        "model": {"type": "marian", "parameters": 1234567},
        "steps": 400,
        "epochs": 2.5,
        "train_runtime": 660.0,
        "seed": 7,
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "hardware": {"processes": 1, "device": "A CPU", "cpu_count": 2, "threads": 1},
        "curve": [entry(100, 0.002, 1.0, 0.0), entry(300, 0.002, 0.75, 0.0), entry(400, 0.0004, 0.25, 0.6)],
        "evaluations": [{"step": 400, "eval_loss": 2.0, "eval_bleu": 20.0}],
        "metrics": {
            "test": {
                "bleu": 21.987,
                "chrf": 43.214,
                "loss": 2.3456,
                "signature": SIGNATURE,
                "chrf_signature": CHRF_SIGNATURE,
            }
        },
        "samples": [{"source": "Ein | Hund.", "reference": "A dog.", "translation": "A dog."}],
        "data": {
            "source_lang": "de",
            "target_lang": "en",
            "name": None,
            "files": {"train": "train.de", "test": "test.de"},
            "pairs": {"train": 5000, "test": 1},
        },
        "pictures": ["loss.png"],
    }


def test_metadata_is_valid_and_holds_the_scores(record: dict[str, Any]) -> None:
    data = ModelCard(render_model_card(record)).data
    assert (data.library_name, data.language, data.pipeline_tag) == ("transformers", ["de", "en"], "translation")
    assert {"hf_momo", "momo_adam"} <= set(data.tags)
    assert data.model_name == "some-model"
    results = {result.metric_type: result for result in data.eval_results}
    assert {kind: result.metric_value for kind, result in results.items()} == {"bleu": 21.99, "chrf": 43.21}
    assert results["bleu"].metric_args == {"signature": SIGNATURE}
    assert results["bleu"].dataset_name == "test.de"


def test_what_the_step_size_did(record: dict[str, Any]) -> None:
    card = render_model_card(record)
    # (100 * 1 + 200 * 0.75 + 100 * 0.25) / 400
    assert "binding in 68.8% of the 400 logged steps: in 100.0% of the first quarter and 25.0% of the last" in card
    assert "the step size ran from 0.0004 to 0.002" in card
    assert "The lower bound of the loss began at 0 and ended at 0.6" in card
    assert "no step was skipped" in card


def test_other_optimizers_have_no_step_size(record: dict[str, Any]) -> None:
    record["curve"] = [{"step": 1, "loss": 3.0, "learning_rate": 0.002}]
    record["settings"]["training"]["optim"] = "adamw_torch"
    card = render_model_card(record)
    assert "the cap" not in card
    assert "adaptive step size" not in card


def test_comparisons_stand_in_the_table(record: dict[str, Any]) -> None:
    other = copy.deepcopy(record)
    other["settings"]["training"] |= {"optim": "adamw_torch", "optim_args": None, "learning_rate": 3e-4}
    other["metrics"]["test"]["bleu"] = 19.5
    other["curve"] = [{"step": 1, "loss": 3.0, "learning_rate": 3e-4}]
    record["comparisons"] = [summarize(other)]
    card = render_model_card(record)
    settings = "[0.9, 0.98] | 0.5 | marian | linear"
    scores = "68.8% (100%, 75%, 75%, 25%) | 21.99 | 43.21 |"
    ours = f"| `momo_adam` with `adapt_lower_bound=true` | {settings} | 0.002 | 400 | 7 | {scores}"
    assert ours in card
    older = {key: value for key, value in summarize(record).items() if key != "capped_by_quarter"}
    assert ours.replace(" (100%, 75%, 75%, 25%)", "") in render_model_card(record | {"comparisons": [older]})
    assert f"| `adamw_torch` | {settings} | 0.0003 | 400 | 7 |  | 19.50 | 43.21 | 2.346 |" in card


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        (("metrics", "test", "bleu"), 33.333, "33.33"),
        (("metrics", "test", "signature"), "tok:zh", "tok:zh"),
        (("model", "parameters"), 7654321, "7,654,321"),
        (("data", "pairs", "train"), 4242, "4,242 sentence pairs"),
        (("steps",), 999, "999 steps"),
        (("seed",), 11, "with seed 11"),
        (("command",), "python other.py", "python other.py"),
        (("versions", "torch"), "9.9.9", "torch 9.9.9"),
        (("hardware", "device"), "A GPU", "A GPU, 1 process"),
        (("hardware", "instructions"), "AVX512", "A CPU (AVX512), 1 process"),
        (("settings", "model", "d_model"), 321, "| d_model | 321 |"),
        (("optimizer", "betas"), [0.1, 0.2], "| betas | [0.1, 0.2] |"),
    ],
)
def test_everything_comes_from_the_record(
    record: dict[str, Any], path: tuple[str, ...], value: Any, shown: str
) -> None:
    assert shown not in render_model_card(record)
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert shown in render_model_card(record)


def test_a_written_card_is_the_render_of_its_record(tmp_path: Path, record: dict[str, Any]) -> None:
    write_model_card(record, tmp_path / "card")
    assert {path.name for path in (tmp_path / "card").iterdir()} == {"README.md", "record.json"}
    written = json.loads((tmp_path / "card" / "record.json").read_text(encoding="utf-8"))
    assert written == record
    assert (tmp_path / "card" / "README.md").read_text(encoding="utf-8") == render_model_card(written)
    assert "Ein \\| Hund." in render_model_card(written)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_published_cards_are_the_render_of_their_records(card: Path) -> None:
    record = json.loads((card.parent / "record.json").read_text(encoding="utf-8"))
    assert card.read_text(encoding="utf-8") == render_model_card(record)
    assert all((card.parent / picture).exists() for picture in record["pictures"])


def test_a_score_of_tokens_is_named_apart_from_that_of_text(record: dict[str, Any]) -> None:
    record["settings"]["data"]["moses_tokenized"] = True
    score = {"bleu_tokenized_lowercased": 33.333, "bleu_tokenized_lowercased_signature": "nrefs:1|case:lc|tok:none"}
    record["metrics"]["test"] |= score
    text = render_model_card(record)
    header, rule, first = (line for line in text.splitlines() if line.startswith("|") and line.count("|") == 14)
    assert header.split("|")[-2].strip() == "test bleu_tokenized_lowercased"
    assert first.split("|")[-2].strip() == "33.33"
    assert set(rule) == {"|", "-", ":", " "}
    assert "`nrefs:1|case:lc|tok:none`" in text
    assert "takes and gives Moses tokens" in text


def of_task(record: dict[str, Any], task: str, data: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    settings = {**record["settings"], "data": {}}
    changed = {"task": task, "data": data, "metrics": metrics, "settings": settings}
    return {key: value for key, value in (record | changed).items() if key != "samples"}


def scores_of(text: str) -> dict[str, Any]:
    return {result.metric_type: result.metric_value for result in ModelCard(text).data.eval_results}


def test_click_through_rate(record: dict[str, Any]) -> None:
    scores = {"loss": 0.45678, "auc": 0.78912, "rows": 1000, "click_rate": 0.25, "constant_loss": 0.56234}
    data = {"name": "a log", "files": {"train": ["train.tsv"]}}
    text = render_model_card(of_task(record, "click-through-rate", data, {"test": scores}) | {"rows": 5000})
    assert scores_of(text) == {"roc_auc": 0.7891, "log_loss": 0.4568}
    assert "on 5,000 rows (a log, 2.5 passes over the log)" in text
    assert (
        "1,000 rows of test, of which 25.0% are clicks; predicting that rate for every row has a log loss of" in text
    )
    assert "0.5623" in text and "| test AUC | test log loss |" in text
    assert "AutoModel.from_pretrained" in text and "categories=codes" in text
    assert ModelCard(text).data.pipeline_tag == "tabular-classification"


def test_language_modelling(record: dict[str, Any]) -> None:
    data = {"name": None, "files": {"train": "my.txt"}, "tokens": {"train": 9000, "validation": 1000}}
    scores = {"loss": 3.2, "perplexity": 24.5325, "bits_per_byte": 2.34567}
    changed = of_task(record, "language-modeling", data, {"validation": scores})
    changed["samples"] = [{"prompt": "To be", "text": " or ```not```"}]
    text = render_model_card(changed)
    assert scores_of(text) == {"perplexity": 24.53, "bits_per_byte": 2.346}
    assert "on 9,000 tokens (my.txt)" in text and "1,000 tokens of validation" in text
    assert 'generate("To be", ' in text
    # A fence longer than any in the sample.
    assert "````\nTo be or ```not```\n````" in text


def test_image_classification(record: dict[str, Any]) -> None:
    data = {"name": "cifar10", "splits": {"train": 800, "test": 200}, "image": [32, 32, 3], "classes": 10}
    changed = of_task(record, "image-classification", data, {"test": {"accuracy": 0.91237, "loss": 0.3}})
    changed["settings"]["data"] = {"max_train_samples": 800, "dataset_name": "cifar10"}
    changed |= {"datasets": ["uoft-cs/cifar10"], "base_model": "google/vit-base", "license": "mit"}
    text = render_model_card(changed)
    card = ModelCard(text).data
    assert scores_of(text) == {"accuracy": 0.9124}
    assert (card.datasets, card.base_model, card.license) == (["uoft-cs/cifar10"], "google/vit-base", "mit")
    assert card.eval_results[0].dataset_type == "uoft-cs/cifar10"
    assert "for images of 32 x 32 x 3 in 10 classes" in text and "fine-tuned from [google/vit-base]" in text
    assert "A part of the data was taken (max_train_samples 800), and the scores are of that part." in text


def test_a_run_that_diverged_or_was_not_evaluated(record: dict[str, Any]) -> None:
    """No score that is not a number reaches the Hub, and the card says what happened."""
    record["curve"] += [entry(500, float("nan"), 0.0, float("nan")) | {"loss": float("nan")}]
    record["metrics"]["test"] |= {"bleu": 0.0, "chrf": float("nan"), "loss": float("inf")}
    text = render_model_card(record)
    assert scores_of(text) == {"bleu": 0.0}
    assert "| 0.00 | nan | inf |" in text
    assert "The training diverged: a logged loss is not a number." in text
    record["metrics"] = {}
    text = render_model_card(record)
    assert ModelCard(text).data.eval_results is None and "model_name" not in text.split("---")[1]
    assert "The model was not evaluated." in text and "Nothing is known of its quality" in text


def test_skipped_steps_and_notes(record: dict[str, Any]) -> None:
    record["curve"][-1]["skipped_steps"] = 2
    record["notes"] = ["A toy.", "Not for use"]
    text = render_model_card(record)
    assert "2 steps were skipped because a number was not finite." in text
    assert "- A toy.\n- Not for use.\n" in text


def test_a_text_of_ones_own_is_not_written_over(tmp_path: Path, record: dict[str, Any]) -> None:
    (tmp_path / "README.md").write_text("# Mine\n")
    assert not write_model_card(record, tmp_path)
    assert (tmp_path / "README.md").read_text() == "# Mine\n" and (tmp_path / "record.json").exists()
    (tmp_path / "README.md").write_text("")
    assert write_model_card(record, tmp_path)
    assert write_model_card(record | {"name": "another"}, tmp_path)
    assert "# another" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert not is_generated("---\nlibrary_name: peft\n---\n# Model of mine\n")


def test_card_from_folder(tmp_path: Path, record: dict[str, Any]) -> None:
    folder = tmp_path / "a-run"
    assert card_from_folder(tmp_path) is None
    write_model_card({key: value for key, value in record.items() if key != "name"}, folder)
    text = card_from_folder(folder, repo_id="me/translator")
    assert ModelCard(str(text)).data.model_name == "translator"
    assert text is not None
    # Of the pictures of the record those that are there.
    assert 'model="me/translator"' in text and "# translator" in text and ".png" not in text
    assert "# a-run" in str(card_from_folder(folder))
    (folder / "loss.png").write_bytes(b"")
    assert "![loss](loss.png)" in str(card_from_folder(folder))
    for content, problem in (
        ("{", "is not JSON"),
        ("{}", "it has no curve"),
        ('{"curve": []}', "it has no 'metrics'"),
    ):
        (folder / "record.json").write_text(content)
        with pytest.raises(ValueError, match=problem):
            card_from_folder(folder)
