"""The optimizer's steps reach the history of the Trainer and its trackers, and a run that does not train says so."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from trainer.tiny import (
    Classifier,
    Examples,
    ProbedTrainer,
    arguments,
    class_examples,
    decay_groups,
    micro_batches,
    training_logs,
    weights_of,
)
from transformers import TrainerCallback

from hf_momo import MomoAdam, MomoTrainer, get_optimizer_info, list_optimizers

OURS = {"step_size", "lower_bound", "step_capped", "skipped_steps", "zero_steps"}


class StepSizes(TrainerCallback):
    """Callback that reads the step size and its cap after every step."""

    def __init__(self) -> None:
        self.capped: list[bool] = []
        self.sizes: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        group = optimizer.param_groups[0]
        self.sizes.append(float(group["step_size"]))
        self.capped.append(math.isclose(float(group["step_size"]), group["lr"], rel_tol=1e-6))


def mixed_run(folder: Path, **options: Any) -> tuple[MomoTrainer, StepSizes]:
    """Train with ``momo`` and a cap that some of the steps reach."""
    sizes = StepSizes()
    defaults = {"optim": "momo", "learning_rate": 0.1, "max_steps": 12, "logging_steps": 4}
    trainer = ProbedTrainer(
        model=Classifier(),
        args=arguments(folder, **(defaults | options)),
        train_dataset=class_examples(),
        callbacks=[sizes],
    )
    trainer.train()
    return trainer, sizes


def test_step_capped_is_the_share_since_the_last_log(tmp_path: Path) -> None:
    trainer, sizes = mixed_run(tmp_path)
    assert 0 < sum(sizes.capped) < len(sizes.capped), "the run is meant to mix capped and uncapped steps"
    logs = training_logs(trainer)
    assert [entry["step"] for entry in logs] == [4, 8, 12]
    shares = [sum(sizes.capped[at : at + 4]) / 4 for at in (0, 4, 8)]
    assert [entry["step_capped"] for entry in logs] == shares
    assert len(set(shares)) > 1
    assert [entry["step_size"] for entry in logs] == [sizes.sizes[at] for at in (3, 7, 11)]


def base_for(optim: str) -> str:
    return ",base=adamw_torch" if get_optimizer_info(optim).takes_base else ""


@pytest.mark.parametrize("optim", list_optimizers())
@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_at_the_cap_the_step_size_is_the_learning_rate(tmp_path: Path, optim: str, schedule: str) -> None:
    """Before its bias correction, the first step size of ``momo_adam`` was ten times the learning rate."""
    trainer = MomoTrainer(
        model=Classifier(),
        args=arguments(
            tmp_path, optim=optim, learning_rate=1e-3, max_steps=6, lr_scheduler_type=schedule,
            optim_args="lower_bound=-1e6" + base_for(optim),
        ),
        train_dataset=class_examples(),
    )  # fmt: skip
    trainer.train()
    logs = training_logs(trainer)
    assert [entry["step_capped"] for entry in logs] == [1.0] * 6
    rates = [1e-3 * (1.0 if schedule == "constant" else 1.0 - step / 6) for step in range(6)]
    assert [entry["step_size"] for entry in logs] == pytest.approx(rates, rel=1e-6)


def test_every_training_log_has_all_of_them_and_no_other_log_has_any(tmp_path: Path) -> None:
    trainer = MomoTrainer(
        model=Classifier(),
        args=arguments(tmp_path, eval_strategy="steps", eval_steps=2, optim_args="lower_bound=0.25"),
        train_dataset=class_examples(),
        eval_dataset=class_examples(8),
    )
    trainer.train()
    for entry in trainer.state.log_history:
        assert entry.keys() & OURS == (OURS if "loss" in entry else set())
    assert {entry["lower_bound"] for entry in training_logs(trainer)} == {0.25}


def test_nothing_is_added_for_other_optimizers(tmp_path: Path) -> None:
    trainer = MomoTrainer(
        model=Classifier(), args=arguments(tmp_path, optim="adamw_torch"), train_dataset=class_examples()
    )
    trainer.train()
    assert training_logs(trainer)
    assert not any(entry.keys() & OURS for entry in trainer.state.log_history)


def test_tensorboard_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))  # transformers 4 writes to output_dir/runs
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    bound = "lower_bound=0.5,adapt_lower_bound=true"
    trainer, sizes = mixed_run(tmp_path, report_to=["tensorboard"], optim_args=bound)
    events = EventAccumulator(str(next(tmp_path.rglob("events.out.tfevents.*")).parent))
    events.Reload()
    shown = events.Scalars("train/step_size")
    assert [event.step for event in shown] == [4, 8, 12]
    assert [event.value for event in shown] == pytest.approx([sizes.sizes[at] for at in (3, 7, 11)])
    for name in OURS:
        logged = [entry[name] for entry in training_logs(trainer)]
        assert [event.value for event in events.Scalars(f"train/{name}")] == pytest.approx(logged), name
    assert len({event.value for event in events.Scalars("train/lower_bound")}) > 1


class Snapshots(TrainerCallback):
    """Callback that copies the weights before the first step and after every step."""

    def __init__(self) -> None:
        self.weights: list[list[torch.Tensor]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.weights.append(weights_of(model))

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.weights.append(weights_of(model))


@pytest.mark.parametrize("optim", ["momo", "momo_adam"])
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_a_batch_of_nans_is_skipped_and_counted(tmp_path: Path, optim: str, max_grad_norm: float) -> None:
    examples = [dict(example) for example in class_examples().examples]
    examples[9]["features"] = torch.full_like(examples[9]["features"], torch.nan)  # in the third batch of four
    snapshots = Snapshots()
    trainer = ProbedTrainer(
        model=Classifier(),
        args=arguments(
            tmp_path, optim=optim, learning_rate=0.1, max_steps=6, max_grad_norm=max_grad_norm, weight_decay=0.1
        ),
        train_dataset=Examples(examples),
        callbacks=[snapshots],
    )
    trainer.train()
    assert [entry["skipped_steps"] for entry in training_logs(trainer)] == [0, 0, 1, 1, 1, 1]
    moved = [
        any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
        for before, after in zip(snapshots.weights, snapshots.weights[1:], strict=False)
    ]
    assert moved == [True, True, False, True, True, True]
    assert math.isfinite(training_logs(trainer)[-1]["step_size"])


def test_a_skipped_batch_leaves_no_trace(tmp_path: Path) -> None:
    """The run continues as if the bad batch had not been there."""
    examples = [dict(example) for example in class_examples().examples]
    examples[9]["features"] = torch.full_like(examples[9]["features"], torch.inf)
    trainer = ProbedTrainer(
        model=Classifier(),
        args=arguments(tmp_path, learning_rate=0.1, max_steps=6),
        train_dataset=Examples(examples),
    )
    trainer.train()
    model = Classifier()
    optimizer = MomoAdam(decay_groups(model, 0.0), lr=0.1)
    batches = micro_batches(class_examples(), 4)
    for batch in [*batches[:2], *batches[3:6]]:
        optimizer.zero_grad()
        loss = model(**batch)["loss"]
        loss.backward()
        optimizer.step(loss=loss)
    for ours, theirs in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_run_that_stands_still_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A NaN in memory that DeepSpeed left uninitialized made MoMo skip every step, and only a count showed it."""
    examples = [dict(example) for example in class_examples().examples]
    for index in range(12, 32):  # the last five of eight batches
        examples[index]["features"] = torch.full_like(examples[index]["features"], torch.nan)
    trainer = ProbedTrainer(
        model=Classifier(), args=arguments(tmp_path, max_steps=8, logging_steps=2), train_dataset=Examples(examples)
    )
    with caplog.at_level("WARNING", logger="hf_momo"):
        trainer.train()
    assert [entry["skipped_steps"] for entry in training_logs(trainer)] == [0, 1, 3, 5]
    (said,) = [record.getMessage() for record in caplog.records if record.name == "hf_momo.trainer.logs"]
    assert said.startswith("skipped_steps: all 2 step(s) since the last log were skipped")
    assert [entry["loss"] for entry in training_logs(trainer)][2:] == [0, 0], "the Trainer logs 0 for NaNs"


