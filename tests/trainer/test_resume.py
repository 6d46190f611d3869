"""A run that is killed and resumed from its checkpoint equals the unbroken run to the bit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version
from trainer.tiny import Classifier, Example, Examples, arguments, class_examples, scalars_of, training_logs
from transformers import TrainerCallback

from hf_momo import MomoAdam, MomoTrainer
from hf_momo.optimizers.registry import unwrap_optimizer

STEPS, KILLED_AFTER, SAVED_AT = 8, 5, 4


class Killed(Exception):
    """Raised to end the run."""


class KillAfter(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


def make(folder: Path, *, examples: Examples | None = None, **options: Any) -> MomoTrainer:
    """Return a Trainer with dropout and a random order, so that the generators' state must be restored too."""
    torch.manual_seed(0)
    defaults = {"max_steps": STEPS, "save_strategy": "steps", "save_steps": SAVED_AT, "learning_rate": 0.1}
    return MomoTrainer(
        model=Classifier(dropout=0.3),
        args=arguments(folder, **(defaults | options)),
        train_dataset=examples or class_examples(),
    )


def unbroken_and_resumed(tmp_path: Path, **options: Any) -> tuple[MomoTrainer, MomoTrainer]:
    unbroken = make(tmp_path / "unbroken", **options)
    unbroken.train()
    killed = make(tmp_path / "killed", **options)
    killed.add_callback(KillAfter(KILLED_AFTER))
    with pytest.raises(Killed):
        killed.train()
    resumed = make(tmp_path / "killed", **options)
    resumed.train(resume_from_checkpoint=True)
    return unbroken, resumed


def comparable(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a log as text, since the gradient norm of a batch of NaNs is not equal to itself."""
    return {key: repr(value) for key, value in entry.items()}


def check_identical(unbroken: MomoTrainer, resumed: MomoTrainer) -> None:
    assert resumed.state.global_step == STEPS
    ours, theirs = ([comparable(entry) for entry in training_logs(trainer)] for trainer in (resumed, unbroken))
    assert ours == theirs
    for ours, theirs in zip(resumed.model.parameters(), unbroken.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert scalars_of(resumed.optimizer) == scalars_of(unbroken.optimizer)
    states = (unwrap_optimizer(trainer.optimizer).state_dict()["state"] for trainer in (resumed, unbroken))
    for ours, theirs in zip(*(state.values() for state in states), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"optim": "momo", "learning_rate": 2.0}, id="momo"),
        pytest.param({"optim": "momo", "learning_rate": 2.0, "optim_args": "bias_correction=true"}, id="momo-zero"),
        pytest.param({"optim": "momo_adam"}, id="momo_adam"),
        pytest.param({"optim": "momo_adam", "weight_decay": 0.1}, id="weight-decay"),
        pytest.param({"optim": "momo_adam", "max_grad_norm": 0.3}, id="clipping"),
        pytest.param({"optim": "momo_adam", "optim_args": "adapt_lower_bound=true"}, id="estimated-bound"),
        pytest.param(
            {"optim": "momo", "optim_args": "adapt_lower_bound=true,lower_bound=0.01"}, id="momo-estimated-bound"
        ),
        pytest.param(
            {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, "lr_scheduler_type": "linear"},
            id="accumulation-and-schedule",
        ),
        pytest.param(
            {"gradient_accumulation_steps": 3},
            id="killed-in-the-second-epoch",
            marks=pytest.mark.skipif(
                Version(transformers.__version__).release < (5,),
                reason="transformers 4 resumes at another batch where the last window of an epoch is shorter, with"
                " its own optimizers too",
            ),
        ),
    ],
)
def test_unbroken_is_killed_and_resumed(tmp_path: Path, options: dict[str, Any]) -> None:
    unbroken, resumed = unbroken_and_resumed(tmp_path, **options)
    check_identical(unbroken, resumed)


def test_the_estimated_bound_comes_back(tmp_path: Path) -> None:
    options = {"optim": "momo_adam", "optim_args": "adapt_lower_bound=true,lower_bound=0.01"}
    _, resumed = unbroken_and_resumed(tmp_path, **options)
    saved = torch.load(tmp_path / "killed" / f"checkpoint-{SAVED_AT}" / "optimizer.pt", weights_only=True)
    bound = float(saved["param_groups"][0]["lower_bound"])
    assert bound > 0.01, "the estimate is meant to have left its floor"
    assert training_logs(resumed)[SAVED_AT - 1]["lower_bound"] == bound
    assert unwrap_optimizer(resumed.optimizer).param_groups[0]["initial_lower_bound"] == 0.01


def test_the_share_of_capped_steps_counts_from_the_resume_on(tmp_path: Path) -> None:
    """A resumed optimizer brings its counters with it, so the first share was taken over all steps of the run."""
    options = {"optim": "momo", "learning_rate": 0.15}
    every_step = make(tmp_path / "every", **options)
    every_step.train()
    capped = [entry["step_capped"] for entry in training_logs(every_step)]
    expected = sum(capped[SAVED_AT:6]) / 2
    assert expected != sum(capped[:6]) / 6, "the steps before and after the checkpoint are meant to differ"

    _, resumed = unbroken_and_resumed(tmp_path, **options, logging_steps=3)
    entries = {entry["step"]: entry["step_capped"] for entry in training_logs(resumed)}
    assert entries == {3: sum(capped[:3]) / 3, 6: expected}


def test_skipped_steps_are_remembered(tmp_path: Path) -> None:
    examples: list[Example] = [dict(example) for example in class_examples().examples]
    for index in (0, 9, 18, 27):
        examples[index]["features"] = torch.full_like(examples[index]["features"], torch.nan)
    options = {"optim": "momo_adam", "examples": Examples(examples)}
    unbroken, resumed = unbroken_and_resumed(tmp_path, **options)
    check_identical(unbroken, resumed)
    skipped = [entry["skipped_steps"] for entry in training_logs(resumed)]
    assert 0 < skipped[SAVED_AT - 1] < skipped[-1], "bad batches are meant to come before and after the checkpoint"
    assert unwrap_optimizer(resumed.optimizer).last_step.num_steps == STEPS - skipped[-1]


def test_resume_of_an_optimizer_that_the_user_passed(tmp_path: Path) -> None:
    def with_own(folder: Path) -> MomoTrainer:
        torch.manual_seed(0)
        model = Classifier(dropout=0.3)
        return MomoTrainer(
            model=model,
            args=arguments(folder, max_steps=STEPS, save_strategy="steps", save_steps=SAVED_AT),
            train_dataset=class_examples(),
            optimizers=(MomoAdam(model.parameters(), lr=0.1), None),
        )

    unbroken = with_own(tmp_path / "unbroken")
    unbroken.train()
    killed = with_own(tmp_path / "killed")
    killed.add_callback(KillAfter(KILLED_AFTER))
    with pytest.raises(Killed):
        killed.train()
    resumed = with_own(tmp_path / "killed")
    resumed.train(resume_from_checkpoint=True)
    check_identical(unbroken, resumed)


SETTINGS = {"learning_rate": 0.1, "weight_decay": 0.1, "optim_args": "lower_bound=0.2"}
OTHER_SETTINGS = {"learning_rate": 0.5, "adam_beta1": 0.8, "optim_args": "lower_bound=0.7,adapt_lower_bound=true"}


def test_arguments_that_the_checkpoint_overrides(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run resumed with other settings used those of the checkpoint, and its card stated the others."""
    unbroken = make(tmp_path / "unbroken", **SETTINGS)
    unbroken.train()
    checkpoint = str(tmp_path / "unbroken" / f"checkpoint-{SAVED_AT}")
    resumed = make(tmp_path / "resumed", **{**SETTINGS, **OTHER_SETTINGS})
    with caplog.at_level("WARNING", logger="hf_momo"):
        resumed.train(resume_from_checkpoint=checkpoint)
    check_identical(unbroken, resumed)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "hf_momo.trainer.resume"]
    for part in (
        "learning_rate: got 0.5, in use 0.1",
        "adam_beta1: got 0.8, in use 0.9",
        "optim_args lower_bound: got 0.7, in use 0.2",
        "optim_args adapt_lower_bound: got True, in use False",
    ):
        assert part in said
    assert "weight_decay" not in said and "adam_beta2" not in said and "adam_epsilon" not in said

    resumed.create_model_card()
    unbroken.create_model_card()
    ours, theirs = (
        (Path(trainer.args.output_dir) / "README.md").read_text(encoding="utf-8") for trainer in (resumed, unbroken)
    )
    assert "| lr | 0.1 |" in ours and "| lower_bound | 0.2 |" in ours
    assert "0.7" not in ours and "0.5" not in re.findall(r"lr \|.*", ours)[0]
    rows = [[line for line in text.splitlines() if line.startswith("|")] for text in (ours, theirs)]
    assert [row for row in rows[0] if "optim_args" not in row] == [row for row in rows[1] if "optim_args" not in row]
    assert "lower_bound=0.2,adapt_lower_bound=false" in ours


