"""A bound from a pilot run, and what the log says about a bound that is nearly reached or has no effect."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from trainer.tiny import Classifier, arguments, class_examples, quiet, training_logs
from transformers import Trainer, TrainingArguments

import hf_momo
from hf_momo import MomoTrainer
from hf_momo.hub.record import training_record
from hf_momo.optimizers.bounds import PILOT_SHARE
from hf_momo.trainer.command_line import check_optim
from hf_momo.utils.errors import UsageError

STEPS = 20


def run(folder: Path, trainer_class: Any = MomoTrainer, **options: Any) -> Any:
    defaults = {"max_steps": STEPS, "learning_rate": 0.05}
    trainer = trainer_class(
        model=Classifier(), args=arguments(folder, **(defaults | options)), train_dataset=class_examples()
    )
    trainer.train()
    return trainer


@pytest.fixture
def pilot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """Train AdamW in runs/pilot, and return the mean of its last logged losses."""
    monkeypatch.chdir(tmp_path)
    trainer = run(Path("runs/pilot"), optim="adamw_torch", learning_rate=0.02)
    trainer.save_state()
    losses = [entry["loss"] for entry in training_logs(trainer)[-2:]]
    return sum(losses) / 2


@pytest.mark.parametrize(("given", "share"), [("", PILOT_SHARE), ("0.5*", 0.5)])
def test_the_bound_of_a_pilot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pilot: float, given: str, share: float
) -> None:
    text = f"lower_bound={given}from={tmp_path / 'runs' / 'pilot'}"
    with caplog.at_level("WARNING", logger="hf_momo"):
        trainer = run(tmp_path / "informed", optim="momo_adam", optim_args=text)
    bound = share * pilot
    assert [entry["lower_bound"] for entry in training_logs(trainer)] == pytest.approx([bound] * STEPS, rel=1e-3)
    (at_start,) = [record.getMessage() for record in caplog.records if record.name == "hf_momo.trainer.mixin"]
    source = f"{share:g} of {pilot:.4g}, the mean of the last 2 training losses in"
    assert at_start.startswith(f"lower_bound is {bound:.4g}"[:18]) and source in at_start

    # The card says where the bound comes from, without the paths of this machine.
    trainer.create_model_card()
    card = (tmp_path / "informed" / "README.md").read_text(encoding="utf-8")
    assert f"lower bound of the loss at the start: {source} runs/pilot/trainer_state.json |" in card
    assert f"lower_bound={given}from=runs/pilot" in card and str(tmp_path) not in card


def test_the_stock_trainer_takes_it_too(tmp_path: Path, pilot: float) -> None:
    hf_momo.integrate()
    try:
        args = TrainingArguments(
            **(quiet(tmp_path) | {"optim": "momo_adam", "optim_args": "lower_bound=from=runs/pilot"})
        )
        trainer = Trainer(model=Classifier(), args=args, train_dataset=class_examples())
        trainer.train()
    finally:
        hf_momo.integrate(undo=True)
    assert training_logs(trainer)[-1]["lower_bound"] == pytest.approx(PILOT_SHARE * pilot, rel=1e-3)


def test_a_pilot_that_is_not_there_is_refused_before_the_script_runs(pilot: float) -> None:
    with pytest.raises(UsageError, match=r"--optim_args: lower_bound: got 'from=runs/pilto', but runs/pilto does not"):
        check_optim(["--optim", "momo_adam", "--optim_args", "lower_bound=from=runs/pilto"])
    check_optim(["--optim", "momo_adam", "--optim_args=lower_bound=from=runs/pilot"])
    with pytest.raises(ValueError, match="optim_args: lower_bound: got 'from=runs/pilto'"):
        arguments("out", optim_args="lower_bound=from=runs/pilto")


def test_a_resumed_run_keeps_the_bound_of_its_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pilot: float
) -> None:
    """The pilot may have been trained again since; the checkpoint's settings hold, as they do for a number."""
    options = {"optim_args": "lower_bound=from=runs/pilot", "save_strategy": "steps", "save_steps": 10}
    run(tmp_path / "informed", **options)
    bound = float(f"{PILOT_SHARE * pilot:.4g}")
    for changed in (False, True):
        if changed:
            run(Path("runs/pilot"), optim="adamw_torch", learning_rate=1e-4).save_state()
        caplog.clear()
        resumed = MomoTrainer(
            model=Classifier(),
            args=arguments(tmp_path / "informed", max_steps=STEPS + 2, learning_rate=0.05, **options),
            train_dataset=class_examples(),
        )
        with caplog.at_level("WARNING", logger="hf_momo"):
            resumed.train(resume_from_checkpoint=str(tmp_path / "informed" / "checkpoint-10"))
        assert training_logs(resumed)[-1]["lower_bound"] == pytest.approx(bound, rel=1e-6)
        assert (f"in use {bound}" in caplog.text) is changed
        record = training_record(resumed, {})
        assert ("lower_bound_source" in record) is not changed
        kept = f"lower_bound={bound}" if changed else "lower_bound=from=runs/pilot"
        assert record["settings"]["training"]["optim_args"] == kept


NEAR = r"lower_bound: the averaged loss 0\.5\d* has come within 5% of 0\.5 after (50|60) steps\."
ZERO = r"zero_steps: all 10 step\(s\) since the last log had step size 0, .* averaged loss {}, .* lower_bound={}$"
USELESS = (
    r"lower_bound: 0\.9 had no effect, .* never came near it \(2\.\d+ at the end\)\. The cap limited 60 of 60 steps"
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"learning_rate": 0.01, "optim_args": "lower_bound=0.5"}, NEAR, id="reached"),
        pytest.param(
            {"learning_rate": 0.05, "optim_args": "lower_bound=5"}, ZERO.format(r"2\.\d+", r"1\.\d"), id="below"
        ),
        # The model of the loss comes down to the bound before the averaged loss does, and moves off it again.
        pytest.param(
            {"learning_rate": 0.05, "optim_args": "lower_bound=0.5"},
            ZERO.format(r"0\.5\d+", r"0\.42"),
            id="model-below",
        ),
        pytest.param({"learning_rate": 1e-4, "optim_args": "lower_bound=0.9"}, USELESS, id="without-effect"),
        # The bound keeps the steps below their cap.
        pytest.param({"learning_rate": 0.02, "optim_args": "lower_bound=0.3"}, None, id="with-effect"),
        # Without a bound from the user there is nothing to say about it.
        pytest.param({"learning_rate": 1e-4}, None, id="default"),
        pytest.param({"learning_rate": 1e-4, "optim_args": "lower_bound=-5"}, None, id="negative"),
        pytest.param(
            {"learning_rate": 1e-4, "optim_args": "lower_bound=0.9,adapt_lower_bound=true"}, None, id="estimated"
        ),
        pytest.param({"learning_rate": 1e-4, "optim": "adamw_torch"}, None, id="another-optimizer"),
    ],
)
def test_what_the_log_says_about_a_bound(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, Any], message: str | None
) -> None:
    """A bound far below the loss does nothing on a transformer; one that is reached ends training. No log said so."""
    with caplog.at_level("WARNING", logger="hf_momo"):
        run(tmp_path, max_steps=60, logging_steps=10, **options)
    messages = [record.getMessage() for record in caplog.records if record.name == "hf_momo.trainer.logs"]
    assert len(messages) == (message is not None), messages
    assert all(re.match(str(message), text) for text in messages), messages
