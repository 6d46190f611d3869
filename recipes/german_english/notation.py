"""The notations of the grammar: ``vocabulary.txt``, lists of words, and templates of sentences."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Pair = tuple[str, str]
# Everything is drawn with random.Random.random alone: its sequence is guaranteed to stay, that of choice is not.
Draw = Callable[[], float]
Build = TypeVar("Build", bound=Callable[[Draw], Pair | None])


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text."""
    return tuple(text.split())


def rows(table: str) -> list[list[str]]:
    """Return the fields, separated by ``|``, of each line that is not empty or a comment."""
    lines = [line for line in table.splitlines() if line and not line.startswith("#")]
    return [[field.strip() for field in line.split("|")] for line in lines]


@functools.cache
def _read_sections() -> dict[str, str]:
    text = Path(__file__).with_name("vocabulary.txt").read_text(encoding="utf-8")
    sections = (section.partition("]\n") for section in text.split("\n[")[1:])
    return {name: table for name, _, table in sections}


def read_table(name: str) -> list[list[str]]:
    """Return the rows of a section of ``vocabulary.txt``."""
    return rows(_read_sections()[name])


@functools.cache
def pairs(text: str, between: str = "; ", inside: str = " = ") -> tuple[Pair, ...]:
    """Return (German, English) pairs.

    >>> pairs("laut = loudly; leise = quietly")
    (('laut', 'loudly'), ('leise', 'quietly'))
    """
    entries = [entry.partition(inside) for entry in text.split(between) if entry]
    return tuple((german, english) for german, _, english in entries)


def adjectives(text: str) -> tuple[Pair, ...]:
    """Return the pairs of a list such as ``alt old,neu new``."""
    return pairs(text, ",", " ")


@dataclass(frozen=True)
class Template:
    """A function that draws a pair of sentences, or None to draw again, and its relative frequency."""

    tag: str
    build: Callable[[Draw], Pair | None]
    weight: int


_REGISTERED: dict[str, list[Template]] = {}


def template(weight: int) -> Callable[[Build], Build]:
    """Return a decorator that registers a function as a template."""

    def register(build: Build) -> Build:
        tag = build.__name__.removesuffix("_")
        _REGISTERED.setdefault(build.__module__, []).append(Template(tag, build, weight))
        return build

    return register


def get_templates(module: str) -> list[Template]:
    """Return the templates of a module in the order of their definition."""
    return _REGISTERED[module]


def say(text: str, **parts: object) -> Pair:
    """Return a sentence in both languages from ``German = English``; a pair puts one half into each.

    >>> say("{name} wohnt in {city} = {name} lives in {city}", name="Anna", city=("Wien", "Vienna"))
    ('Anna wohnt in Wien', 'Anna lives in Vienna')
    """
    german, english = text.split(" = ")
    halves = [
        {name: part[side] if isinstance(part, tuple) else part for name, part in parts.items()} for side in (0, 1)
    ]
    return german.format(**halves[0]), english.format(**halves[1])