def test_a_resume_with_the_same_arguments_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = {**SETTINGS, "lr_scheduler_type": "linear", "optim_args": "lower_bound=0.01,adapt_lower_bound=true"}
    with caplog.at_level("WARNING", logger="hf_momo.trainer.resume"):
        _, resumed = unbroken_and_resumed(tmp_path, **options)
    assert resumed.restored_arguments == {}
    assert "in use" not in caplog.text


def test_an_option_is_named_as_the_user_gives_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """``momo`` keeps ``beta`` as ``momentum``, where torch's schedulers look for it."""
    make(tmp_path, optim="momo", optim_args="beta=0.8").train()
    resumed = make(tmp_path, optim="momo", optim_args="beta=0.5", max_steps=STEPS + 1)
    with caplog.at_level("WARNING", logger="hf_momo"):
        resumed.train(resume_from_checkpoint=True)
    assert "optim_args beta: got 0.5, in use 0.8" in caplog.text
    assert resumed.restored_arguments == {"optim_args": "beta=0.8"}


@pytest.mark.parametrize(("saved_by", "named"), [("adamw_torch", "AdamW"), ("momo", "Momo")])
def test_a_resume_with_another_optimizer(tmp_path: Path, saved_by: str, named: str) -> None:
    """``--resume_from_checkpoint`` with another ``--optim`` ended in a bare ``KeyError: 'step_size'``."""
    make(tmp_path, optim=saved_by, learning_rate=0.01).train()
    resumed = make(tmp_path, optim="momo_adam", max_steps=STEPS + 1)
    with pytest.raises(ValueError, match=rf"state of {named}\b.*MomoAdam cannot load.*load_adamw_state_dict"):
        resumed.train(resume_from_checkpoint=True)
