"""Every command of every page names files that exist and arguments that its script takes; every link leads somewhere.

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

import pytest
from pages import PAGES, ROOT, anchors, fenced, without_fenced

from hf_momo import cli

PROGRAMS = r"(?:\w+=\S+ +)*(?:python|pytest|hf-momo|accelerate launch|torchrun|make)\b"
# Scripts that the reader has and the project has not.
NOT_OURS = ("train.py", "run_", "my_", "your_")
OURS = ("recipes/", "tests/", "hf_momo/", ".ci/", ".github/")
TARGETS = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
# Variables of the Makefile, which stand behind `make` as KEY=value.
ASSIGNMENT = re.compile(r"[A-Z_\d]+=")


def commands_of(text: str) -> list[str]:
    """Return the indented, fenced and inline commands of a page; a line that ends in a backslash continues."""
    shell = [code for kind, code, _ in fenced(text) if kind in ("", "bash", "console", "sh", "shell")]
    found = re.findall(rf"^    ({PROGRAMS} .*)$", text.replace("\\\n", " "), re.MULTILINE)
    found += re.findall(rf"^(?:\$ )?({PROGRAMS} .*)$", "".join(shell).replace("\\\n", " "), re.MULTILINE)
    inline = r"`((?:python (?:recipes|tests)|pytest tests|hf-momo [a-z]+|make [a-z]+)[^`]*)`"
    found += re.findall(inline, without_fenced(text))
    return list(dict.fromkeys(" ".join(command.split()) for command in found))


COMMANDS = [(page, command) for page, text in PAGES.items() for command in commands_of(text)]


@functools.cache
def help_of(*words: str) -> str:
    """Return what ``--help`` prints, asked in this process: a process for each command would take minutes."""
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
    """Return the programs of a command, each with its own words: a script may stand behind a launcher or a sweep."""
    words = [word for word in shlex.split(command, comments=True) if word != "..."]
    while ASSIGNMENT.match(words[0]):
        words = words[1:]
    if words[0] in ("accelerate", "torchrun"):
        script = next(index for index, word in enumerate(words) if word.endswith(".py") or word == "hf_momo")
        launch_files = [word for word in words[:script] if word.endswith(".yaml")]
        inner = ["hf-momo", *words[script + 1 :]] if words[script] == "hf_momo" else ["python", *words[script:]]
        return [((), launch_files), *parts_of(shlex.join(inner))]
    if words[0] == "make":
        targets = [word for word in words[1:] if not ASSIGNMENT.match(word)]
        assert set(targets) <= set(TARGETS), f"make has the targets {', '.join(TARGETS)}"
        return []
    if words[:3] == ["python", "-m", "hf_momo"]:
        return parts_of(shlex.join(["hf-momo", *words[3:]]))
    if words[0] == "pytest" or words[:3] == ["python", "-m", "pytest"]:
        return [((), [word.partition("::")[0] for word in words])]
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


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_command(page: str, command: str) -> None:
    for program, words in parts_of(command):
        ours = program and not program[0].startswith(NOT_OURS)
        if ours and program[0].startswith(OURS):
            assert (ROOT / program[0]).is_file(), program[0]
        for word in words:
            if word.startswith("--") and word != "--" and ours:
                flag = word.partition("=")[0]
                assert re.search(rf"{flag}\b", help_of(*program)), f"{' '.join(program)} has no {flag}"
            if word.startswith(OURS) and "*" not in word and not word.startswith("recipes/benchmarks/results/"):
                assert (ROOT / word).exists(), word


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    text = re.sub(r"`[^`\n]*`", "", without_fenced(PAGES[page]))
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if re.match(r"[a-z]+:", link) or (target.exists() and (not anchor or anchor in anchors(target.resolve()))):
            continue
        broken.append(link)
    assert not broken, f"{page} links to what is not there: {', '.join(broken)}"


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_the_text_exist(page: str) -> None:
    """A file that was moved is found under its new name on every page."""
    for path in re.findall(r"`([\w.-]+/[\w./-]*)`", without_fenced(PAGES[page])):
        if path.startswith(OURS):
            assert (ROOT / path).exists(), f"{page} names {path}"


def test_the_commands_are_found() -> None:
    found = " ".join(command for _, command in COMMANDS)
    for name in (
        "translation.py",
        "image_classification.py",
        "click_through_rate.py",
        "language_modeling.py",
        "sweep",
        "push",
        "make demo",
        "pytest",
    ):
        assert name in found


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("    python a.py --b \\\n        --c\n", ["python a.py --b --c"]),
        ("```bash\n$ N=1 accelerate launch \\\n    a.py\n```\n", ["N=1 accelerate launch a.py"]),
        ("Run `make test` or `hf-momo list`.", ["make test", "hf-momo list"]),
        ("```\npython a.py\n```\n```python\nmake = 1\n```\nIt makes `a` of `b`.", ["python a.py"]),
    ],
)
def test_commands_of(page: str, expected: list[str]) -> None:
    assert commands_of(page) == expected
