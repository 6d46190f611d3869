"""The pages of the manual: README.md and those that stand beside what they describe; no generated cards."""

from __future__ import annotations

import functools
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
# Pages have capital letters; the template of the model cards has not.
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [
        README,
        *sorted(ROOT.glob(".github/[A-Z]*.md")),
        *(path for folder in ("hf_momo", "recipes", "tests") for path in sorted(ROOT.glob(f"{folder}/**/[A-Z]*.md"))),
        *sorted(ROOT.glob("model_cards/[A-Z]*.md")),
    ]
}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fenced(text: str) -> list[tuple[str, str, str]]:
    """Return language and content of every fenced block of a page, and the text before it."""
    return [(match[1], match[2], text[: match.start()]) for match in _FENCE.finditer(text)]


def without_fenced(text: str) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", text)


@functools.cache
def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a Markdown file."""
    headings = re.findall(r"^#+ (.+)$", without_fenced(path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
