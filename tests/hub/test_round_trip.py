"""A Trainer pushes what it saved, and the model that is loaded from the Hub is the trained one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hub.conftest import Clock
from hub.server import Hub
from hub.tiny_runs import NAME, TOKEN, check_no_token, saved, trainer
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError
from trainer.tiny import gpt2, quiet, text_examples
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

import hf_momo


def test_what_is_pushed_is_what_was_saved(hub: Hub, tmp_path: Path) -> None:
    run = trainer(tmp_path / "run", logging_strategy="steps")
    run.train()
    run.push_to_hub()
    repository = hub.repositories[NAME]
    assert repository.files == saved(tmp_path / "run")
    assert set(repository.files) >= {"README.md", "config.json", "model.safetensors", "step_size.png"}
    assert (repository.messages, repository.private) == (["End of training"], False)
    assert hub.count("yaml") >= 1  # the Hub has checked the metadata of the card
    assert "momo_adam" in ModelCard(repository.files["README.md"].decode()).data.tags
    assert [request for request in hub.requests if request.kind == "unknown"] == []
    check_no_token(hub, tmp_path)


def test_the_model_loaded_back_is_the_model_trained(hub: Hub, tmp_path: Path) -> None:
    run = trainer(tmp_path / "run", hub_private_repo=True)
    run.train()
    run.push_to_hub()
    assert hub.repositories[NAME].private
    cache = {"cache_dir": tmp_path / "cache"}
    model = AutoModelForCausalLM.from_pretrained(NAME, **cache).eval()
    words = AutoTokenizer.from_pretrained(NAME, **cache)("w3 w4 w5", return_tensors="pt")
    assert torch.equal(model(**words).logits, run.model.eval()(**words).logits)
    with pytest.raises(OSError, match=r"private or gated|not a valid model identifier"):
        AutoModelForCausalLM.from_pretrained(NAME, token=False, cache_dir=tmp_path / "other")


# The last save is pushed once, so the push at the end adds no more than the card.
@pytest.mark.parametrize(
    ("strategy", "folders"),
    [
        ("end", set()),
        ("every_save", set()),
        ("checkpoint", {"last-checkpoint"}),
        ("all_checkpoints", {"checkpoint-2", "checkpoint-4"}),
    ],
)
def test_strategies(hub: Hub, tmp_path: Path, strategy: str, folders: set[str]) -> None:
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "hub_always_push": True}
    run = trainer(tmp_path / "run", hub_strategy=strategy, **options)
    run.train()
    repository = hub.repositories[NAME]
    saves = [] if strategy == "end" else [f"Training in progress, step {step}" for step in (2, 4)]
    if folders:
        saves = [message for save in saves for message in (save, f"{save}, checkpoint")]
    assert repository.messages == saves
    run.push_to_hub()
    assert repository.messages == [*saves, "End of training"]
    assert {name.split("/")[0] for name in repository.files if "/" in name} == folders
    for folder in folders:
        local = tmp_path / "run" / ("checkpoint-4" if folder == "last-checkpoint" else folder)
        assert repository.files[f"{folder}/optimizer.pt"] == (local / "optimizer.pt").read_bytes()
    assert {name: content for name, content in repository.files.items() if "/" not in name} == saved(tmp_path / "run")


def test_a_token_in_the_arguments_is_used_and_not_saved(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    options = {"hub_strategy": "checkpoint", "save_strategy": "steps", "save_steps": 1}
    run = trainer(tmp_path / "run", hub_token=TOKEN, **options)
    run.train()
    run.push_to_hub()
    assert torch.load(tmp_path / "run" / "training_args.bin", weights_only=False).hub_token is None
    assert hub.repositories[NAME].files.keys() >= {"training_args.bin", "last-checkpoint/training_args.bin"}
    check_no_token(hub, tmp_path)


@pytest.mark.parametrize("optim", ["momo_adam", "adamw_torch"])
def test_a_stock_trainer_of_hf_momo_run_pushes_by_itself(hub: Hub, clock: Clock, optim: str, tmp_path: Path) -> None:
    """Pushing is the script's: a failed push was swallowed, also with an optimizer that is not ours."""
    hf_momo.integrate()
    try:
        args = TrainingArguments(
            **quiet(tmp_path / "run"), optim=optim, logging_strategy="no", push_to_hub=True, hub_model_id=NAME
        )
        run = Trainer(model=gpt2(), args=args, train_dataset=text_examples(8))
        run.train()
        hub.fail("commit")
        with pytest.raises(HfHubHTTPError):
            run.save_model()
        hub.faults.clear()
        run.push_to_hub()
    finally:
        hf_momo.integrate(undo=True)
    assert hub.repositories[NAME].files == saved(tmp_path / "run")
