"""The packages that ``import hf_momo`` loads and needs, each case in a new process."""

import subprocess
import sys

import pytest

# Stands for an environment where a package is not installed.
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""
TRAINER_NAMES = ["MomoTrainer", "MomoSeq2SeqTrainer", "MomoTrainerMixin", "MomoTrainingArguments"]


def run(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_loads_neither_transformers_nor_accelerate():
    heavy = ["transformers", "accelerate", "datasets", "evaluate", "huggingface_hub", "sacrebleu"]
    code = f"import sys, hf_momo; dir(hf_momo); print([name for name in {heavy} if name in sys.modules])"
    assert run(code).strip() == "[]"


def test_works_with_torch_alone():
    """Without the extras' packages the optimizers train, and the trainer names say what to install."""
    missing = {"transformers", "accelerate", "datasets", "evaluate", "huggingface_hub", "sacrebleu", "momo"}
    code = BLOCKER.format(blocked=missing) + (
        "import torch\n"
        "from hf_momo import LossTap, create_optimizer, list_optimizers\n"
        "import hf_momo\n"
        "for name in list_optimizers():\n"
        "    layer = torch.nn.Linear(2, 1)\n"
        "    base = {'base': torch.optim.AdamW} if name == 'momo_wrapper' else {}\n"
        "    optimizer = create_optimizer(name, layer, weight_decay=0.1, **base)\n"
        "    loss = layer(torch.ones(3, 2)).square().mean()\n"
        "    loss.backward()\n"
        "    optimizer.step(loss=loss)\n"
        "    assert optimizer.last_step.num_steps == 1\n"
        f"for name in {TRAINER_NAMES}:\n"
        "    try:\n"
        "        getattr(hf_momo, name)\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    lines = run(code).splitlines()
    assert len(lines) == len(TRAINER_NAMES)
    for name, line in zip(TRAINER_NAMES, lines, strict=True):
        assert line.startswith(f"hf_momo.{name} needs transformers and accelerate (No module named 'transformers'")
        assert line.endswith("pip install 'hf_momo[trainer]'")


def test_trainer_names_come_when_they_are_touched():
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    code = (
        "import sys, hf_momo\n"
        "from transformers import Trainer\n"
        "assert issubclass(hf_momo.MomoTrainer, Trainer)\n"
        "print('hf_momo.trainer' in sys.modules)\n"
    )
    assert run(code).strip() == "True"
