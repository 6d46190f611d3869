"""A model card shows its record."""

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from hf_momo.hub.cards import (
    MARKER,
    card_from_folder,
    is_generated,
    render_model_card,
    summarize,
    write_card,
    write_model_card,
)
from hf_momo.hub.cards.task import Score, TaskTexts

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a"
# Texts of a task that hf_momo has never heard of, as the script of a newcomer would make them.
TEXTS = TaskTexts(
    description="A conformer with 1,234,567 parameters that transcribes bird song",
    usage='Load it:\n\n    transcribe("{repository}", {"loud": True})',
    pipeline_tag="automatic-speech-recognition",
    scores=[Score("wer", "word error rate", "wer", 2, "signature"), Score("loss", "loss", None, 3)],
    scores_note="Lower is better.",
    origin="trained from scratch",
    trained_on="5,000 songs",
    evaluated_on={"test": "12 songs of test"},
    dataset_name="Garden, spring",
    languages=["de"],
    limits=["The songs are of one garden"],
)


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
    record = {
        "name": "some-model",
        "task": "bird-song",
        "command": "python recipes/bird_song.py --seed 7",
        "settings": {"model": {"model_name_or_path": None, "d_model": 96}, "data": {}, "training": training},
        "optimizer": {"name": "MomoAdam", "betas": [0.9, 0.98], "odd_option": 5},
        "step_size_is_bias_corrected": True,
        "model": {"type": "conformer", "parameters": 1234567},
        "steps": 400,
        "epochs": 2.5,
        "train_runtime": 660.0,
        "seed": 7,
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "hardware": {"processes": 1, "device": "A CPU", "cpu_count": 2, "threads": 1},
        "curve": [entry(100, 0.002, 1.0, 0.0), entry(300, 0.002, 0.75, 0.0), entry(400, 0.0004, 0.25, 0.6)],
        "evaluations": [{"step": 400, "eval_loss": 2.0}],
        "metrics": {"test": {"wer": 21.987, "loss": 2.3456, "signature": SIGNATURE}},
        "data": {"name": "songs"},
        "card": asdict(TEXTS),
        "pictures": ["loss.png"],
    }
    return json.loads(json.dumps(record))


def test_metadata_is_valid_and_holds_the_scores(record: dict[str, Any]) -> None:
    data = ModelCard(render_model_card(record)).data
    assert (data.library_name, data.language) == ("transformers", ["de"])
    assert data.pipeline_tag == "automatic-speech-recognition"
    assert {"hf_momo", "momo_adam"} <= set(data.tags)
    assert data.model_name == "some-model"
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_name, result.metric_value) == ("wer", "word error rate", 21.99)
    assert result.metric_args == {"signature": SIGNATURE}
    assert (result.dataset_name, result.dataset_type) == ("Garden, spring", "garden-spring")


def test_the_texts_of_the_task_travel_in_the_record(record: dict[str, Any]) -> None:
    """A recipe that hf_momo does not know has a card of its own: nothing in hf_momo names a task of the recipes."""
    card = render_model_card(record | {"repo_id": "me/birds"})
    assert "A conformer with 1,234,567 parameters that transcribes bird song, trained from scratch on 5,000" in card
    assert f"Scored on 12 songs of test. word error rate `{SIGNATURE}`. Lower is better." in card
    assert 'transcribe("me/birds", {"loud": True})' in card
    assert "- The songs are of one garden.\n" in card
    record["card"]["author"] = "me"
    with pytest.raises(TypeError, match="author"):
        render_model_card(record)


def test_a_record_without_texts_has_a_generic_card(record: dict[str, Any]) -> None:
    del record["card"]
    record["metrics"]["test"]["bleu"] = 12.345
    text = render_model_card(record)
    assert "A conformer model with 1,234,567 parameters, trained on songs with `momo_adam`" in text
    assert "| test loss | test BLEU |" in text.replace("test wer | ", "")
    assert "Scored on the test data." in text
    data = ModelCard(text).data
    # A task that no Trainer has named need not be one of the Hub, which would refuse the card.
    assert data.pipeline_tag is None
    assert {each.metric_type: each.metric_value for each in data.eval_results}["bleu"] == 12.35


def test_the_section_on_the_step_size(record: dict[str, Any]) -> None:
    card = render_model_card(record)
    # (100 * 1 + 200 * 0.75 + 100 * 0.25) / 400
    assert "binding in 68.8% of the 400 logged steps: in 100.0% of the first quarter of the run and in 25.0%" in card
    assert "the step size was between 0.0004 and 0.002" in card
    assert "The lower bound of the loss began at 0 and ended at 0.6" in card
    assert "no step was skipped" in card


@pytest.mark.parametrize(
    ("corrected", "optimizer", "noted"),
    [
        (True, {"name": "MomoAdam"}, False),
        (None, {"name": "MomoAdam"}, True),
        (None, {"name": "Momo", "bias_correction": True}, True),
        (None, {"name": "Momo", "bias_correction": False}, False),
    ],
)
def test_an_old_record_says_that_its_step_sizes_are_larger(
    record: dict[str, Any], corrected: bool | None, optimizer: dict[str, Any], noted: bool
) -> None:
    """The log of momo_adam began at ten times its cap, which a card must not pass off as the step that was taken."""
    record |= {"step_size_is_bias_corrected": corrected, "optimizer": optimizer}
    assert ("divided by the bias correction" in render_model_card(record)) is noted


