"""The grammar as a whole: all templates by weight, and the finished sentences they give."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from . import contexts, facts, infinitives, mains, quantities, questions, relatives, subordinates
from .phrases import Draw

_MODULES = (mains, questions, subordinates, relatives, infinitives, facts, quantities, contexts)
TEMPLATES: tuple[tuple[str, Callable[[Draw], tuple[str, str] | None], int], ...] = tuple(
    template for module in _MODULES for template in module.TEMPLATES
)
TAGS = tuple(tag for tag, _, _ in TEMPLATES)
_WEIGHTED = tuple((tag, template) for tag, template, weight in TEMPLATES for _ in range(weight))


def finish(text: str) -> str:
    """Return the sentence with its first letter in upper case and a full stop unless it has a mark already."""
    text = text[0].upper() + text[1:]
    return text if text[-1] in "?!" else text + "."


def _repeats_itself(text: str) -> bool:
    """Tell whether a German noun or name occurs twice: such sentences are correct, but nobody says them."""
    seen = []
    for word in text.split():
        if word[0].isupper():
            stem = word[:5].rstrip(",?!.")
            if stem in seen and len(stem) > 3:
                return True
            seen.append(stem)
    return False


def iterate(seed: int) -> Iterator[tuple[str, str, str]]:
    """Yield the tag of a template, a German sentence and its translation without end; pairs may repeat."""
    draw = random.Random(seed).random
    count = len(_WEIGHTED)
    while True:
        tag, template = _WEIGHTED[int(draw() * count)]
        pair = template(draw)
        if pair is not None and pair[0].count(" ") > 1 and not _repeats_itself(pair[0]):
            yield tag, finish(pair[0]), finish(pair[1])


def iterate_distinct(seed: int) -> Iterator[tuple[str, str, str]]:
    """Yield what iterate does, but no German and no English sentence a second time."""
    seen_german: set[str] = set()
    seen_english: set[str] = set()
    for tag, german, english in iterate(seed):
        if german not in seen_german and english not in seen_english:
            seen_german.add(german)
            seen_english.add(english)
            yield tag, german, english
