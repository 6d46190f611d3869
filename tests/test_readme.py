"""The README's code runs as it stands: every python block, and every diff with its changes applied."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch.utils.data import DataLoader
from trainer.tiny import Classifier, class_examples

import hf_momo

README = Path(__file__).parent.parent / "README.md"
# Blocks that other tests run with more than a namespace can give: a trained model's folder.
ELSEWHERE = {
    'translate = pipeline("translation", model="runs/multi30k"': "tests/recipes/test_translation.py",
    "optimizer_grouped_parameters, accelerator=accelerator": "tests/integration/test_no_trainer.py",
}


def blocks() -> dict[str, str]:
    """Code of the README by the heading or bold words before it."""
    found: dict[str, str] = {}
    text = README.read_text()
    for match in re.finditer(r"```(python|diff)\n(.*?)```", text, re.DOTALL):
        kind, code = match.groups()
        name = re.findall(r"^(?:#+ |\*\*)([^*\n]+)", text[: match.start()], re.MULTILINE)[-1].strip(".` ")
        if kind == "diff":
            code = "\n".join(line[1:] for line in code.splitlines() if not line.startswith("-"))
        found[f"{name} {sum(key.startswith(name) for key in found) + 1}"] = code
    return found


RUN_HERE = {name: code for name, code in blocks().items() if not any(line in code for line in ELSEWHERE)}


class Output(dict[str, Any]):
    """A model's output, with ``loss`` as an attribute."""

    @property
    def loss(self) -> torch.Tensor:
        loss: torch.Tensor = self["loss"]
        return loss


class Model(Classifier):
    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        return Output(super().forward(features, labels))


@pytest.fixture(autouse=True)
def _fresh_process_state() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    PartialState._reset_state()


# The Trainer asks for pinned memory, which there is no accelerator for here.
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found:UserWarning")
@pytest.mark.parametrize("name", RUN_HERE)
def test_the_code_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    model = Model()
    before = [param.detach().clone() for param in model.parameters()]
    namespace: dict[str, Any] = {
        "torch": torch,
        "hf_momo": hf_momo,
        "model": model,
        "data": class_examples(),
        "loader": DataLoader(class_examples(), batch_size=4),
        "max_norm": 0.1,
    }
    if "loss" not in re.findall(r"^\s*(\w+) =", RUN_HERE[name], re.MULTILINE) and "step(loss=" in RUN_HERE[name]:
        # A piece of a loop: what stands before it.
        namespace["loss"] = model(**next(iter(namespace["loader"]))).loss
        namespace["loss"].backward()
        namespace["optimizer"] = hf_momo.MomoAdam(model.parameters(), lr=1e-3)
    exec(RUN_HERE[name], namespace)
    if namespace["model"] is not model:  # the block makes its own
        assert namespace["optimizer"].last_step.num_steps == 200
        return
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)), "nothing was trained"


def test_thirty_seconds_print_what_the_readme_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(RUN_HERE["Thirty seconds 1"], {})
    assert f"prints `{capsys.readouterr().out.strip()}`" in README.read_text()


def test_the_blocks_are_found() -> None:
    assert {"A plain loop 1", "A plain loop 2", "The Trainer 1", "A loop of accelerate 1"} <= set(RUN_HERE)
    for line in ELSEWHERE:
        assert any(line in code for code in blocks().values()), line


def test_the_accelerate_example_trains_as_a_plain_loop() -> None:
    """Eight batches of four, two to a step: the numbers are those of the optimizer stepped by hand."""
    model, reference = Model(), Model()
    namespace = {"torch": torch, "model": model, "loader": DataLoader(class_examples(), batch_size=4)}
    Accelerator(cpu=True)  # the example's own then keeps to the CPU
    exec(RUN_HERE["A loop of accelerate 1"], namespace)
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
