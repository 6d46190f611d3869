import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sweeps" / "quick_script"


@pytest.fixture
def undrawn(monkeypatch):
    """For sweeps in this process: drawing takes longer than all of the runs, and is not what most tests are about."""
    monkeypatch.setattr("hf_momo.sweep.pictures.draw_report", lambda report, folder: [])
