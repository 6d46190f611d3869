"""An incomplete checkpoint is passed over, in every layout and for every file that is missing or cut short."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints.layouts import LAYOUTS, NEEDED, UNNEEDED, WITHOUT_END, train
from trainer.tiny import training_logs, weights_of

from hf_momo import last_complete_checkpoint
from hf_momo.trainer.checkpoint_files import checkpoint_problem
from hf_momo.trainer.checkpoints import check_complete

CUTS: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "two-bytes-short": lambda path: path.write_bytes(path.read_bytes()[:-2]),
}
NEEDED_FILES = [(layout, file) for layout, files in NEEDED.items() for file in files]
OTHER_FILES = [
    *((layout, file) for layout, files in UNNEEDED.items() for file in files),
    *((layout, "training_args.bin") for layout in LAYOUTS),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Return the folder of a run in a layout, trained once."""
    folders: dict[str, Path] = {}

    def run(layout: str) -> Path:
        if layout not in folders:
            folder = tmp_path_factory.mktemp(layout)
            LAYOUTS[layout](folder)
            folders[layout] = folder
        return folders[layout]

    yield run


@pytest.fixture
def copied(runs: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a copy of the folder of a run, to damage."""
    return lambda layout: Path(shutil.copytree(runs(layout), tmp_path / "run"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_lists_name_every_file(runs: Callable[[str], Path], layout: str) -> None:
    checkpoint = runs(layout) / "checkpoint-4"
    files = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
    listed = [*NEEDED[layout], *UNNEEDED.get(layout, []), *WITHOUT_END.get(layout, []), "training_args.bin"]
    assert files == set(listed)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_complete_checkpoint_is_taken(
    runs: Callable[[str], Path], layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = runs(layout)
    with caplog.at_level(logging.WARNING, logger="hf_momo"):
        assert last_complete_checkpoint(folder) == str(folder / "checkpoint-4")
    assert not caplog.records
    check_complete(folder / "checkpoint-4")
    assert checkpoint_problem(folder / "checkpoint-2") is None


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("layout", "file"), NEEDED_FILES, ids=["-".join(pair) for pair in NEEDED_FILES])
def test_without_a_file_it_is_passed_over(
    copied: Callable[[str], Path], layout: str, file: str, cut: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(layout)
    CUTS[cut](folder / "checkpoint-4" / file)
    problem = checkpoint_problem(folder / "checkpoint-4")
    assert problem is not None
    with caplog.at_level(logging.WARNING, logger="hf_momo"):
        assert last_complete_checkpoint(folder) == str(folder / "checkpoint-2")
    (record,) = caplog.records
    for said in (str(folder / "checkpoint-4"), str(folder / "checkpoint-2"), problem):
        assert said in record.getMessage()
    with pytest.raises(ValueError, match=r"checkpoint-4', which is incomplete: .* Pass True to resume"):
        check_complete(folder / "checkpoint-4")


@pytest.mark.parametrize(("layout", "file"), OTHER_FILES, ids=["-".join(pair) for pair in OTHER_FILES])
def test_files_that_a_resume_does_not_need(copied: Callable[[str], Path], layout: str, file: str) -> None:
    """A file cut short shows that saving was interrupted; a missing one may never have been written."""
    path = copied(layout) / "checkpoint-4" / file
    CUTS["half"](path)
    assert checkpoint_problem(path.parent) == f"{file} is cut short"
    CUTS["missing"](path)
    assert checkpoint_problem(path.parent) is None


def test_files_without_an_end_are_not_judged(copied: Callable[[str], Path]) -> None:
    checkpoint = copied("adapters") / "checkpoint-4"
    CUTS["half"](checkpoint / "README.md")
    assert checkpoint_problem(checkpoint) is None


def test_what_is_not_known_is_taken_for_complete(copied: Callable[[str], Path]) -> None:
    checkpoint = copied("plain") / "checkpoint-4"
    (checkpoint / "predictions.json").write_text('{"id": 1}\n{"id": 2}\n')  # one document a line
    (checkpoint / "old.bin").write_bytes(pickle.dumps([1, 2, 3]))  # the format before torch.save wrote archives
    (checkpoint / ".cache").mkdir()
    (checkpoint / ".cache" / "half.json").write_text("{")
    (checkpoint / "custom.model.index.json").write_text("[]")
    (checkpoint / "model.safetensors").rename(checkpoint / "model.pkl")  # from a Trainer with another way of saving
    assert checkpoint_problem(checkpoint) is None


def test_adapters_with_names(copied: Callable[[str], Path]) -> None:
    """Several adapters are saved in one folder each."""
    checkpoint = copied("adapters") / "checkpoint-4"
    (checkpoint / "second").mkdir()
    (checkpoint / "adapter_model.safetensors").rename(checkpoint / "second" / "adapter_model.safetensors")
    assert checkpoint_problem(checkpoint) is None
    CUTS["half"](checkpoint / "second" / "adapter_model.safetensors")
    assert checkpoint_problem(checkpoint) == "second/adapter_model.safetensors is cut short"


def test_a_distributed_checkpoint_of_another_version(copied: Callable[[str], Path]) -> None:
    checkpoint = copied("fsdp") / "checkpoint-4"
    metadata = checkpoint / "optimizer_0" / ".metadata"
    metadata.write_bytes(pickle.dumps(types.SimpleNamespace(storage_meta=types.SimpleNamespace())))
    assert checkpoint_problem(checkpoint) is None


@pytest.mark.parametrize(
    ("ranks", "missing"),
    [((0, 1, 2), None), ((0, 1, 3), "rng_state_2.pth"), ((0,), "rng_state_1.pth"), ((1, 2), "rng_state_0.pth")],
)
def test_every_process_has_written_its_file(copied: Callable[[str], Path], ranks: Any, missing: str | None) -> None:
    checkpoint = copied("plain") / "checkpoint-4"
    for rank in ranks:
        shutil.copy(checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth")
    (checkpoint / "rng_state.pth").unlink()
    assert checkpoint_problem(checkpoint) == (missing and f"{missing} is missing")


@pytest.mark.parametrize(("ranks", "complete"), [((0,), True), ((2, 3), True), ((4, 6), False)])
def test_every_node_has_the_files_of_its_own(copied: Callable[[str], Path], ranks: Any, complete: bool) -> None:
    """With ``save_on_each_node`` every node has its own disk."""
    checkpoint = copied("plain") / "checkpoint-4"
    for rank in ranks:
        shutil.copy(checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth")
    (checkpoint / "rng_state.pth").unlink()
    assert (checkpoint_problem(checkpoint, save_on_each_node=True) is None) is complete


def test_no_complete_checkpoint_at_all(copied: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copied("plain")
    CUTS["half"](folder / "checkpoint-4" / "optimizer.pt")
    CUTS["missing"](folder / "checkpoint-2" / "trainer_state.json")
    with pytest.raises(ValueError) as raised:
        last_complete_checkpoint(folder)
    for said in (
        f"resume_from_checkpoint: got True, but there is no complete checkpoint in {folder}",
        "checkpoint-4: optimizer.pt is cut short; checkpoint-2: trainer_state.json is missing",
        "Train without resume_from_checkpoint",
    ):
        assert said in str(raised.value)
    (tmp_path / "empty" / "checkpoint-best").mkdir(parents=True)
    (tmp_path / "empty" / "checkpoint-7").write_text("no folder")
    for without in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"no complete checkpoint in .* \(the folder has no checkpoints\)"):
            last_complete_checkpoint(without)
        with pytest.raises(ValueError, match="the folder has no checkpoints"):
            train(without, resume=True)


# With a Trainer that resumes.


def check_resumes_from(folder: Path, unbroken: Any, step: int, **options: Any) -> None:
    resumed = train(folder, resume=True, **options)
    assert resumed.state.global_step == 4
    # Steps after the checkpoint were logged again, with another time.
    assert [entry["loss"] for entry in training_logs(resumed)] == [entry["loss"] for entry in training_logs(unbroken)]
    assert all(map(torch.equal, weights_of(resumed.model), weights_of(unbroken.model)))
    assert checkpoint_problem(folder / "checkpoint-4") is None
    assert resumed.resumed_from == step


@pytest.mark.parametrize("file", ["optimizer.pt", "model.safetensors", "rng_state.pth", "trainer_state.json"])
def test_the_trainer_resumes_from_the_last_complete_one(tmp_path: Path, file: str) -> None:
    unbroken = train(tmp_path)
    CUTS["half"](tmp_path / "checkpoint-4" / file)
    check_resumes_from(tmp_path, unbroken, step=2)
    check_resumes_from(tmp_path, unbroken, step=4)


def test_the_stock_trainer_starts_with_a_new_optimizer(tmp_path: Path) -> None:
    """Without the optimizer's file the stock Trainer silently starts with a new Adam."""
    from transformers import Trainer

    unbroken = train(tmp_path, Trainer, optim="adamw_torch", max_steps=6)
    shutil.rmtree(tmp_path / "checkpoint-6")
    (tmp_path / "checkpoint-4" / "optimizer.pt").unlink()
    stock = train(tmp_path, Trainer, optim="adamw_torch", max_steps=6, resume=True)
    assert not all(map(torch.equal, weights_of(stock.model), weights_of(unbroken.model)))
    shutil.rmtree(tmp_path / "checkpoint-6")
    ours = train(tmp_path, optim="adamw_torch", max_steps=6, resume=True)
    assert all(map(torch.equal, weights_of(ours.model), weights_of(unbroken.model)))


def test_a_given_checkpoint_must_be_complete(tmp_path: Path) -> None:
    unbroken = train(tmp_path)
    CUTS["missing"](tmp_path / "checkpoint-4" / "optimizer.pt")
    for given in (tmp_path / "checkpoint-4", str(tmp_path / "checkpoint-4")):
        with pytest.raises(ValueError, match="checkpoint-4', which is incomplete: there is no optimizer file"):
            train(tmp_path, resume=given)
    with pytest.raises(ValueError, match="checkpoint-9', which is incomplete: the folder does not exist"):
        train(tmp_path, resume=tmp_path / "checkpoint-9")
    resumed = train(tmp_path, resume=tmp_path / "checkpoint-2")
    assert all(map(torch.equal, weights_of(resumed.model), weights_of(unbroken.model)))
    for none in (None, False):
        assert train(tmp_path, resume=none).resumed_from is None


def test_weights_alone_are_said_to_be_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, save_only_model=True, max_steps=6)
    shutil.rmtree(tmp_path / "checkpoint-6")
    with caplog.at_level(logging.WARNING, logger="hf_momo"):
        resumed = train(tmp_path, save_only_model=True, max_steps=6, resume=True)
    (record,) = (record for record in caplog.records if "checkpoint" in record.getMessage())
    assert f"{tmp_path / 'checkpoint-4'} holds only the weights (save_only_model)" in record.getMessage()
    assert resumed.optimizer.optimizer.last_step.num_steps == 2


def test_older_checkpoints_are_deleted_only_for_a_complete_one(tmp_path: Path) -> None:
    train(tmp_path, save_total_limit=1)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    assert json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())["global_step"] == 4
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")
