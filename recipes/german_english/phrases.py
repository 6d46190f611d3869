"""Noun phrases, pronouns and names in both languages, and how they are drawn."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from .english import add_indefinite
from .german import ARTICLES, FEM, GEN, MASC, NEUT, PLURAL, decline_adjective
from .notation import Draw, Pair, pairs, read_table, words
from .nouns import NOUNS, Noun

T = TypeVar("T")

# Persons in the order of the verb tables.
ICH, DU, ER, WIR, IHR, SIE_PLURAL = range(6)


def pick(draw: Draw, items: Sequence[T]) -> T:
    """Return a random item."""
    return items[int(draw() * len(items))]


def choose(draw: Draw, text: str) -> Pair:
    """Return a random one of the pairs written as ``German = English; ...``."""
    return pick(draw, pairs(text))


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase: German by case, English as subject and object."""

    german: tuple[str, ...]
    subject: str
    object: str
    person: int
    gender: int
    noun: Noun | None = None
    pronoun: bool = False
    negative: bool = False
    indefinite: bool = False

    @property
    def nom(self) -> str:
        """The German nominative."""
        return self.german[0]

    @property
    def acc(self) -> str:
        """The German accusative."""
        return self.german[1]

    @property
    def dat(self) -> str:
        """The German dative."""
        return self.german[2]

    @property
    def many(self) -> bool:
        """Whether verbs agree with it in the third person plural."""
        return self.person == SIE_PLURAL


def _pronoun(german_forms: str, english_forms: str, person: int, gender: int = PLURAL) -> Phrase:
    subject, _, obj = english_forms.partition(" ")
    return Phrase(words(german_forms), subject, obj or subject, person, gender, pronoun=True)


I_PRONOUN = _pronoun("ich mich mir", "I me", ICH)
YOU = _pronoun("du dich dir", "you", DU)
HE = _pronoun("er ihn ihm", "he him", ER, MASC)
SHE = _pronoun("sie sie ihr", "she her", ER, FEM)
WE = _pronoun("wir uns uns", "we us", WIR)
YOU_PLURAL = _pronoun("ihr euch euch", "you", IHR)
THEY = _pronoun("sie sie ihnen", "they them", SIE_PLURAL)
YOU_FORMAL = _pronoun("Sie Sie Ihnen", "you", SIE_PLURAL)
IT_BY_GENDER = (
    _pronoun("er ihn ihm", "it", ER, MASC),
    _pronoun("sie sie ihr", "it", ER, FEM),
    _pronoun("es es ihm", "it", ER, NEUT),
    THEY,
)
SUBJECT_PRONOUNS = (I_PRONOUN, I_PRONOUN, YOU, HE, HE, SHE, SHE, WE, WE, YOU_PLURAL, THEY, THEY)
OBJECT_PRONOUNS = (I_PRONOUN, YOU, HE, SHE, WE, YOU_PLURAL)
REFLEXIVE = ("mich", "dich", "sich", "uns", "euch", "sich")


def _name(text: str, english: str, gender: int, oblique: str | None = None) -> Phrase:
    return Phrase((text, *(oblique or text,) * 2), english, english, ER, gender)


NAMES: tuple[Phrase, ...] = (
    *(_name(name, name, MASC) for name in ("Peter", "Thomas", "Paul", "Jonas", "Felix", "Lukas", "Max")),
    *(_name(name, name, FEM) for name in ("Anna", "Maria", "Lena", "Julia", "Sophie", "Clara", "Emma")),
    *(
        phrase
        for surname in ("Müller", "Schmidt", "Weber", "Wagner", "Becker")
        for phrase in (
            # Herr belongs to the n-declension even in front of a name.
            _name(f"Herr {surname}", f"Mr {surname}", MASC, f"Herrn {surname}"),
            _name(f"Frau {surname}", f"Mrs {surname}", FEM),
        )
    ),
)
_ENGLISH_DETERMINERS = {
    determiner: tuple(f"{word} " if word else "" for word in english_words)
    for determiner, *english_words in [*read_table("determiners"), ["", "", ""]]
}
_INDEFINITE = frozenset(("", *words("ein viele einige zwei drei vier fünf sechs")))


def _decline(noun: Noun, determiner: str, plural: bool, adjective: Pair | None, case: int) -> str:
    column = PLURAL if plural else noun.gender
    article = f"{ARTICLES[determiner][column][case]} " if determiner else ""
    described = f"{decline_adjective(adjective[0], determiner, column, case)} " if adjective else ""
    return f"{article}{described}{noun.german[plural][case]}"


@functools.cache
def build(noun: Noun, determiner: str, plural: bool = False, adjective: Pair | None = None) -> Phrase:
    """Return a noun phrase with its article or possessive and the adjective agreeing with it.

    Args:
        noun: The noun.
        determiner: A key of ``german.ARTICLES``, empty for none, or ``ihr+`` for the possessive of several owners.
        plural: Whether the phrase is plural; ``ein`` then drops.
        adjective: The adjective in German and English.
    """
    if plural and determiner == "ein":
        determiner = ""
    key = determiner.removesuffix("+")
    text = f"{adjective[1]} {noun.english[plural]}" if adjective else noun.english[plural]
    negative = determiner == "kein"
    if negative and (plural or noun.is_a("u")):
        text = f"any {text}"
    elif negative or determiner == "ein":
        text = add_indefinite(text)
    else:
        text = _ENGLISH_DETERMINERS[determiner][plural] + text
    forms = tuple(_decline(noun, key, plural, adjective, case) for case in range(GEN))
    person, gender = (SIE_PLURAL, PLURAL) if plural else (ER, noun.gender)
    return Phrase(forms, text, text, person, gender, noun, False, negative, key in _INDEFINITE)


