"""The grammar as a whole: all templates by weight, and the finished sentences that they give."""

from __future__ import annotations

import random
from collections.abc import Iterator

from . import contexts, facts, infinitives, mains, quantities, relatives, subordinates
from .notation import Template, get_templates

# The order decides which sentences a seed gives.
_MODULES = (mains, subordinates, relatives, infinitives, facts, quantities, contexts)
_WEIGHTED: tuple[Template, ...] = tuple(
    template for module in _MODULES for template in get_templates(module.__name__) for _ in range(template.weight)
)
TAGS = tuple(dict.fromkeys(template.tag for template in _WEIGHTED))


def _finish(text: str) -> str:
    """Return the sentence with its first letter in upper case and a full stop unless it has a mark already."""
    text = text[0].upper() + text[1:]
    return text if text[-1] in "?!" else text + "."


def _repeats_itself(text: str) -> bool:
    """Return whether a German noun or name occurs twice: such sentences are correct, but nobody says them."""
    stems = [word[:5].rstrip(",?!.") for word in text.split() if word[0].isupper()]
    return any(len(stem) > 3 and stem in stems[:index] for index, stem in enumerate(stems))


def _iterate(seed: int) -> Iterator[tuple[str, str, str]]:
    draw = random.Random(seed).random
    while True:
        template = _WEIGHTED[int(draw() * len(_WEIGHTED))]
        pair = template.build(draw)
        if pair is not None and pair[0].count(" ") > 1 and not _repeats_itself(pair[0]):
            yield template.tag, _finish(pair[0]), _finish(pair[1])


def iterate_distinct(seed: int) -> Iterator[tuple[str, str, str]]:
    """Yield the tag of a template, a German sentence and its translation without end, no sentence twice."""
    seen_german: set[str] = set()
    seen_english: set[str] = set()
    for tag, german, english in _iterate(seed):
        if german not in seen_german and english not in seen_english:
            seen_german.add(german)
            seen_english.add(english)
            yield tag, german, english
