"""Examples without a Trainer (``*_no_trainer.py``) need the two changed lines that the README shows."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState

README = Path(__file__).parents[2] / "README.md"
SCRIPT = Path(__file__).with_name("no_trainer_script.py")


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Any:
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def changed(script: str) -> str:
    """Apply the README's diff of ``*_no_trainer.py`` to the script."""
    diff = next(
        block for block in re.findall(r"```diff\n(.*?)```", README.read_text(), re.DOTALL) if "_grouped_" in block
    )
    lines = diff.splitlines()
    (removed,) = [line[1:] for line in lines if line.startswith("-")]
    imported, *added = [line[1:] for line in lines if line.startswith("+")]
    assert script.count(removed) == 1
    return script.replace("import torch\n", f"import torch\n{imported}\n", 1).replace(removed, "\n".join(added))


def losses_of(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> list[float]:
    path = folder / "train.py"
    path.write_text(script)
    monkeypatch.setattr(sys, "argv", [str(path), *options, "--output_dir", str(folder)])
    runpy.run_path(str(path), run_name="__main__")
    read: list[float] = json.loads((folder / "losses.json").read_text())
    return read


def with_the_loss_handed_over(script: str) -> str:
    """Return the reference: the script passes the mean of the window's losses to ``step`` itself."""
    return (
        script.replace("torch.optim.AdamW(", "hf_momo.MomoAdam(")
        .replace(
            "import torch\n",
            "import torch\nimport hf_momo\nfrom hf_momo.optimizers.registry import unwrap_optimizer\n",
            1,
        )
        .replace(
            "                optimizer.step()\n",
            "                if accelerator.sync_gradients:\n"
            "                    window = losses[-args.gradient_accumulation_steps:]\n"
            "                    unwrap_optimizer(optimizer).step(loss=torch.tensor(sum(window) / len(window)))\n",
        )
    )


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_two_lines_of_the_readme(accumulation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--learning_rate", "0.5", "--weight_decay", "0.1", "--gradient_accumulation_steps", str(accumulation)]
    stock = losses_of(SCRIPT.read_text(), tmp_path, monkeypatch, *options)
    ours = losses_of(changed(SCRIPT.read_text()), tmp_path, monkeypatch, *options)
    reference = losses_of(with_the_loss_handed_over(SCRIPT.read_text()), tmp_path, monkeypatch, *options)
    assert ours == pytest.approx(reference, rel=1e-6)
    assert ours[:accumulation] == stock[:accumulation] and ours != stock
