"""The wheel holds the package, all of it, and nothing else; it works where it is unpacked."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

import hf_momo

ROOT = Path(__file__).parent.parent
INFO = f"hf_momo-{hf_momo.__version__}.dist-info"

pytest.importorskip("hatchling", reason="needs hatchling, which builds the wheel")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = (folder / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_its_files_are_those_of_the_package(unpacked: Path) -> None:
    """Data files (the C code, the template of the cards, the startup file of children) are as needed as modules."""
    held = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "hf_momo").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package >= {"hf_momo/py.typed", "hf_momo/kernels/measure.c", "hf_momo/children/sitecustomize.py"}
    assert held - package == {f"{INFO}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")} | {
        f"{INFO}/licenses/LICENSE"
    }
    assert package <= held


def test_its_description(unpacked: Path) -> None:
    described = Metadata.from_email((unpacked / INFO / "METADATA").read_bytes(), validate=True)
    assert (described.license_expression, described.license_files) == ("Apache-2.0", ["LICENSE"])
    assert described.description_content_type == "text/markdown"
    alone = [str(each) for each in described.requires_dist or [] if each.marker is None]
    assert [each.partition(">")[0] for each in alone] == ["torch"]
    assert (unpacked / INFO / "entry_points.txt").read_text().split() == [
        "[console_scripts]", "hf-momo", "=", "hf_momo.cli:main",
    ]  # fmt: skip


def test_it_works_where_it_is_unpacked(unpacked: Path) -> None:
    command = [sys.executable, "-c", "import hf_momo.cli; print(hf_momo.__file__); hf_momo.cli.main(['list'])"]
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    done = subprocess.run(command, cwd=unpacked, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(f"{unpacked / 'hf_momo' / '__init__.py'}\nmomo: ")
