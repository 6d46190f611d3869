"""``hf-momo push`` pushes the folder of a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hub.conftest import Clock
from hub.server import Hub
from hub.tiny_runs import NAME, STAYS, TOKEN, check_no_token, finished_run
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

from hf_momo.cli import main


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a finished run."""
    return finished_run(tmp_path / "run")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a finished run that belong on the Hub."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in files.items() if name not in STAYS}


def test_a_finished_run(hub: Hub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), "--hub_model_id", NAME, "--private", "--commit_message", "One run"]) == 0
    repository = hub.repositories[NAME]
    assert repository.files == contents(run)
    assert repository.files.keys() >= {"runs/one/events.out.tfevents.1", "record.json", "translation_pipeline.py"}
    assert (repository.private, repository.messages) == (True, ["One run"])
    out = capsys.readouterr().out
    assert "README.md: generated from record.json" in out
    assert f"  config.json  {(run / 'config.json').stat().st_size:,} bytes\n" in out
    assert out.endswith(f"committed {repository.at('main').oid}\n{hub.url}/{NAME}\n")
    loaded = AutoModelForCausalLM.from_pretrained(NAME, cache_dir=tmp_path / "cache").state_dict()
    kept = AutoModelForCausalLM.from_pretrained(run).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in kept.items())
    check_no_token(hub, tmp_path, out)


def test_the_card_is_that_of_the_record(hub: Hub, run: Path) -> None:
    main(["push", str(run), "--hub_model_id", NAME])
    card = ModelCard(hub.repositories[NAME].files["README.md"].decode())
    assert hub.count("yaml") > 0
    record = json.loads((run / "record.json").read_text())
    [bleu] = [each for each in card.data.eval_results if each.metric_type == "bleu"]
    assert bleu.metric_value in [round(each["bleu"], 2) for each in record["metrics"].values()]
    assert {"hf_momo", "momo_adam"} <= set(card.data.tags)
    assert f'"{NAME}"' in card.text


