"""The oldest supported releases: one table, what is installed from it, and what those with older ones are told."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import accelerate
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from hf_momo.tap.accelerator import tap_accelerator
from hf_momo.utils.versions import OLDEST, check_version


def test_the_package_requires_the_same() -> None:
    needed = [Requirement(line) for line in requires("hf_momo") or ()]
    bounds = {each.name: {(bound.operator, Version(bound.version)) for bound in each.specifier} for each in needed}
    oldest = {name: {(">=", Version(bound))} for name, bound in OLDEST.items()}
    assert {name: bounds[name] for name in OLDEST} == oldest


@pytest.mark.skipif(Path(sys.prefix).name != ".venv-oldest", reason="not in the environment of `make test-oldest`")
def test_make_test_oldest_installs_the_lowest_versions() -> None:
    """Bounds named releases that no test had run: DiffGrad of pytorch_optimizer 3.5 forgets its weight decay."""
    needed = map(Requirement, requires("hf_momo") or ())
    direct = [each for each in needed if each.marker is None or each.marker.evaluate({"extra": "test-core"})]
    bounds = {each.name: [Version(bound.version) for bound in each.specifier] for each in direct}
    # Without torch's local part, +cpu.
    assert {name: [Version(Version(version(name)).public)] for name in bounds} == bounds


def before(version: str) -> str:
    major, minor, _ = Version(version).release
    return f"{major}.{minor - 1}.9"


@pytest.mark.parametrize("package", OLDEST)
def test_an_older_release_is_refused_by_name(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(package)
    older = before(OLDEST[package])
    monkeypatch.setattr(f"{package}.__version__", older)
    with pytest.raises(ImportError, match=rf"{package} {re.escape(older)} .* {re.escape(OLDEST[package])} or later"):
        check_version(package)


@pytest.mark.parametrize("made", ["{}", "{}.dev0", "{}rc1", "99.0"])
def test_the_oldest_and_its_previews_and_newer_ones_are_taken(made: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.__version__", made.format(OLDEST["transformers"]))
    check_version("transformers")


def test_the_integration_refuses_where_it_is_imported() -> None:
    older = before(OLDEST["transformers"])
    # The Trainer first: transformers puts a module of its own in its place while that is loaded.
    code = (
        "import sys; from transformers import Trainer\n"
        f"sys.modules['transformers'].__version__ = {older!r}\n"
        "import hf_momo; hf_momo.integrate()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert f"transformers {older} is installed" in done.stderr and OLDEST["transformers"] in done.stderr


def test_a_loop_of_accelerate_refuses_when_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    monkeypatch.setattr(accelerate, "__version__", before(OLDEST["accelerate"]))
    with pytest.raises(ImportError, match=r"accelerate .* is installed"):
        tap_accelerator(accelerator)
