"""The report of `make gpu`, on machines with no GPU: tests skip, times are at a tiny size, and it says so."""

import json
import subprocess
import sys

from recipes.launching import ROOT, environment


def report(tmp_path, *words):
    command = [sys.executable, ROOT / "recipes" / "benchmarks" / "gpu_report.py", "--output", tmp_path, *words]
    done = subprocess.run(
        list(map(str, command)), env=environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done, json.loads((tmp_path / "report.json").read_text()), (tmp_path / "report.md").read_text()


def test_without_a_gpu(tmp_path):
    (tmp_path / "step_gpt2.json").write_text("{}")  # of an earlier report
    done, record, page = report(tmp_path, "--tests", "tests/optimizers/test_no_waiting.py")
    assert done.returncode == 0, [path.read_text()[-2000:] for path in tmp_path.glob("*.log")]
    assert "**nothing has been timed on a GPU**" in page and not record["on_gpu"]
    assert list(record["parts"]) == ["tests", "step_smoke", "step_smoke_bfloat16", "recipe"]
    assert all(set(counts) == {"skipped"} for counts in record["tests"].values())
    assert any(name.endswith("test_no_synchronisation_on_cuda") for name in record["tests"])
    assert list(record["steps"]) == ["step_smoke", "step_smoke_bfloat16"]
    smoke = record["steps"]["step_smoke"]
    for method in ("MomoAdam", "Momo", "MomoLion", "MomoAdafactor", "MomoMuon", "MomoWrapper"):
        name = f"hf_momo {method} eager"
        assert smoke["to_base"][name] or method == "MomoMuon", "torch.optim.Muon came with torch 2.9"
        assert smoke["measuring_seconds"][name] > 0
        assert f"| {name} |" in page
    assert record["recipe"]["train_loss"] > 0
    assert "| train_loss |" in page


def test_a_part_that_fails_is_told(tmp_path):
    """The parts after it run all the same, and the command fails."""
    words = ["--parts", "recipe", "tests", "--tests", "tests/optimizers/test_no_waiting.py", "--data", str(tmp_path)]
    done, record, page = report(tmp_path, *words)
    assert done.returncode == 1
    assert "| recipe | failed |" in page and "| tests | ok |" in page
    assert "train.de.gz" in (tmp_path / "recipe.log").read_text()
    assert list(record["parts"]) == ["recipe", "tests"] and record["recipe"] == {}
