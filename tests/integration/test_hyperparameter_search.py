"""``Trainer.hyperparameter_search`` over the optimizers' names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.stock_script import LENGTH, VOCABULARY, Sentences
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import hf_momo

optuna = pytest.importorskip("optuna")
OPTIMIZERS = ["adamw_torch", "momo", "momo_adam"]
# Large enough that MoMo's step is below the cap, so that momo_adam differs from AdamW.
LEARNING_RATE = 1.0


@pytest.fixture
def integrated() -> Iterator[None]:
    hf_momo.integrate()
    yield
    hf_momo.integrate(undo=True)


def tiny_model() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2))


def make_trainer(folder: Path, **settings: Any) -> Trainer:
    args = TrainingArguments(
        str(folder), max_steps=4, per_device_train_batch_size=4, use_cpu=True, report_to="none", save_strategy="no",
        logging_steps=1, disable_tqdm=True, **settings,
    )  # fmt: skip
    rows = Sentences(16)
    return Trainer(model_init=tiny_model, args=args, train_dataset=rows, eval_dataset=rows)


@pytest.mark.parametrize("made_with", ["momo_adam", "adamw_torch"])
def test_optuna_over_optimizers(integrated: None, made_with: str, tmp_path: Path) -> None:
    """A trial trains like a run of its own, also after a trial with another optimizer, whose tap must not stay."""

    def space(trial: Any) -> dict[str, Any]:
        return {
            "optim": trial.suggest_categorical("optim", OPTIMIZERS),
            "learning_rate": trial.suggest_float("learning_rate", 1e-3, LEARNING_RATE),
        }

    searching = make_trainer(tmp_path / "search", optim=made_with)
    found: dict[str, float] = {}

    def record(metrics: dict[str, float]) -> float:
        found[searching.args.optim.value] = metrics["eval_loss"]  # type: ignore[union-attr]
        return metrics["eval_loss"]

    sampler = optuna.samplers.GridSampler({"optim": OPTIMIZERS, "learning_rate": [LEARNING_RATE]}, seed=0)
    best: Any = searching.hyperparameter_search(
        hp_space=space, compute_objective=record, backend="optuna", n_trials=3, direction="minimize", sampler=sampler
    )
    alone = {}
    for name in OPTIMIZERS:
        trainer = make_trainer(tmp_path / name, optim=name, learning_rate=LEARNING_RATE)
        trainer.train()
        alone[name] = trainer.evaluate()["eval_loss"]
    assert found == alone
    assert len(set(alone.values())) == 3
    assert best.hyperparameters["optim"] == min(alone, key=lambda name: alone[name])
