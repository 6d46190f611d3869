"""Every study in recipes/studies is one that ``hf-momo sweep`` takes, over a recipe and a configuration that exist."""

import argparse
import re
from pathlib import Path

import pytest
import yaml
from recipe_runs import ROOT

from hf_momo.sweep.cli import add_sweep_parser
from hf_momo.sweep.grid import parse_grid
from hf_momo.sweep.study import apply_study

STUDIES = sorted((ROOT / "recipes" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_study(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    parser = add_sweep_parser(argparse.ArgumentParser().add_subparsers())
    options = apply_study(parser.parse_args([]), path, parser)
    grid = parse_grid(options.optim, options.learning_rate, options.seed or "42", options.grid)
    text = path.read_text(encoding="utf-8")
    counted = re.search(r"(\d+) runs", text)
    assert counted is not None and int(counted[1]) == len(grid.runs)
    assert f"--config recipes/studies/{path.name}" in text and re.search(r"^# Cost: ", text, re.MULTILINE)
    assert Path(options.script).is_file() and options.metric
    config = options.arguments[options.arguments.index("--config") + 1]
    assert Path(config).is_file()
    assert set(yaml.safe_load(text)) <= set(vars(options))
