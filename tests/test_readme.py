"""The code of every page runs as it stands: each ``python`` block, each ``diff`` block with its changes applied."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from pages import PAGES, README, ROOT, fenced
from torch.utils.data import DataLoader
from trainer.tiny import Classifier, class_examples

import hf_momo
from hf_momo.optimizers.registry import unwrap_optimizer

# Blocks that need more than a namespace (a trained model's folder, a script around them), and the test that runs them.
ELSEWHERE = {
    'translate = pipeline("translation", model="runs/multi30k"': "tests/recipes/test_translation.py",
    "optimizer_grouped_parameters, accelerator=accelerator": "tests/integration/test_no_trainer.py",
    "class Regression(lightning.LightningModule)": "tests/tap/test_lightning.py",
}


def blocks() -> dict[str, str]:
    """Return the code of all pages by page, heading (or bold words) and number."""
    found: dict[str, str] = {}
    for page, text in PAGES.items():
        for kind, code, before in fenced(text):
            if kind not in ("python", "diff"):
                continue
            name = re.findall(r"^(?:#+ |\*\*)([^*\n]+)", before, re.MULTILINE)[-1].strip(".` ")
            if kind == "diff":
                code = "\n".join(line[1:] for line in code.splitlines() if not line.startswith("-"))
            key = f"{page}: {name}"
            found[f"{key} {sum(each.startswith(key) for each in found) + 1}"] = code
    return found


BLOCKS = blocks()
RUN_HERE = {name: code for name, code in BLOCKS.items() if not any(line in code for line in ELSEWHERE)}
ACCELERATE_LOOP = "README.md: An Accelerate loop 1"


class Output(dict[str, Any]):
    """The output of a model, with ``loss`` as an attribute."""

    @property
    def loss(self) -> torch.Tensor:
        loss: torch.Tensor = self["loss"]
        return loss


class Model(Classifier):
    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        return Output(super().forward(features, labels))


# The Trainer asks for pinned memory, which needs an accelerator.
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found:UserWarning")
@pytest.mark.parametrize("name", RUN_HERE)
def test_the_code_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A block trains the model where it steps or trains, and prints what the page says."""
    code = RUN_HERE[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    model = Model()
    before = [param.detach().clone() for param in model.parameters()]
    # A module, as the Trainer pickles its arguments by module and name of their class.
    module = types.ModuleType("code_of_a_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    namespace = vars(module)
    namespace |= {
        "torch": torch,
        "hf_momo": hf_momo,
        "model": model,
        "data": class_examples(),
        "loader": DataLoader(class_examples(), batch_size=4),
        "max_norm": 0.1,
    }
    if "loss" not in re.findall(r"^\s*(\w+) =", code, re.MULTILINE) and "step(loss=" in code:
        # A piece of a loop: what stands before it.
        namespace["loss"] = model(**next(iter(namespace["loader"]))).loss
        namespace["loss"].backward()
        namespace["optimizer"] = hf_momo.MomoAdam(model.parameters(), lr=1e-3)
    exec(code, namespace)
    if "print(" in code:
        assert f"prints `{capsys.readouterr().out.strip()}`" in PAGES[name.partition(": ")[0]]
    if namespace["model"] is not model:  # the block makes its own
        assert unwrap_optimizer(namespace["optimizer"]).last_step.num_steps > 0
    elif re.search(r"\.(step|train)\(", code):
        assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)), "nothing trained"


def test_the_blocks_are_found() -> None:
    expected = {"The Trainer 1", "An Accelerate loop 1", "A plain loop 1", "A plain loop 2", "A plain loop 3"}
    assert {f"README.md: {name}" for name in expected} <= set(RUN_HERE)
    for line, test in ELSEWHERE.items():
        assert any(line in code for code in BLOCKS.values()), line
        assert (ROOT / test).is_file(), test


def test_the_accelerate_loop_trains_as_a_plain_loop() -> None:
    """Eight batches of four, two to a step: the numbers are those of the optimizer stepped by hand."""
    model, reference = Model(), Model()
    namespace = {"torch": torch, "model": model, "loader": DataLoader(class_examples(), batch_size=4)}
    Accelerator(cpu=True)  # keeps the Accelerator of the block on the CPU
    exec(RUN_HERE[ACCELERATE_LOOP], namespace)
    optimizer = hf_momo.create_optimizer("momo_adam", reference, lr=1e-3, weight_decay=0.01)
    batches = list(DataLoader(class_examples(), batch_size=4))
    for pair in zip(batches[::2], batches[1::2], strict=True):
        optimizer.zero_grad()
        losses = [reference(**batch).loss / 2 for batch in pair]
        sum(losses).backward()  # type: ignore[union-attr]
        norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        optimizer.step(loss=sum(losses), sample_weight=(1.0 / (norm + 1e-6)).clamp(max=1.0))
    assert namespace["optimizer"].optimizer.last_step.num_steps == 4
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_the_readme_is_short() -> None:
    """A new user reads it in five minutes; the rest stands on the other pages."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 220
