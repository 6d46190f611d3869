"""Faults of the Hub: what the user sees, and what is left on disk and on the Hub."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent import futures
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hub.conftest import Clock
from hub.server import Hub
from hub.tiny_runs import NAME, TOKEN, check_no_token, push_command, saved, trainer
from huggingface_hub import constants
from transformers import TrainerCallback

from hf_momo import MomoTrainer
from hf_momo.cli import main
from hf_momo.hub.requests import retrying
from hf_momo.utils.errors import PushError

MODEL_FILES = {"config.json", "model.safetensors", "tokenizer.json", "training_args.bin"}
WRONG = "hf_" + "wrong" * 7


class Refusal(NamedTuple):
    """A fault that stops the run before training."""

    seen: str
    put_in: Callable[[Hub, pytest.MonkeyPatch], Any]
    options: Mapping[str, Any] = MappingProxyType({})


REFUSALS = {
    "no token": Refusal(
        "accepts no push without a token (401): log in with `hf auth login`, or set HF_TOKEN. Nothing has been",
        lambda hub, patch: patch.delenv("HF_TOKEN"),
    ),
    "a wrong token": Refusal(
        "refuses the token (401): log in with `hf auth login`, or set HF_TOKEN to a token with write access. Nothing",
        lambda hub, patch: patch.setenv("HF_TOKEN", WRONG),
    ),
    "a wrong token in the arguments": Refusal(
        "refuses the token (401)", lambda hub, patch: None, {"hub_token": WRONG}
    ),
    "another's name space": Refusal(
        "no write access to the repository (403): 403 Forbidden: You don't have the rights to create a model under",
        lambda hub, patch: None,
        {"hub_model_id": "somebody/tiny"},
    ),
    "a name that cannot be": Refusal("Repo id must", lambda hub, patch: None, {"hub_model_id": "me/tiny/small"}),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_refused_before_training(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    refusal = REFUSALS[fault]
    refusal.put_in(hub, monkeypatch)
    with pytest.raises(PushError, match="push_to_hub: ") as raised:
        trainer(tmp_path / "run", **refusal.options)
    said = str(raised.value)
    assert refusal.seen in said
    name = refusal.options.get("hub_model_id", NAME)
    assert push_command(said) == ["push", str(tmp_path / "run"), "--hub_model_id", name]
    assert hub.repositories == {}
    assert WRONG not in said + caplog.text
    check_no_token(hub, tmp_path, said, caplog.text)


class Fault(NamedTuple):
    """A fault after training, and a part of its error message."""

    seen: str
    put_in: Callable[[Hub], Any]
    mend: Callable[[Hub], Any] = lambda hub: hub.faults.clear()


# Each lasts until it is mended.
LASTING = {
    "no connection": Fault("cannot be reached", Hub.stop, Hub.start),
    "the token is taken back": Fault(
        "refuses the token (401)", lambda hub: hub.tokens.clear(), lambda hub: hub.tokens.update({TOKEN: "me"})
    ),
    "every upload is cut off": Fault("closed the connection", lambda hub: hub.fail("put", cut=True)),
    "the commit is cut off": Fault("closed the connection", lambda hub: hub.fail("commit", cut=True)),
    "500 at the card": Fault("answered 500", lambda hub: hub.fail("yaml")),
    "500 at the list of files": Fault("answered 500", lambda hub: hub.fail("preupload")),
    "503 at the commit": Fault("answered 503", lambda hub: hub.fail("commit", status=503)),
    "429 for ever": Fault("answered 429", lambda hub: hub.fail("any", status=429, headers={"Retry-After": "9"})),
}


@pytest.mark.parametrize("fault", LASTING)
def test_the_last_push_fails(
    hub: Hub, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """The run ends normally, the model is on disk, and the command in the error pushes it later."""
    run = trainer(tmp_path / "run")
    run.train()
    LASTING[fault].put_in(hub)
    assert run.push_to_hub() is None
    [error] = [record for record in caplog.records if record.levelno == logging.ERROR and "hf_momo" in record.name]
    said = error.getMessage()
    assert LASTING[fault].seen in said
    assert f"Nothing is lost: the model is in {tmp_path / 'run'}." in said
    assert set(saved(tmp_path / "run")) >= MODEL_FILES
    assert hub.repositories[NAME].files == {}
    LASTING[fault].mend(hub)
    assert main(push_command(said)) == 0
    assert hub.repositories[NAME].files == saved(tmp_path / "run")
    check_no_token(hub, tmp_path, caplog.text)


# Put in after training: kind of request, how often, what happens.
PASSING: dict[str, tuple[str, int, dict[str, Any]]] = {
    "an upload is cut off half-way": ("put", 1, {"cut": True}),
    "the commit is cut off half-way": ("commit", 1, {"cut": True}),
    "500 at the card": ("yaml", 2, {}),
    "500 at the list of files": ("preupload", 2, {}),
    "502 at the list of large files": ("batch", 1, {"status": 502}),
    "500 at an upload": ("put", 1, {}),
    "504 at the check of an upload": ("verify", 1, {"status": 504}),
    "500 at the commit": ("commit", 2, {}),
    "429 at an upload": ("put", 1, {"status": 429, "headers": {"Retry-After": "9"}}),
    "429 at the commit": ("commit", 1, {"status": 429, "headers": {"Retry-After": "9"}}),
    "429 of the Hub's own kind": ("commit", 1, {"status": 429, "headers": {"RateLimit": '"api";r=0;t=9'}}),
}


@pytest.mark.parametrize("fault", PASSING)
def test_tried_again(hub: Hub, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    """A transient fault costs time and nothing else."""
    kind, times, what = PASSING[fault]
    run = trainer(tmp_path / "run")
    run.train()
    hub.fail(kind, times, **what)
    run.push_to_hub()
    assert hub.repositories[NAME].files == saved(tmp_path / "run")
    assert hub.repositories[NAME].messages == ["End of training"]
    assert hub.faults[0].left == 0
    assert [record for record in caplog.records if record.levelno == logging.ERROR] == []
    # A line for every new attempt, ours or huggingface_hub's.
    lines = [text for text in caplog.messages if "retrying in" in text or "before retry" in text or "Retrying" in text]
    assert len(lines) >= len(clock.pauses) >= times
    if "headers" in what:
        assert 10.0 in clock.pauses


@pytest.mark.parametrize(
    ("error", "failed", "pauses"),
    [
        (ConnectionError("gone"), False, [1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]),
        (ConnectionError("gone"), True, [1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]),
        (ValueError("refused"), False, []),
        (KeyboardInterrupt(), False, []),
    ],
)
def test_a_lasting_fault_is_given_up(clock: Clock, error: BaseException, failed: bool, pauses: list[float]) -> None:
    """The first pause that ends after a minute is the last one; an attempt made earlier is not made again at once."""
    calls: list[float] = []

    def fail() -> None:
        calls.append(clock.monotonic())
        raise error

    with pytest.raises(type(error)) as raised:
        retrying(fail, "failing", failed=ConnectionError("the first") if failed else None)
    assert raised.value is error
    assert clock.pauses == pauses
    assert len(calls) == len(pauses) + (not failed)


class BackAfterOneStep(TrainerCallback):
    """Starts the Hub after the first save, and after each save waits for the request in the background."""

    def __init__(self, hub: Hub, run: MomoTrainer) -> None:
        self.hub, self.run = hub, run

    def on_save(self, args: Any, state: Any, *others: Any, **more: Any) -> None:
        futures.wait([self.run._creation])
        if state.global_step == 1:
            self.hub.start()


def test_out_of_reach_at_the_start(hub: Hub, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Training begins; when the Hub is back, the save after the next one is pushed, and the final model."""
    hub.stop()
    options = {"hub_strategy": "every_save", "save_strategy": "steps", "save_steps": 1, "max_steps": 3}
    run = trainer(tmp_path / "run", **options)
    assert "cannot be reached" in caplog.text
    assert "Training starts anyway" in caplog.text
    run.add_callback(BackAfterOneStep(hub, run))
    run.train()
    assert hub.repositories[NAME].messages == ["Training in progress, step 3"]
    run.push_to_hub()
    assert hub.repositories[NAME].files == saved(tmp_path / "run")
    check_no_token(hub, tmp_path, caplog.text)


