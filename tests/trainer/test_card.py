"""The card that a Trainer writes describes its run, and says nothing about the machine or its user."""

from __future__ import annotations

import logging
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from trainer import tiny
from transformers import GPT2LMHeadModel, Trainer, TrainingArguments

import hf_momo
from hf_momo import MomoTrainer
from hf_momo.hub.cards import MARKER
from hf_momo.trainer import ModelCardMixin

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrSt"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def trained(folder: Path, model: Any = None, trainer_class: Any = MomoTrainer, **options: Any) -> Any:
    data = tiny.class_examples() if model is None else own_inputs(tiny.text_examples())
    args = tiny.arguments(folder, **({"max_steps": 6} | options))
    trainer = trainer_class(model=model or tiny.Classifier(), args=args, train_dataset=data, eval_dataset=data)
    trainer.train()
    return trainer


def own_inputs(examples: tiny.Examples) -> tiny.Examples:
    for example in examples.examples:
        example["labels"] = example["input_ids"].clone()
    return examples


def card_of(trainer: Any, **options: Any) -> ModelCard:
    trainer.create_model_card(**options)
    return ModelCard.load(Path(trainer.args.output_dir, "README.md"))


def test_the_card_has_the_numbers_of_the_log(tmp_path: Path) -> None:
    trainer = trained(tmp_path / "a-model", learning_rate=0.05, optim_args="lower_bound=0.25", max_grad_norm=2.0)
    loss = trainer.evaluate()["eval_loss"]
    card = card_of(trainer, dataset="some data", license="mit", language="en", tags="mine")
    logs = tiny.training_logs(trainer)
    sizes = [entry["step_size"] for entry in logs]
    share = sum(entry["step_capped"] for entry in logs) / len(logs)
    assert 0 < share < 1, "the case should have both kinds of steps"
    assert f"The cap was binding in {share:.1%} of the 6 logged steps" in card.text
    assert f"the step size was between {min(sizes):.2g} and {max(sizes):.2g}" in card.text
    assert "The lower bound of the loss was 0.25 throughout, and no step was skipped." in card.text
    assert "| lr | 0.05 | cap on the step size |" in card.text
    assert "| clipping | at 2 | maximum gradient norm, accounted for by the sample weight |" in card.text
    assert "trained on 32 examples (some data)" in card.text
    data = card.data
    assert (data.license, data.language, data.model_name) == ("mit", ["en"], "a-model")
    assert {"hf_momo", "momo_adam", "mine", "generated_from_trainer"} <= set(data.tags)
    (score,) = data.eval_results
    assert (score.metric_type, score.metric_value, score.dataset_name) == ("loss", round(loss, 4), "some data")
    head = (tmp_path / "a-model" / "step_size.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", head[16:24])[0] == 960


def test_the_metadata_survive_the_library_that_checks_them(tmp_path: Path) -> None:
    trainer = trained(tmp_path / "gpt", tiny.gpt2(), optim="momo")
    trainer.evaluate()
    data = card_of(trainer, dataset_tags=["glue", str(tmp_path)], dataset_args="sst2").data
    assert data.pipeline_tag == "text-generation" and data.datasets == ["glue"]
    assert [result.metric_type for result in data.eval_results] == ["perplexity"]
    again = ModelCardData(**data.to_dict())
    assert again.to_dict() == data.to_dict()
    index = eval_results_to_model_index(data.model_name, data.eval_results)
    assert model_index_to_eval_results(index) == ("gpt", data.eval_results)


def test_another_optimizer_has_no_step_size(tmp_path: Path) -> None:
    card = card_of(trained(tmp_path, optim="adamw_torch", learning_rate=1e-2, weight_decay=0.1))
    assert "`adamw_torch` uses the scheduled learning rate unchanged; at the logged steps it was 0.01 " in card.text
    assert "cap on the step size" not in card.text and "MoMo](" not in card.text
    assert "The model was not evaluated." in card.text and card.data.eval_results is None
    assert "weight_decay | [0.1, 0.0] |" in card.text


def test_nothing_of_the_machine_its_user_and_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.gpt2()
    base = tmp_path / "home" / "alice" / "base"
    model.save_pretrained(base)
    script = tmp_path / "train.py"
    script.write_text("")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    secrets = ["--hub_token", TOKEN, f"--push_to_hub_token={TOKEN}", "--note", f"x{TOKEN}", "--my_api_key", "qwertz"]
    monkeypatch.setattr(sys, "argv", [str(script), "--model", str(base), "--max_new_tokens", "5", *secrets])
    options: dict[str, Any] = {"hub_token": TOKEN, "logging_dir": str(tmp_path / "logs"), "run_name": str(tmp_path)}
    known = {key: value for key, value in options.items() if key in TrainingArguments.__dataclass_fields__}
    with pytest.MonkeyPatch.context() as context:
        context.setenv("USER", "alice")
        trainer = trained(tmp_path / "out", GPT2LMHeadModel.from_pretrained(base), **known)
        card = card_of(trainer, finetuned_from=str(base), dataset=str(tmp_path / "x.txt"), dataset_tags="/data/x")
    text = card.content
    assert card.data.base_model is None and card.data.datasets is None
    assert "fine-tuned from a checkpoint that is not on the Hub" in text
    for secret in (TOKEN, "qwertz", str(tmp_path), str(Path.home()) + "/", "alice", "/data/x"):
        assert secret not in text, secret
    assert "--max_new_tokens 5" in text and "--note 'x<token>'" in text


