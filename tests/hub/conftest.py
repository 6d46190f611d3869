"""A Hub of the test's own, which the process takes for the real one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import tenacity
import transformers
from hub.server import Hub
from hub.tiny_runs import TOKEN, USER
from huggingface_hub import constants, file_download


class Clock:
    """A stand-in for the module ``time`` whose pauses are counted and take no time."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def monotonic(self) -> float:
        return time.monotonic() + sum(self.pauses)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of tenacity and huggingface_hub, which retry."""
    from huggingface_hub.utils import _http

    clock = Clock()
    for module in (tenacity, tenacity.nap, _http):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Start a Hub, make this process take it for the real one, and log in.

    huggingface_hub reads HF_ENDPOINT, HF_HOME and HF_HUB_DISABLE_XET when it is imported, so what they decide is set
    here afterwards. Runs in processes of their own get the variables.
    """
    hub = Hub({TOKEN: USER})
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    for module in (constants, file_download):
        address = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", address, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "home" / "harnesses"), raising=False)
    monkeypatch.setattr(transformers.utils.hub, "TRANSFORMERS_CACHE", str(tmp_path / "home" / "hub"), raising=False)
    # The API object of transformers 5 is made once, that of huggingface_hub's functions on import.
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)
    with warnings.catch_warnings():
        # huggingface_hub's own, in the thread of an upload, where it would be the upload's failure.
        warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
        yield hub
    hub.stop()
