"""Templates of relative clauses: the pronoun in every case and after prepositions."""

from __future__ import annotations

from . import german
from .adverbials import PLACES
from .clauses import (
    PRESENT,
    Clause,
    Event,
    say_english,
    say_final,
    say_main,
)
from .events import PERSON_VERBS, draw_definite_subject, draw_event, draw_gap
from .german import ACC, DAT, GEN, NOM, RELATIVE
from .nouns import NOUNS, Noun
from .phrases import (
    NAMES,
    SIE_PLURAL,
    SUBJECT_PRONOUNS,
    Draw,
    Phrase,
    build,
    pick,
)
from .subordinates import DYNAMIC, PEOPLE, Pair, make_mind
from .tenses import put_in_time
from .verbs import DATIVE, PREPOSITIONAL, TRANSITIVE, Verb

_KNOWN = make_mind("kennen", "kennt kannte gekannt", "know,knew,known")
_COLOURS = frozenset(["rot", "blau", "grün", "gelb", "schwarz", "weiß", "braun", "modern", "bunt"])
_PEOPLE_OBJECT = tuple(
    v for v in TRANSITIVE if v in PERSON_VERBS and v.themes[0].is_a("person") and v.en.base != "know"
)
THING_OBJECT = tuple(
    v
    for v in TRANSITIVE
    if v in PERSON_VERBS and not any(n.is_a("person") for n in v.themes) and v.themes[0].adjectives
)


def _wrap(draw: Draw, head: Phrase, noun: Noun, relative: Pair) -> Pair:
    """Put a relative clause into a sentence about its head."""
    plural = head.person == SIE_PLURAL
    if draw() < 0.4 and noun.is_a("person"):
        knower = pick(draw, NAMES) if draw() < 0.5 else SUBJECT_PRONOUNS[0]
        clause = Clause(Event(knower, _KNOWN), PRESENT, "simple")
        return (
            f"{say_main(clause)} {head.german[ACC]}, {relative[0]}",
            f"{say_english(clause)} {head.object} {relative[1]}",
        )
    past = draw() < 0.3
    adjectives = [pair for pair in noun.adjectives if pair[0] not in ("arm", "klug")]
    adjective = pick(draw, adjectives)
    very, very_en = ("sehr ", "very ") if draw() < 0.4 and adjective[0] not in _COLOURS else ("", "")
    finite = (("war", "waren") if past else ("ist", "sind"))[plural]
    finite_en = (("was", "were") if past else ("is", "are"))[plural]
    german_part = f"{head.german[NOM]}, {relative[0]}, {finite} {very}{adjective[0]}"
    return german_part, f"{head.subject} {relative[1]} {finite_en} {very_en}{adjective[1]}"


def _draw_head(draw: Draw, nouns: tuple[Noun, ...]) -> tuple[Phrase, Noun]:
    # Relatives carry a possessive, after which an English relative clause would need commas.
    noun = pick(draw, nouns)
    while noun.is_a("k") or len(noun.adjectives) < 2:
        noun = pick(draw, nouns)
    return build(noun, "der", draw() < 0.25 and not noun.is_a("u")), noun


def relative_subject(draw: Draw) -> Pair:
    """A relative clause whose pronoun is the subject."""
    head, noun = _draw_head(draw, PEOPLE)
    clause = put_in_time(draw, draw_event(draw, head, PERSON_VERBS, kein=0), "nnpppm", negate=0.05)
    german_part = say_final(clause, RELATIVE[head.gender][NOM])
    return _wrap(draw, head, noun, (german_part, say_english(clause, subject="who")))


def _say_gap(draw: Draw, verb: Verb, noun: Noun, first: str, first_en: str) -> Pair:
    subject = draw_definite_subject(draw, verb)
    while subject.noun is noun:
        subject = draw_definite_subject(draw, verb)
    clause = put_in_time(draw, draw_gap(draw, verb, subject), "nnppp", negate=0)
    return f"{first} {say_final(clause)}", f"{first_en} {say_english(clause)}"


def relative_object(draw: Draw) -> Pair:
    """A relative clause whose pronoun is the direct object."""
    verb = pick(draw, _PEOPLE_OBJECT if draw() < 0.4 else THING_OBJECT)
    head, noun = _draw_head(draw, verb.themes)
    link = "whom" if noun.is_a("person") else "that"
    return _wrap(draw, head, noun, _say_gap(draw, verb, noun, RELATIVE[head.gender][ACC], link))


def relative_dative(draw: Draw) -> Pair:
    """A relative clause whose pronoun is in the dative."""
    verb = pick(draw, DATIVE)
    head, noun = _draw_head(draw, PEOPLE)
    return _wrap(draw, head, noun, _say_gap(draw, verb, noun, RELATIVE[head.gender][DAT], "whom"))


_PLACES = tuple(place for place in PLACES.values() if place.noun.adjectives)
_DONE_THERE = tuple(v for v in DYNAMIC if v.frame == "intransitive" and v.tails[0] in ("out", "room", "work"))


def relative_preposition(draw: Draw) -> Pair:
    """A relative clause that starts with a preposition."""
    if draw() < 0.3:
        place = pick(draw, _PLACES)
        head = build(place.noun, "der")
        verb = pick(draw, _DONE_THERE)
        subject = draw_definite_subject(draw, verb)
        clause = put_in_time(draw, draw_gap(draw, verb, subject, False), "nnpp", negate=0)
        first, first_en = f"{place.at[0]} {'dem' if head.gender != german.FEM else 'der'}", f"{place.at[1]} which"
        relative = f"{first} {say_final(clause)}", f"{first_en} {say_english(clause)}"
        adjective = pick(draw, place.noun.adjectives)
        return (
            f"{head.german[0]}, {relative[0]}, ist {adjective[0]}",
            f"{head.subject} {relative[1]} is {adjective[1]}",
        )
    verb = pick(draw, PREPOSITIONAL)
    head, noun = _draw_head(draw, verb.themes)
    case = ACC if verb.tails[-1] == "acc" else DAT
    link = "whom" if noun.is_a("person") else "that"
    return _wrap(draw, head, noun, _say_gap(draw, verb, noun, f"{verb.tails[-2]} {RELATIVE[head.gender][case]}", link))


_BELONGINGS = tuple(noun for noun in NOUNS.values() if noun.is_a("k") or noun.is_a("vehicle") or noun.is_a("pet"))


def relative_genitive(draw: Draw) -> Pair:
    """A relative clause with dessen or deren."""
    head, noun = _draw_head(draw, tuple(noun for noun in PEOPLE if not noun.is_a("k")))
    thing = pick(draw, [noun for noun in _BELONGINGS if len(noun.adjectives) > 1])
    thing_adjective = pick(draw, [pair for pair in thing.adjectives if pair[0] != "arm"])
    past = draw() < 0.2
    link = RELATIVE[head.gender][GEN]
    german_part = f"{link} {thing.lemma} {thing_adjective[0]} {'war' if past else 'ist'}"
    return _wrap(
        draw, head, noun, (german_part, f"whose {thing.english[0]} {'was' if past else 'is'} {thing_adjective[1]}")
    )


TEMPLATES = (
    ("relative_subject", relative_subject, 7),
    ("relative_object", relative_object, 8),
    ("relative_dative", relative_dative, 4),
    ("relative_preposition", relative_preposition, 5),
    ("relative_genitive", relative_genitive, 3),
)