def test_twice_makes_one_commit(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["push", str(run), "--hub_model_id", NAME]
    assert [main(command), main(command)] == [0, 0]
    assert len(hub.repositories[NAME].messages) == 1
    assert "nothing has changed since the last push; no commit was made" in capsys.readouterr().out
    (run / "all_results.json").write_text('{"eval_bleu": 31.0}\n')
    assert main(command) == 0
    assert hub.repositories[NAME].files == contents(run)
    # huggingface_hub 0 pushes unchanged files too.
    assert "all_results.json" in hub.repositories[NAME].at("main").changed
    assert len(hub.repositories[NAME].messages) == 2


def test_a_branch(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["push", str(run), "--hub_model_id", NAME, "--revision", "second seed"]) == 0
    repository = hub.repositories[NAME]
    assert repository.files == {}
    assert repository.at("second seed").files.keys() - {".gitattributes"} == contents(run).keys()
    assert len(repository.branches["second seed"]) == 2


def test_the_folder_gives_the_name(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    assert main(["push", "."]) == 0
    assert list(hub.repositories) == ["me/run"]


def test_a_card_of_ones_own_stays(hub: Hub, run: Path) -> None:
    own = "---\nlicense: mit\n---\n\n# Mine\n"
    (run / "README.md").write_text(own)
    assert main(["push", str(run), "--hub_model_id", NAME]) == 0
    assert hub.repositories[NAME].files["README.md"].decode() == own


@pytest.mark.parametrize("record", [None, '{"title": "a study"}'])
def test_without_a_record_the_card_is_plain(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str], record: str | None
) -> None:
    (run / "record.json").unlink()
    if record is not None:
        (run / "record.json").write_text(record)
    assert main(["push", str(run), "--hub_model_id", NAME]) == 0
    assert "README.md: generated without a record: " in capsys.readouterr().out
    card = ModelCard(hub.repositories[NAME].files["README.md"].decode())
    assert hub.count("yaml") > 0
    assert (card.data.library_name, card.data.tags) == ("transformers", ["hf_momo"])


def spoil(name: str, content: str | None) -> Any:
    """Return a function that replaces or removes a file."""

    def change(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        if content is not None:
            (run / name).write_text(content)

    return change


def cut_short(run: Path) -> None:
    (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-100])


UNFIT = {
    "no such folder": (lambda run: run.rename(run.with_name("other")), "must be the --output_dir of a run"),
    "no model": (spoil("model.safetensors", None), "holds no model: it must have config.json and model.safetensors"),
    "only checkpoints": (spoil("config.json", None), "Push one of its checkpoints instead:"),
    "truncated weights": (cut_short, "model.safetensors is cut short"),
    "a truncated record": (spoil("record.json", '{"curve'), "record.json is cut short"),
    "no card but other things": (spoil("README.md", "---\n[\n---\n"), "is not a model card"),
    "a token": (
        spoil("notes.md", f"logged in as {TOKEN}."),
        "holds a token of the Hub, in notes.md. Nothing was pushed",
    ),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_unfit_folders(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str], reason: str) -> None:
    change, said = UNFIT[reason]
    change(run)
    assert main(["push", str(run), "--hub_model_id", NAME]) == 2
    error = capsys.readouterr().err
    assert error.startswith("hf-momo push: error: RUN_FOLDER: ")
    assert said in error
    assert TOKEN not in error
    assert hub.requests == []


def test_the_newest_checkpoint_is_named(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error named checkpoint-9 instead of checkpoint-10, the last one in alphabetical order."""
    (run / "config.json").unlink()
    for steps in (9, 10):
        (run / f"checkpoint-{steps}").mkdir(exist_ok=True)
    assert main(["push", str(run), "--hub_model_id", NAME]) == 2
    assert capsys.readouterr().err.rstrip().endswith("checkpoint-10")


def test_pickled_arguments_with_a_token_stay_here(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stock Trainer with a token in its arguments saves it."""
    torch.save({"hub_token": TOKEN}, run / "training_args.bin")
    assert main(["push", str(run), "--hub_model_id", NAME]) == 0
    assert "training_args.bin is not pushed: it holds a token" in capsys.readouterr().out
    assert "training_args.bin" not in hub.repositories[NAME].files
    assert hub.holds(TOKEN) == []


FAULTS: dict[str, tuple[Any, str]] = {
    "no token": (lambda hub, patch: patch.delenv("HF_TOKEN"), "accepts no push without a token (401): log in"),
    "wrong token": (lambda hub, patch: patch.setenv("HF_TOKEN", "hf_" + "wrong" * 7), "refuses the token (401)"),
    "no connection": (lambda hub, patch: hub.stop(), "cannot be reached"),
    "500 for ever": (lambda hub, patch: hub.fail("create"), "answered 500"),
    "cut off for ever": (lambda hub, patch: hub.fail("put", cut=True), "closed the connection"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_hub_fails(
    hub: Hub,
    clock: Clock,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
) -> None:
    put_in, said = FAULTS[fault]
    put_in(hub, monkeypatch)
    assert main(["push", str(run), "--hub_model_id", NAME]) == 1
    out, error = capsys.readouterr()
    assert error.splitlines()[-1].startswith("hf-momo push: error: the Hub at ")
    assert said in error.splitlines()[-1]
    assert error.splitlines()[-1].endswith("The same command continues the push")
    assert "wrong" * 7 not in out + error
    check_no_token(hub, tmp_path, out, error)


def test_every_retry_is_logged(hub: Hub, clock: Clock, run: Path, caplog: pytest.LogCaptureFixture) -> None:
    hub.fail("create", 1, status=500)
    hub.fail("info", 1, status=429, headers={"Retry-After": "9"})
    assert main(["push", str(run), "--hub_model_id", NAME]) == 0
    lines = [text for text in caplog.messages if "retrying in" in text]
    assert [line.split(": ")[0] for line in lines] == ["creating the repository", "reading the repository"]
    assert [line.split("; ")[-1] for line in lines] == ["retrying in 1 s", "retrying in 10 s"]
    assert clock.pauses == [1.0, 10.0]