def build_genitive(noun: Noun, determiner: str, plural: bool = False, adjective: Pair | None = None) -> str:
    """Return the genitive of a phrase that has an article."""
    return _decline(noun, determiner, plural, adjective, GEN)


_PLAIN = ("der",) * 7 + ("ein",) * 5 + ("dieser",) * 2
_OWNED = (*_PLAIN, "mein", "mein", "dein", "sein", "unser")
_RELATED = ("mein",) * 5 + ("dein",) * 2 + ("sein",) * 2 + ("unser",) * 2 + ("euer",)
_UNCOUNTED = ("der",) * 2 + ("",) * 3
_COUNTED = words("viele einige einige zwei zwei drei drei vier fünf sechs ein")
_POSSESSIVES = frozenset(words("mein dein sein unser euer"))


def _list_determiners(noun: Noun) -> tuple[str, ...]:
    if noun.is_a("k"):
        return _RELATED
    if noun.is_a("u"):
        return _UNCOUNTED
    return _OWNED if noun.is_a("p") else _PLAIN


_DETERMINERS_OF = {noun: _list_determiners(noun) for noun in NOUNS.values()}


def _is_countable(noun: Noun) -> bool:
    return not noun.is_a("u") and not noun.is_a("single")


def draw_adjective(draw: Draw, noun: Noun, chance: float) -> Pair | None:
    """Return, with the given chance, an adjective that suits the noun."""
    return pick(draw, noun.adjectives) if noun.adjectives and draw() < chance else None


def draw_phrase(draw: Draw, nouns: Sequence[Noun], kein: bool = False, new: bool = False) -> Phrase:
    """Return a random phrase with one of the nouns.

    Args:
        draw: The source of randomness.
        nouns: The nouns to choose from.
        kein: Whether to use the negative article where the noun allows it.
        new: Whether the subject is about to acquire the thing, so that a possessive would be odd.
    """
    noun = pick(draw, nouns)
    determiner = pick(draw, _DETERMINERS_OF[noun])
    plural = draw() < 0.2 and _is_countable(noun)
    if kein and not noun.is_a("k"):
        determiner = "kein"
    elif determiner == "ein" and plural:
        determiner = "einige" if noun.is_a("person") else pick(draw, _COUNTED)
    elif new and determiner in _POSSESSIVES:
        determiner = "der"
    return build(noun, determiner, plural, draw_adjective(draw, noun, 0.15 if noun.is_a("k") else 0.4))


def draw_definite(draw: Draw, nouns: Sequence[Noun], adjectives: float = 0.3, plurals: float = 0.0) -> Phrase:
    """Return a phrase that is definite in both languages: a relative with a possessive, the rest with an article."""
    noun = pick(draw, nouns)
    determiner = pick(draw, ("mein", "unser", "dein")) if noun.is_a("k") else "der"
    adjective = draw_adjective(draw, noun, adjectives)
    return build(noun, determiner, draw() < plurals and _is_countable(noun), adjective)


def draw_bare(draw: Draw, noun: Noun, articles: str, plurals: float) -> Phrase:
    """Return the noun without an adjective: a relative with a possessive, the rest with one of the articles."""
    determiner = pick(draw, words("mein dein unser" if noun.is_a("k") else articles))
    return build(noun, determiner, draw() < plurals and _is_countable(noun))


def draw_someone(draw: Draw, nouns: Sequence[Noun], names: float, adjectives: float, plurals: float = 0.0) -> Phrase:
    """Return a name with the chance ``names``, a definite phrase otherwise."""
    return pick(draw, NAMES) if draw() < names else draw_definite(draw, nouns, adjectives, plurals)


def draw_subject(draw: Draw, nouns: Sequence[Noun], pronouns: float = 0.25) -> Phrase:
    """Return a subject; people may also be named or be a pronoun."""
    chance = draw()
    if nouns[0].is_a("person") and len(nouns) > 20 and chance < pronouns + 0.2:
        return pick(draw, SUBJECT_PRONOUNS if chance < pronouns else NAMES)
    phrase = draw_phrase(draw, nouns)
    # A bare plural as the subject would be a statement about the whole kind.
    while phrase.indefinite and phrase.many:
        phrase = draw_phrase(draw, nouns)
    return phrase


def get_pronoun(phrase: Phrase) -> Phrase:
    """Return the pronoun that refers to a phrase: German by grammatical gender, English by sex or as a thing."""
    if phrase.pronoun:
        return phrase
    if phrase.many:
        pronoun = THEY
    elif phrase.noun is None or phrase.noun.is_a("person"):
        pronoun = HE if phrase.gender == MASC else SHE
    else:
        return IT_BY_GENDER[phrase.gender]
    # The pronoun keeps its noun so that nobody helps himself: "der Arzt ..., weil er dem Arzt hilft".
    return replace(pronoun, noun=phrase.noun)
