"""The verbs, each with its frame: the subjects, objects and adverbials that it takes."""

from __future__ import annotations

from dataclasses import dataclass

from . import english, german
from .notation import Pair, pairs, read_table, rows
from .nouns import Noun, make_noun, select


@dataclass(frozen=True, eq=False)
class Verb:
    """A verb of both languages in one of its senses.

    Attributes:
        particle: The English words that always follow the verb, with a leading space.
        splits: Whether an English pronoun object stands between the verb and the particle (turn it on).
        stative: Whether the English present is never progressive and the verb takes no point in time (flag ``t``).
        ongoing: Whether the English present is progressive although the verb is stative (flag ``g``).
        punctual: Whether the event takes an instant, so that only conditions use the present (flag ``p``).
        accidental: Whether the event happens to people against their will (flag ``a``).
        agents: The nouns that can be the subject.
        frame: The table that the verb comes from, which decides how its objects are said.
        themes: The nouns that can be the object.
        tails: The kinds of adverbial that the verb takes.
    """

    de: german.GermanVerb
    en: english.EnglishVerb
    particle: str
    splits: bool
    stative: bool
    ongoing: bool
    punctual: bool
    accidental: bool
    agents: tuple[Noun, ...]
    frame: str
    themes: tuple[Noun, ...]
    tails: tuple[str, ...]


def make_verb(
    verb: str, parts: str, english_part: str, flags: str, agents: str, frame: str, themes: str = "", tails: str = ""
) -> Verb:
    """Return a verb from the fields of a table line."""
    head, _, particle = english_part.partition(" ")
    stative, ongoing, punctual, accidental = (flag in flags for flag in "tgpa")
    return Verb(
        german.conjugate(verb, parts, "s" in flags),
        english.conjugate(*head.split(",")),
        " " + particle.removeprefix("~") if particle else "",
        particle.startswith("~"),
        stative,
        ongoing,
        punctual,
        accidental,
        select(agents),
        frame,
        select(themes),
        tuple(tails.split()),
    )


def make_verbs(table: str, frame: str = "transitive") -> tuple[Verb, ...]:
    """Return verbs whose subject is a person from lines of German, irregular parts, English and, perhaps, flags."""
    return tuple(
        make_verb(verb, parts, english_part, "".join(flags), "person", frame)
        for verb, parts, english_part, *flags in rows(table)
    )


def _read(frame: str, has_themes: bool = True) -> tuple[Verb, ...]:
    parsed = []
    for verb, parts, english_part, flags, agents, *rest in read_table(frame):
        themes, tails = rest if has_themes else ("", *rest)
        parsed.append(make_verb(verb, parts, english_part, flags, agents, frame, themes, tails))
    return tuple(parsed)


INTRANSITIVE = _read("intransitive", has_themes=False)
TRANSITIVE = _read("transitive")
DATIVE = _read("dative")
DITRANSITIVE = _read("ditransitive")
PREPOSITIONAL = _read("prepositional")
MOVEMENT = _read("movement", has_themes=False)
PLACEMENT = _read("placement")
POSITION = _read("position", has_themes=False)


@dataclass(frozen=True)
class Sense:
    """One meaning of a word and the context that decides for it.

    Attributes:
        verb: The verb.
        noun: The noun in this meaning.
        preposition: The preposition between verb and noun; empty if the noun is the direct object.
        case: The case of the noun.
        link: The English preposition with a space after it.
        objects: Direct objects to choose from where the noun follows a preposition.
        tails: Adverbials that go with this meaning.
    """

    verb: Verb
    noun: Noun
    preposition: str
    case: int
    link: str
    objects: tuple[Pair, ...]
    tails: tuple[Pair, ...]


def _read_sense(fields: list[str]) -> Sense:
    verb, parts, english_part, flags, noun, noun_en, described, how, tails = fields
    head, _, objects = how.partition(",")
    preposition, case, link = "", german.ACC, ""
    if head != "acc":
        preposition, case_name, *english_words = head.split()
        case, link = german.ACC if case_name == "acc" else german.DAT, "".join(f"{word} " for word in english_words)
    return Sense(
        make_verb(verb, parts, english_part, flags, "person", "sense"),
        make_noun(noun, noun_en, described),
        preposition,
        case,
        link,
        pairs(objects, ","),
        pairs(tails),
    )


SENSES = tuple(_read_sense(fields) for fields in read_table("ambiguous"))
