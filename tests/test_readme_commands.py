"""Every command of the README names files that exist and arguments that its script takes.

What the commands do is tested with each recipe, at a smaller size.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from hf_momo import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Files that a reader has and the project has not, and commands of other projects.
NOT_OURS = ("train.py", "run_translation.py")
LAUNCHERS = {"accelerate launch": 2, "python": 1}


def commands() -> list[str]:
    """Indented and inline commands, a line that ends in a backslash joined with the next."""
    text = README.replace("\\\n", " ")
    indented = re.findall(r"^    ((?:python|hf-momo|accelerate launch) .*)$", text, re.MULTILINE)
    inline = re.findall(r"`((?:python recipes|hf-momo [a-z]+)[^`]*)`", text)
    return list(dict.fromkeys(" ".join(command.split()) for command in indented + inline))


@functools.cache
def help_of(*words: str) -> str:
    """What `--help` prints, in this process: starting one for each command would take minutes."""
    shown = io.StringIO()
    argv, path = sys.argv, sys.path[:]
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as end:
        try:
            if words[0] == "hf-momo":
                cli.main([*words[1:], "--help"])
            else:
                sys.argv, sys.path[:0] = [words[0], "--help"], [str((ROOT / words[0]).parent)]
                runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        finally:
            sys.argv, sys.path[:] = argv, path
    assert not end.value.code
    return shown.getvalue()


def parts_of(command: str) -> list[tuple[tuple[str, ...], list[str]]]:
    """Programs of a command, each with its own words: a script may stand behind a launcher or a sweep."""
    words = [word for word in shlex.split(command, comments=True) if word != "..."]
    if words[0] == "accelerate":
        script = next(index for index, word in enumerate(words) if word.endswith(".py") or word == "hf_momo")
        launch_files = [word for word in words[:script] if word.endswith(".yaml")]
        inner = ["hf-momo", *words[script + 1 :]] if words[script] == "hf_momo" else ["python", *words[script:]]
        return [((), launch_files), *parts_of(shlex.join(inner))]
    if words[0] == "python":
        return [((words[1],), words[2:])]
    if words[1:2] == ["run"]:
        return [(("hf-momo", "run"), [])]
    own, _, behind = shlex.join(words[2:]).partition(" -- ")
    script = next((word for word in shlex.split(own) if word.endswith(".py")), None)
    study = next((word for word in shlex.split(own) if word.startswith("recipes/studies/")), None)
    if study is not None:
        script = re.search(r"^script: (\S+)", (ROOT / study).read_text(encoding="utf-8"), re.MULTILINE)[1]  # type: ignore[index]
    parts = [(("hf-momo", words[1]), shlex.split(own))]
    return [*parts, ((script,), shlex.split(behind))] if script else parts


@pytest.mark.parametrize("command", commands())
def test_command(command: str) -> None:
    for program, words in parts_of(command):
        ours = program and not program[0].startswith(NOT_OURS)
        for word in words:
            if word.startswith("--") and word != "--" and ours:
                flag = word.partition("=")[0]
                assert re.search(rf"{flag}\b", help_of(*program)), f"{' '.join(program)} has no {flag}"
            if word.startswith("recipes/") and "*" not in word and not word.startswith("recipes/benchmarks/results/"):
                assert (ROOT / word).exists(), word


def test_the_commands_are_found() -> None:
    found = " ".join(commands())
    for name in (
        "translation.py",
        "image_classification.py",
        "click_through_rate.py",
        "language_modeling.py",
        "sweep",
        "push",
    ):
        assert name in found
