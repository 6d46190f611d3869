"""How pytest collects this project's tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_file_that_cannot_be_imported_is_an_error(tmp_path: Path) -> None:
    """With ``--doctest-ignore-import-errors`` such a file was skipped with all of its tests, and the run was green."""
    (tmp_path / "test_broken.py").write_text("import no_such_module\n\ndef test_fails():\n    assert False\n")
    (tmp_path / "test_sound.py").write_text("def test_passes():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    done = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "No module named 'no_such_module'" in done.stdout
