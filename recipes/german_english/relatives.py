"""Templates of relative clauses: the pronoun in every case and after prepositions."""

from __future__ import annotations

from .adverbials import PLACES
from .clauses import PRESENT, Clause, Event, be
from .events import PERSON_VERBS, draw_definite_subject, draw_event, draw_gap
from .german import ACC, DAT, FEM, GEN, NOM, RELATIVE
from .notation import Draw, Pair, say, template, words
from .nouns import PEOPLE, Noun, select
from .phrases import I_PRONOUN, NAMES, Phrase, build, pick
from .subordinates import DYNAMIC
from .tenses import put_in_time
from .verbs import DATIVE, PREPOSITIONAL, TRANSITIVE, Verb, make_verbs

(_KNOWN,) = make_verbs("kennen | kennt kannte gekannt | know,knew,known | t", "clause")
# Adjectives that sehr does not go with.
ABSOLUTE = frozenset(words("rot blau grün gelb schwarz weiß braun modern bunt"))
_PEOPLE_OBJECT = tuple(
    v for v in TRANSITIVE if v in PERSON_VERBS and v.themes[0].is_a("person") and v.en.base != "know"
)
THING_OBJECT = tuple(
    v
    for v in TRANSITIVE
    if v in PERSON_VERBS and not any(n.is_a("person") for n in v.themes) and v.themes[0].adjectives
)


def _wrap(draw: Draw, head: Phrase, noun: Noun, relative: Pair) -> Pair:
    """Return a sentence about the head of a relative clause."""
    if draw() < 0.4 and noun.is_a("person"):
        knower = pick(draw, NAMES) if draw() < 0.5 else I_PRONOUN
        clause = Clause(Event(knower, _KNOWN), PRESENT, "simple")
        return say("{c.main} {head.acc}, {r} = {c.english} {head.object} {r}", c=clause, head=head, r=relative)
    finite = be(head, draw() < 0.3)
    adjective = pick(draw, [pair for pair in noun.adjectives if pair[0] not in ("arm", "klug")])
    very = ("sehr ", "very ") if draw() < 0.4 and adjective[0] not in ABSOLUTE else ("", "")
    text = "{head.nom}, {r}, {be} {very}{a} = {head.subject} {r} {be} {very}{a}"
    return say(text, head=head, r=relative, be=finite, very=very, a=adjective)


def _draw_head(draw: Draw, nouns: tuple[Noun, ...]) -> tuple[Phrase, Noun]:
    # Relatives carry a possessive, after which an English relative clause would need commas.
    noun = pick(draw, nouns)
    while noun.is_a("k") or len(noun.adjectives) < 2:
        noun = pick(draw, nouns)
    return build(noun, "der", draw() < 0.25 and not noun.is_a("u")), noun


@template(7)
def relative_subject(draw: Draw) -> Pair:
    """A relative clause whose pronoun is the subject."""
    head, noun = _draw_head(draw, PEOPLE)
    clause = put_in_time(draw, draw_event(draw, head, PERSON_VERBS, kein=0), "nnpppm", negate=0.05)
    pronoun = RELATIVE[head.gender][NOM]
    return _wrap(draw, head, noun, (clause.say_relative(pronoun), clause.say_english("who")))


def _draw_other(draw: Draw, verb: Verb, head: Phrase, noun: Noun, case: int, preposition: str = "") -> Pair:
    """Return a sentence with a relative clause that has a subject of its own."""
    subject = draw_definite_subject(draw, verb)
    while subject.noun is noun:
        subject = draw_definite_subject(draw, verb)
    clause = put_in_time(draw, draw_gap(draw, verb, subject), "nnppp", negate=0)
    pronoun = preposition + RELATIVE[head.gender][case], "whom" if noun.is_a("person") else "that"
    return _wrap(draw, head, noun, say("{pronoun} {c.final} = {pronoun} {c.english}", pronoun=pronoun, c=clause))


@template(8)
def relative_object(draw: Draw) -> Pair:
    """A relative clause whose pronoun is the direct object."""
    verb = pick(draw, _PEOPLE_OBJECT if draw() < 0.4 else THING_OBJECT)
    return _draw_other(draw, verb, *_draw_head(draw, verb.themes), ACC)


@template(4)
def relative_dative(draw: Draw) -> Pair:
    """A relative clause whose pronoun is in the dative."""
    verb = pick(draw, DATIVE)
    return _draw_other(draw, verb, *_draw_head(draw, PEOPLE), DAT)


_PLACES = tuple(place for place in PLACES.values() if place.noun.adjectives)
_DONE_THERE = tuple(v for v in DYNAMIC if v.frame == "intransitive" and v.tails[0] in ("out", "room", "work"))


@template(5)
def relative_preposition(draw: Draw) -> Pair:
    """A relative clause that starts with a preposition."""
    if draw() < 0.3:
        place = pick(draw, _PLACES)
        verb = pick(draw, _DONE_THERE)
        subject = draw_definite_subject(draw, verb)
        clause = put_in_time(draw, draw_gap(draw, verb, subject, False), "nnpp", negate=0)
        return say(
            "{head.nom}, {at} {who} {c.final}, ist {a} = {head.subject} {at} {who} {c.english} is {a}",
            head=build(place.noun, "der"),
            at=place.at,
            who=("der" if place.noun.gender == FEM else "dem", "which"),
            c=clause,
            a=pick(draw, place.noun.adjectives),
        )
    verb = pick(draw, PREPOSITIONAL)
    preposition, case = verb.tails[-2:]
    return _draw_other(draw, verb, *_draw_head(draw, verb.themes), ACC if case == "acc" else DAT, f"{preposition} ")


_BELONGINGS = tuple(noun for noun in select("k vehicle pet") if len(noun.adjectives) > 1)
_STRANGERS = tuple(noun for noun in PEOPLE if not noun.is_a("k"))


@template(3)
def relative_genitive(draw: Draw) -> Pair:
    """A relative clause with dessen or deren."""
    head, noun = _draw_head(draw, _STRANGERS)
    thing = pick(draw, _BELONGINGS)
    relative = say(
        "{link} {thing.lemma} {a} {be} = {link} {thing.english[0]} {be} {a}",
        link=(RELATIVE[head.gender][GEN], "whose"),
        thing=thing,
        a=pick(draw, [pair for pair in thing.adjectives if pair[0] != "arm"]),
        be=("war", "was") if draw() < 0.2 else ("ist", "is"),
    )
    return _wrap(draw, head, noun, relative)