def test_a_base_model_of_the_hub_is_named(tmp_path: Path) -> None:
    model = tiny.gpt2()
    model.config._name_or_path = "openai-community/gpt2"
    assert card_of(trained(tmp_path, model)).data.base_model == "openai-community/gpt2"


def test_a_card_written_by_hand_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = trained(tmp_path)
    path = tmp_path / "README.md"
    trainer.create_model_card()
    generated = path.read_text(encoding="utf-8")
    # A card without the marker is the user's own and stays; one with the marker is replaced.
    by_hand = generated.replace(f"<!-- {MARKER} -->\n\n", "Written by hand.\n\n")
    path.write_text(by_hand, encoding="utf-8")
    with caplog.at_level(logging.WARNING, "hf_momo"):
        trainer.create_model_card()
    assert path.read_text(encoding="utf-8") == by_hand
    assert "README.md was not generated, so it is not replaced" in caplog.text
    path.write_text(generated + "Something more.", encoding="utf-8")
    trainer.create_model_card()
    assert path.read_text(encoding="utf-8") == generated
    Trainer.create_model_card(trainer, model_name="stock")
    assert "hf_momo" not in path.read_text(encoding="utf-8")
    trainer.create_model_card()
    assert path.read_text(encoding="utf-8") == generated


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    trainer = trained(tmp_path)
    monkeypatch.delitem(sys.modules, "hf_momo.hub.cards.pictures", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with caplog.at_level(logging.INFO, "hf_momo"):
        card = card_of(trainer)
    assert caplog.text.count("matplotlib is not installed") == 1
    assert "The cap was binding in" in card.text and ".png" not in card.text
    assert not (tmp_path / "step_size.png").exists()


def test_before_training_and_on_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = MomoTrainer(model=tiny.Classifier(), args=tiny.arguments(tmp_path))
    assert "0 steps" in card_of(trainer).text
    (tmp_path / "README.md").unlink()
    monkeypatch.setattr(trainer, "is_world_process_zero", lambda: False)
    trainer.create_model_card()
    assert not (tmp_path / "README.md").exists()


class CardsOfOurs(ModelCardMixin, Trainer):
    """A Trainer with the cards, and without MoMo."""


def test_cards_are_a_mixin_of_their_own(tmp_path: Path) -> None:
    args = TrainingArguments(**(tiny.quiet(tmp_path) | {"optim": "adamw_torch", "learning_rate": 1e-2}))
    trainer = CardsOfOurs(model=tiny.Classifier(), args=args, train_dataset=tiny.class_examples())
    trainer.train()
    card = card_of(trainer, tasks="text-classification")
    assert "`adamw_torch` uses the scheduled learning rate unchanged" in card.text
    assert card.data.pipeline_tag == "text-classification"


def test_the_stock_trainer_of_a_script_writes_its_own_card(tmp_path: Path) -> None:
    """``integrate`` gave every Trainer of a process these cards, also those that never used MoMo."""
    hf_momo.integrate()
    try:
        args = TrainingArguments(**(tiny.quiet(tmp_path) | {"optim": "momo_adam"}))
        trainer = Trainer(model=tiny.Classifier(), args=args, train_dataset=tiny.class_examples())
        trainer.train()
        card = card_of(trainer)
    finally:
        hf_momo.integrate(undo=True)
    assert "This model card has been generated automatically according to the information the Trainer" in card.content
    assert "hf_momo" not in card.content


# peft 0.21 reads a property of models that transformers 5.23 has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    model = tiny.gpt2()
    model.config._name_or_path = str(tmp_path / "base")
    adapter = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    )
    trainer = trained(tmp_path / "out", adapter)
    trainer.save_model()
    assert "Model Card for Model ID" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    card = card_of(trainer)
    assert card.data.library_name == "peft" and "lora" in card.data.tags
    assert str(tmp_path) not in card.content
    trained_parameters = sum(each.numel() for each in adapter.parameters() if each.requires_grad)
    assert f"({trained_parameters:,} of them trained)" in card.text
    # PEFT adds its lines to an existing card when it saves the model again. Our card replaces all of it.
    trainer.save_model()
    trainer.create_model_card()
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8") == card.content
