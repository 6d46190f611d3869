"""The nouns, the adjectives that go with them, and the classes that verbs choose their objects from."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import english, german
from .notation import Pair, adjectives, read_table


@dataclass(frozen=True, eq=False)
class Noun:
    """A noun of both languages with its forms by number and case."""

    lemma: str
    gender: int
    german: tuple[tuple[str, ...], tuple[str, ...]]
    english: tuple[str, str]
    adjectives: tuple[Pair, ...]
    classes: tuple[str, ...] = field(default=())

    def is_a(self, name: str) -> bool:
        """Return whether the noun has the class."""
        return name in self.classes


def make_noun(german_part: str, english_part: str, described: str = "", classes: str = "") -> Noun:
    """Return a noun from the fields of a table line."""
    lemma, letter, genitive, plural = german_part.split()
    gender = "mfn".index(letter)
    forms = german.build_noun_forms(lemma, gender, genitive.strip("-"), plural)
    singular, _, plural_english = english_part.partition(" ")
    singular = singular.replace("_", " ")
    both = (singular, plural_english or english.pluralize(singular))
    return Noun(lemma, gender, forms, both, adjectives(described), tuple(classes.split()))


_ADJECTIVES = dict(read_table("adjectives"))
NOUNS = {
    noun.lemma: noun
    for german_part, english_part, group, classes in read_table("nouns")
    for noun in [make_noun(german_part, english_part, _ADJECTIVES[group], f"{classes} :{group}")]
}


def select(names: str) -> tuple[Noun, ...]:
    """Return the nouns that have any of the classes (``a:b`` asks for both) or lemmas, in table order."""
    wanted = [name.split(":") for name in names.split()]
    return tuple(
        noun
        for noun in NOUNS.values()
        if any(noun.lemma == name[0] or all(part in noun.classes for part in name) for name in wanted)
    )


PEOPLE = select("person")
# Without Kind and Mädchen: the pronoun that refers to them would be open (es or sie, it or she).
ADULTS = select("he she")
