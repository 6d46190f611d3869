"""Noun phrases, pronouns and names in both languages, and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from . import german
from .english import add_indefinite
from .german import ARTICLES, DECLENSIONS, MASC, PLURAL, get_adjective_stem
from .nouns import NOUNS, Noun

T = TypeVar("T")
# Everything is drawn from random.Random.random alone: its sequence is promised to stay, that of choice is not.
Draw = Callable[[], float]

# Persons in the order of the verb tables.
ICH, DU, ER, WIR, IHR, SIE_PLURAL = range(6)


def pick(draw: Draw, items: Sequence[T]) -> T:
    """Return a random item."""
    return items[int(draw() * len(items))]


@dataclass(slots=True)
class Phrase:
    """A noun phrase: German by case, English as subject and object."""

    german: tuple[str, str, str]
    subject: str
    object: str
    person: int
    gender: int
    noun: Noun | None = None
    pronoun: bool = False
    negative: bool = False
    indefinite: bool = False


def _pronoun(german_forms: str, subject: str, obj: str, person: int, gender: int = PLURAL) -> Phrase:
    nominative, accusative, dative = german_forms.split()
    return Phrase((nominative, accusative, dative), subject, obj, person, gender, pronoun=True)


I_PRONOUN = _pronoun("ich mich mir", "I", "me", ICH)
YOU = _pronoun("du dich dir", "you", "you", DU)
HE = _pronoun("er ihn ihm", "he", "him", ER, MASC)
SHE = _pronoun("sie sie ihr", "she", "her", ER, german.FEM)
WE = _pronoun("wir uns uns", "we", "us", WIR)
YOU_PLURAL = _pronoun("ihr euch euch", "you", "you", IHR)
THEY = _pronoun("sie sie ihnen", "they", "them", SIE_PLURAL)
YOU_FORMAL = _pronoun("Sie Sie Ihnen", "you", "you", SIE_PLURAL)
IT_BY_GENDER = (
    _pronoun("er ihn ihm", "it", "it", ER, MASC),
    _pronoun("sie sie ihr", "it", "it", ER, german.FEM),
    _pronoun("es es ihm", "it", "it", ER, german.NEUT),
    THEY,
)
SUBJECT_PRONOUNS = (I_PRONOUN, I_PRONOUN, YOU, HE, HE, SHE, SHE, WE, WE, YOU_PLURAL, THEY, THEY)
OBJECT_PRONOUNS = (I_PRONOUN, YOU, HE, SHE, WE, YOU_PLURAL)
REFLEXIVE = ("mich", "dich", "sich", "uns", "euch", "sich")


def _name(name: str, pronoun_gender: int) -> Phrase:
    return Phrase((name, name, name), name, name, ER, pronoun_gender)


def _titled(surname: str) -> tuple[Phrase, Phrase]:
    # Herr belongs to the n-declension even in front of a name.
    mister = Phrase((f"Herr {surname}", f"Herrn {surname}", f"Herrn {surname}"), *(f"Mr {surname}",) * 2, ER, MASC)
    return mister, _titled_lady(surname)


def _titled_lady(surname: str) -> Phrase:
    lady, english_lady = f"Frau {surname}", f"Mrs {surname}"
    return Phrase((lady, lady, lady), english_lady, english_lady, ER, german.FEM)


NAMES: tuple[Phrase, ...] = (
    *(_name(name, MASC) for name in ("Peter", "Thomas", "Paul", "Jonas", "Felix", "Lukas", "Max")),
    *(_name(name, german.FEM) for name in ("Anna", "Maria", "Lena", "Julia", "Sophie", "Clara", "Emma")),
    *(phrase for surname in ("Müller", "Schmidt", "Weber", "Wagner", "Becker") for phrase in _titled(surname)),
)

ENGLISH_DETERMINERS = {
    "der": ("the ", "the "),
    "dieser": ("this ", "these "),
    "jeder": ("every ", ""),
    "welcher": ("which ", "which "),
    "mein": ("my ", "my "),
    "dein": ("your ", "your "),
    "sein": ("his ", "his "),
    "ihr": ("her ", "her "),
    "ihr+": ("their ", "their "),
    "unser": ("our ", "our "),
    "euer": ("your ", "your "),
    "viele": ("", "many "),
    "einige": ("", "several "),
    "zwei": ("", "two "),
    "drei": ("", "three "),
    "vier": ("", "four "),
    "fünf": ("", "five "),
    "sechs": ("", "six "),
    "": ("", ""),
}


_INDEFINITE = frozenset(("", "ein", "viele", "einige", "zwei", "drei", "vier", "fünf", "sechs"))


def build(noun: Noun, determiner: str, plural: bool = False, adjective: tuple[str, str] | None = None) -> Phrase:
    """Return a noun phrase with its article or possessive and the adjective agreeing with it.

    Args:
        noun: The noun.
        determiner: One of german.ARTICLES, empty for none, or "ihr+" for the possessive of several owners.
        plural: Whether the phrase is plural; "ein" then drops.
        adjective: German and English adjective.
    """
    negative = determiner == "kein"
    if plural and determiner == "ein":
        determiner = ""
    column = PLURAL if plural else noun.gender
    key = "ihr" if determiner == "ihr+" else determiner
    nouns = noun.german[plural]
    articles = ARTICLES[key][column] if key else ("", "", "")
    gap = " " if key else ""
    english_noun = noun.english[plural]
    if adjective:
        stem, endings = get_adjective_stem(adjective[0]), DECLENSIONS[key][column]
        english_noun = f"{adjective[1]} {english_noun}"
        forms = (
            f"{articles[0]}{gap}{stem}{endings[0]} {nouns[0]}",
            f"{articles[1]}{gap}{stem}{endings[1]} {nouns[1]}",
            f"{articles[2]}{gap}{stem}{endings[2]} {nouns[2]}",
        )
    else:
        forms = (f"{articles[0]}{gap}{nouns[0]}", f"{articles[1]}{gap}{nouns[1]}", f"{articles[2]}{gap}{nouns[2]}")
    if negative:
        text = f"any {english_noun}" if plural or noun.is_a("u") else add_indefinite(english_noun)
    elif determiner == "ein":
        text = add_indefinite(english_noun)
    else:
        text = ENGLISH_DETERMINERS[determiner][plural] + english_noun
    return Phrase(forms, text, text, SIE_PLURAL if plural else ER, column, noun, False, negative, key in _INDEFINITE)


def build_genitive(noun: Noun, determiner: str, plural: bool = False, adjective: tuple[str, str] | None = None) -> str:
    """Return the genitive of a phrase that has an article."""
    column = PLURAL if plural else noun.gender
    words = [ARTICLES[determiner][column][german.GEN]]
    if adjective:
        words.append(get_adjective_stem(adjective[0]) + DECLENSIONS[determiner][column][german.GEN])
    return " ".join([*words, noun.german[plural][german.GEN]])


_PLAIN = ("der",) * 7 + ("ein",) * 5 + ("dieser",) * 2
_OWNED = (*_PLAIN, "mein", "mein", "dein", "sein", "unser")
_RELATED = ("mein",) * 5 + ("dein",) * 2 + ("sein",) * 2 + ("unser",) * 2 + ("euer",)
_UNCOUNTED = ("der",) * 2 + ("",) * 3


def _choices(noun: Noun) -> tuple[str, ...]:
    if noun.is_a("k"):
        return _RELATED
    if noun.is_a("u"):
        return _UNCOUNTED
    return _OWNED if noun.is_a("p") else _PLAIN


DETERMINERS_OF = {noun: _choices(noun) for noun in NOUNS.values()}


_COUNTED = ("viele", "einige", "einige", "zwei", "zwei", "drei", "drei", "vier", "fünf", "sechs", "ein")
_POSSESSIVES = frozenset(("mein", "dein", "sein", "unser", "euer"))


def draw_phrase(draw: Draw, nouns: Sequence[Noun], kein: bool = False, new: bool = False) -> Phrase:
    """Return a random phrase with one of the nouns.

    Args:
        draw: The source of randomness.
        nouns: The nouns to choose from.
        kein: Whether to use the negative article where the noun allows it.
        new: Whether the thing is only about to become somebody's, so that a possessive would be odd.
    """
    noun = nouns[int(draw() * len(nouns))]
    determiner = pick(draw, DETERMINERS_OF[noun])
    plural = draw() < 0.2 and not noun.is_a("u") and not noun.is_a("single")
    if kein and not noun.is_a("k"):
        determiner = "kein"
    elif determiner == "ein" and plural:
        determiner = "einige" if noun.is_a("person") else pick(draw, _COUNTED)
    elif new and determiner in _POSSESSIVES:
        determiner = "der"
    adjective = None
    if noun.adjectives and draw() < (0.15 if noun.is_a("k") else 0.4):
        adjective = pick(draw, noun.adjectives)
    return build(noun, determiner, plural, adjective)


def draw_definite(draw: Draw, nouns: Sequence[Noun], adjectives: float = 0.3, plurals: float = 0.0) -> Phrase:
    """Return a phrase that both languages treat as known: a relative with a possessive, the rest with an article."""
    noun = nouns[int(draw() * len(nouns))]
    determiner = pick(draw, ("mein", "unser", "dein")) if noun.is_a("k") else "der"
    adjective = pick(draw, noun.adjectives) if noun.adjectives and draw() < adjectives else None
    return build(noun, determiner, draw() < plurals and not noun.is_a("u") and not noun.is_a("single"), adjective)


def draw_subject(draw: Draw, nouns: Sequence[Noun], pronouns: float = 0.25) -> Phrase:
    """Return a subject; persons may also be named or be a pronoun."""
    chance = draw()
    if nouns[0].is_a("person"):
        if chance < pronouns and len(nouns) > 20:
            return pick(draw, SUBJECT_PRONOUNS)
        if chance < pronouns + 0.2 and len(nouns) > 20:
            return pick(draw, NAMES)
    phrase = draw_phrase(draw, nouns)
    # A bare plural as the subject would be a statement about the whole kind.
    while phrase.indefinite and phrase.person == SIE_PLURAL:
        phrase = draw_phrase(draw, nouns)
    return phrase


# Pronouns remember their noun so that nobody helps himself: "der Arzt ..., weil er dem Arzt hilft".
_HE_WHO, _SHE_WHO, _THEY_WHO = (
    {noun: replace(pronoun, noun=noun) for noun in NOUNS.values()} for pronoun in (HE, SHE, THEY)
)


def get_pronoun(phrase: Phrase) -> Phrase:
    """Return the pronoun that takes up a phrase: German by grammatical gender, English by sex or as a thing."""
    if phrase.pronoun:
        return phrase
    if phrase.person == SIE_PLURAL:
        return THEY if phrase.noun is None else _THEY_WHO[phrase.noun]
    noun = phrase.noun
    if noun is None:
        return HE if phrase.gender == MASC else SHE
    if noun.is_a("person"):
        return _HE_WHO[noun] if phrase.gender == MASC else _SHE_WHO[noun]
    return IT_BY_GENDER[phrase.gender]