def test_out_of_reach_all_along(hub: Hub, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A script that saves by ``push_to_hub`` alone has its model on disk."""
    hub.fail("create", status=500)
    run = trainer(tmp_path / "run")
    run.train()
    assert run.push_to_hub() is None
    assert run.hub_model_id is None
    assert set(saved(tmp_path / "run")) >= {*MODEL_FILES, "README.md"}
    hub.faults.clear()
    assert main(push_command(caplog.records[-1].getMessage())) == 0
    assert hub.repositories[NAME].files == saved(tmp_path / "run")


@pytest.mark.parametrize("strategy", ["every_save", "checkpoint"])
def test_a_save_that_cannot_be_pushed(
    hub: Hub, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture, strategy: str
) -> None:
    """Training continues, every failed push is reported, and the last push brings everything that was saved."""
    options = {"hub_strategy": strategy, "save_strategy": "steps", "save_steps": 1, "hub_always_push": True}
    run = trainer(tmp_path / "run", **options)
    hub.fail("commit", status=400)
    run.train()
    assert run.state.global_step == 2
    failed = [text for text in caplog.messages if text.startswith("A push to the Hub failed")]
    assert len(failed) == {"every_save": 2, "checkpoint": 4}[strategy]
    assert all("answered 400" in text and "The run continues" in text for text in failed)
    hub.faults.clear()
    run.push_to_hub()
    files = hub.repositories[NAME].files
    assert {name: content for name, content in files.items() if "/" not in name} == saved(tmp_path / "run")
    check_no_token(hub, tmp_path, caplog.text)


class ChartsThatFail(TrainerCallback):
    """A tracker that fails to push its charts, which it does at every push, like trackio's callback."""

    def on_push_begin(self, *args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no Space could be made")


@pytest.mark.skipif(not hasattr(TrainerCallback, "on_push_begin"), reason="transformers 4 tells no tracker of a push")
@pytest.mark.parametrize("strategy", ["end", "every_save"])
def test_a_tracker_that_fails_keeps_no_model_back(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture, strategy: str
) -> None:
    run = trainer(tmp_path / "run", hub_strategy=strategy, save_strategy="steps", save_steps=2)
    run.add_callback(ChartsThatFail())
    run.train()
    assert run.push_to_hub() is not None
    assert hub.repositories[NAME].files == saved(tmp_path / "run")
    failed = [text for text in caplog.messages if text.startswith("A tracker failed to upload to the Hub")]
    assert len(failed) == {"end": 1, "every_save": 2}[strategy]
    assert all("no Space could be made" in text for text in failed)


def test_a_slow_push_is_waited_for(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that waits for a push at its end says so."""
    monkeypatch.setattr("hf_momo.trainer.pushing._SECONDS_BETWEEN_WARNINGS", 0.1)
    run = trainer(tmp_path / "run", hub_strategy="every_save", save_strategy="steps", save_steps=2)
    hub.fail("commit", 1, delay=0.5)
    run.train()
    assert f"waiting for a push to {NAME} to end" in caplog.messages
    assert hub.repositories[NAME].messages == ["Training in progress, step 2"]


def test_offline_mode_is_refused(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import _http

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    # The HTTP session of huggingface_hub 0 is made for one mode.
    renew = getattr(_http, "reset_sessions", getattr(_http, "close_session", lambda: None))
    renew()
    try:
        with pytest.raises(PushError, match="HF_HUB_OFFLINE=1 forbids every request to the Hub; unset it"):
            trainer(tmp_path / "run")
    finally:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        renew()


def test_a_call_that_nobody_asked_for_beforehand_raises(hub: Hub, clock: Clock, tmp_path: Path) -> None:
    """A call of push_to_hub() without push_to_hub in the arguments raises when the push fails."""
    run = trainer(tmp_path / "run", push_to_hub=False)
    run.train()
    assert hub.requests == []
    hub.fail("commit")
    with pytest.raises(PushError, match=r"answered 500.*hf-momo push"):
        run.push_to_hub()
    assert set(saved(tmp_path / "run")) >= MODEL_FILES


def test_saving_survives_a_broken_hub(hub: Hub, clock: Clock, tmp_path: Path) -> None:
    """``save_model()`` pushes too; when the push fails, the script continues."""
    run = trainer(tmp_path / "run")
    hub.stop()
    run.save_model()
    assert set(saved(tmp_path / "run")) >= MODEL_FILES