def test_the_share_of_a_window_of_skipped_steps_alone_is_zero(tmp_path: Path) -> None:
    examples = [{**example, "features": example["features"] * torch.nan} for example in class_examples().examples]
    trainer = ProbedTrainer(
        model=Classifier(), args=arguments(tmp_path, max_steps=2), train_dataset=Examples(examples)
    )
    trainer.train()
    assert [entry["step_capped"] for entry in training_logs(trainer)] == [0.0, 0.0]
    assert [entry["skipped_steps"] for entry in training_logs(trainer)] == [1, 2]


class Shifted(MomoTrainer):
    """A Trainer with a negative loss, like that of a policy gradient or of a density."""

    shift = -10.0

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs) + self.shift


def shifted_run(folder: Path, **options: Any) -> Shifted:
    trainer = Shifted(
        model=Classifier(),
        args=arguments(folder, max_steps=8, logging_steps=2, **options),
        train_dataset=class_examples(),
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("optim", list_optimizers())
def test_a_loss_below_its_bound_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, optim: str) -> None:
    """With policy gradients, densities and cosine losses every step was 0, and nothing said so."""
    before = weights_of(Classifier())
    with caplog.at_level("WARNING", logger="hf_momo"):
        trainer = shifted_run(tmp_path, optim=optim, optim_args=base_for(optim))
    assert [entry["zero_steps"] for entry in training_logs(trainer)] == [2, 4, 6, 8]
    assert all(torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))
    (said,) = [record.getMessage() for record in caplog.records if record.name == "hf_momo.trainer.logs"]
    found = re.fullmatch(
        r"zero_steps: all 2 step\(s\) since the last log had step size 0, .*: averaged loss (-\d\.\d+),"
        r" lower_bound 0\. .*--optim_args (lower_bound=-20)",
        said,
    )
    assert found is not None, said
    assert float(found[1]) == pytest.approx(-7.4, abs=0.1), "the averaged loss, bias-corrected"

    caplog.clear()
    with caplog.at_level("WARNING", logger="hf_momo"):
        trainer = shifted_run(tmp_path, optim=optim, optim_args=",".join(filter(None, (base_for(optim), found[2]))))
    assert {entry["zero_steps"] for entry in training_logs(trainer)} == {0}
    assert not any(torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))
    assert "zero_steps" not in caplog.text


def test_a_warm_up_from_zero_is_not_a_loss_below_its_bound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2, "learning_rate": 0.1}
    trainer = MomoTrainer(
        model=Classifier(), args=arguments(tmp_path, max_steps=3, **options), train_dataset=class_examples()
    )
    with caplog.at_level("WARNING", logger="hf_momo"):
        trainer.train()
    assert [entry["zero_steps"] for entry in training_logs(trainer)] == [0, 0, 0]
    assert "zero_steps" not in caplog.text