def test_other_optimizers_have_no_step_size(record: dict[str, Any]) -> None:
    record["curve"] = [{"step": 1, "loss": 3.0, "learning_rate": 0.002}]
    record["settings"]["training"]["optim"] = "adamw_torch"
    card = render_model_card(record)
    assert "`adamw_torch` uses the scheduled learning rate unchanged; at the logged steps it was 0.002" in card
    assert "the cap" not in card
    assert "adaptive step size" not in card


def test_comparisons_stand_in_the_table(record: dict[str, Any]) -> None:
    other = copy.deepcopy(record)
    other["settings"]["training"] |= {"optim": "adamw_torch", "optim_args": None, "learning_rate": 3e-4}
    other["metrics"]["test"]["wer"] = 19.5
    other["curve"] = [{"step": 1, "loss": 3.0, "learning_rate": 3e-4}]
    record["comparisons"] = [summarize(other)]
    card = render_model_card(record)
    settings = "[0.9, 0.98] | 0.5 | conformer | linear"
    scores = "68.8% (100%, 75%, 75%, 25%) | 21.99 | 2.346 |"
    ours = f"| `momo_adam` with `adapt_lower_bound=true` | {settings} | 0.002 | 400 | 7 | {scores}"
    assert ours in card
    older = {key: value for key, value in summarize(record).items() if key != "capped_by_quarter"}
    assert ours.replace(" (100%, 75%, 75%, 25%)", "") in render_model_card(record | {"comparisons": [older]})
    assert f"| `adamw_torch` | {settings} | 0.0003 | 400 | 7 |  | 19.50 | 2.346 |" in card


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        (("metrics", "test", "wer"), 33.333, "33.33"),
        (("metrics", "test", "signature"), "tok:zh", "tok:zh"),
        (("card", "trained_on"), "4,242 songs", "on 4,242 songs with"),
        (("steps",), 999, "999 steps"),
        (("seed",), 11, "with seed 11"),
        (("command",), "python other.py", "python other.py"),
        (("versions", "torch"), "9.9.9", "torch 9.9.9"),
        (("hardware", "device"), "A GPU", "A GPU, 1 process"),
        (("hardware", "instructions"), "AVX512", "A CPU (AVX512), 1 process"),
        (("settings", "model", "d_model"), 321, "| d_model | 321 |"),
        (("optimizer", "betas"), [0.1, 0.2], "| betas | [0.1, 0.2] |"),
        # An option whose meaning the table does not know has its name alone.
        (("optimizer", "odd_option"), 6, "| odd_option | 6 |  |"),
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


def test_a_run_that_diverged_or_was_not_evaluated(record: dict[str, Any]) -> None:
    """A score that is not finite is not sent to the Hub, and the card says that the run diverged."""
    record["curve"] += [entry(500, float("nan"), 0.0, float("nan")) | {"loss": float("nan")}]
    record["metrics"]["test"] |= {"wer": 0.0, "loss": float("inf")}
    text = render_model_card(record)
    assert [each.metric_value for each in ModelCard(text).data.eval_results] == [0.0]
    assert "| 0.00 | inf |" in text
    assert "The training diverged: a logged loss is not finite." in text
    record["metrics"] = {}
    text = render_model_card(record)
    assert ModelCard(text).data.eval_results is None and "model_name" not in text.split("---")[1]
    assert "The model was not evaluated." in text and "The quality of the model is unknown" in text


def test_skipped_steps_and_notes(record: dict[str, Any]) -> None:
    record["curve"][-1]["skipped_steps"] = 2
    record["notes"] = ["A toy.", "Not for use"]
    text = render_model_card(record)
    assert "2 steps were skipped because a number was not finite." in text
    assert "- A toy.\n- Not for use.\n" in text


@pytest.mark.parametrize(
    "marker",
    [
        MARKER,
        # Cards with this one are on the Hub already.
        "hf_momo has made this card from the record of a run. Take this comment out, and it keeps off your own text.",
    ],
)
def test_a_card_with_the_marker_is_written_over(tmp_path: Path, marker: str) -> None:
    (tmp_path / "README.md").write_text(f"<!-- {marker} -->\n\n# A model\n")
    assert write_card("# A new card\n", tmp_path)
    assert (tmp_path / "README.md").read_text() == "# A new card\n"


def test_a_card_of_ones_own_is_not_written_over(tmp_path: Path, record: dict[str, Any]) -> None:
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
    # Pictures that are not in the folder are left out.
    assert 'transcribe("me/translator"' in text and "# translator" in text and ".png" not in text
    assert "# a-run" in str(card_from_folder(folder))
    (folder / "loss.png").write_bytes(b"")
    assert "![loss](loss.png)" in str(card_from_folder(folder))
    for content, problem in (
        ("{", "is not JSON"),
        ("{}", "it has no curve"),
        ('{"curve": []}', "it has no 'data'"),
        (json.dumps(record | {"card": {"author": "me"}}), "author"),
    ):
        (folder / "record.json").write_text(content)
        with pytest.raises(ValueError, match=problem):
            card_from_folder(folder)
