"""Events: verbs with a subject, objects and adverbials that make sense together."""

from __future__ import annotations

from .adverbials import draw_tail
from .clauses import Event
from .german import ACC, DAT
from .notation import Draw, words
from .nouns import PEOPLE, Noun
from .phrases import (
    DU,
    ICH,
    IHR,
    OBJECT_PRONOUNS,
    REFLEXIVE,
    WIR,
    Phrase,
    draw_definite,
    draw_phrase,
    draw_subject,
    pick,
)
from .verbs import DATIVE, DITRANSITIVE, INTRANSITIVE, MOVEMENT, PLACEMENT, POSITION, PREPOSITIONAL, TRANSITIVE, Verb

_TABLES = (
    (INTRANSITIVE, 5),
    (TRANSITIVE, 6),
    (DATIVE, 7),
    (DITRANSITIVE, 8),
    (PREPOSITIONAL, 6),
    (MOVEMENT, 10),
    (PLACEMENT, 12),
    (POSITION, 7),
)
ALL_VERBS: tuple[Verb, ...] = tuple(verb for table, weight in _TABLES for verb in table for _ in range(weight))


# The verbs that anybody can be the subject of.
PERSON_VERBS = tuple(verb for verb in ALL_VERBS if sum(noun.is_a("person") for noun in verb.agents) > 20)
_CASES = {"acc": ACC, "dat": DAT}
PLACE_KINDS = frozenset(words("out room shop read find eat home work wait sit on"))
_ACQUIRING = frozenset(
    words("ausleihen kaufen verkaufen bestellen schenken versprechen backen fangen bauen haben brauchen")
)
_LACKING = frozenset(words("lesen schreiben kaufen essen trinken tragen finden brauchen haben bestellen malen"))
_GROUPS = {ICH: 1, WIR: 1, DU: 2, IHR: 2}


def _differs(one: Phrase, other: Phrase) -> bool:
    """Return whether two phrases can mean different people: not ich and uns, not he and him."""
    if one.noun is not None and one.noun is other.noun:
        return False
    if one.pronoun and other.pronoun:
        return _GROUPS.get(one.person, 3 + one.gender) != _GROUPS.get(other.person, 3 + other.gender)
    return one.german != other.german


def _draw_object(
    draw: Draw, subject: Phrase, themes: tuple[Noun, ...], kein: bool = False, new: bool = False
) -> Phrase:
    while True:
        phrase = draw_phrase(draw, themes, kein, new)
        if _differs(phrase, subject):
            return phrase


def _draw_person(draw: Draw, subject: Phrase, themes: tuple[Noun, ...], pronouns: float = 0.3) -> Phrase:
    """Return somebody other than the subject, sometimes as a pronoun."""
    while True:
        if themes[0].is_a("person") and draw() < pronouns:
            phrase = pick(draw, OBJECT_PRONOUNS)
        else:
            phrase = draw_definite(draw, themes, 0.25, 0.2) if draw() < 0.6 else draw_phrase(draw, themes)
        if _differs(phrase, subject):
            return phrase


def _add_accusative(draw: Draw, event: Event, kein: bool) -> Noun | None:
    verb = event.verb
    if verb.themes[0].is_a("person") and not kein:
        phrase = _draw_person(draw, event.subject, verb.themes)
    else:
        phrase = _draw_object(draw, event.subject, verb.themes, kein, verb.de.infinitive in _ACQUIRING)
    event.negative, event.indefinite = phrase.negative, phrase.indefinite
    if phrase.pronoun:
        event.pronouns = f" {phrase.acc}"
        event.english = f" {phrase.object}{verb.particle}" if verb.splits else f"{verb.particle} {phrase.object}"
    else:
        event.accusative = f" {phrase.acc}"
        event.english = f"{verb.particle} {phrase.object}"
    return phrase.noun


def _add_person(draw: Draw, event: Event, people: tuple[Noun, ...]) -> Phrase:
    phrase = _draw_person(draw, event.subject, people)
    if phrase.pronoun:
        event.pronouns = f" {phrase.dat}"
    else:
        event.dative = f" {phrase.dat}"
    event.indefinite = phrase.indefinite
    return phrase


def _add_both(draw: Draw, event: Event) -> None:
    verb = event.verb
    recipient = _add_person(draw, event, PEOPLE)
    gift = draw_phrase(draw, verb.themes, False, verb.de.infinitive in _ACQUIRING)
    event.indefinite |= gift.indefinite
    event.accusative = f" {gift.acc}"
    first, second = (gift.object, f"to {recipient.object}") if "to" in verb.tails else (recipient.object, gift.object)
    event.english = f" {first} {second}"


def _add_prepositional(draw: Draw, event: Event) -> None:
    verb = event.verb
    *flags, preposition, case = verb.tails
    if "refl" in flags:
        event.pronouns = f" {REFLEXIVE[event.subject.person]}"
    if verb.themes[0].is_a("person"):
        phrase = _draw_person(draw, event.subject, verb.themes, 0.2)
    else:
        phrase = _draw_object(draw, event.subject, verb.themes)
    event.indefinite = phrase.indefinite
    event.tail = f" {preposition} {phrase.german[_CASES[case]]}"
    event.english = f"{verb.particle} {phrase.object}"


def _add_tail(draw: Draw, event: Event, theme: Noun | None, chance: float) -> None:
    kinds = event.verb.tails
    if not kinds:
        return
    if kinds[0] == "refl":
        event.pronouns, kinds = f" {REFLEXIVE[event.subject.person]}", kinds[1:]
    if draw() >= chance or kinds[0] == "to":
        return
    kind = pick(draw, kinds)
    drawn = "in_city" if kind == "city" and chance < 1 else kind
    german_part, english_part = draw_tail(draw, drawn, event.subject, theme)
    event.tail, event.tail_kind = f" {german_part}", "place" if kind in PLACE_KINDS else kind
    event.english += f" {english_part}"


def draw_event(
    draw: Draw,
    subject: Phrase | None = None,
    verbs: tuple[Verb, ...] = ALL_VERBS,
    kein: float = 0.25,
    pronouns: float = 0.25,
    tails: float = 1,
) -> Event:
    """Return a random event.

    Args:
        draw: The source of randomness.
        subject: A subject that suits all the verbs; drawn at random by default.
        verbs: The verbs to choose from.
        kein: The chance that an object has the negative article.
        pronouns: The chance that a person as the subject is a pronoun.
        tails: A factor on the chance of optional adverbials.
    """
    verb = verbs[int(draw() * len(verbs))]
    event = Event(draw_subject(draw, verb.agents, pronouns) if subject is None else subject, verb)
    frame = verb.frame
    if frame == "transitive":
        none = draw() < kein and verb.de.infinitive in _LACKING and not event.subject.indefinite
        theme = _add_accusative(draw, event, none)
        _add_tail(draw, event, theme, 0.3 * tails)
    elif frame == "dative":
        event.english = f"{verb.particle} {_add_person(draw, event, verb.themes).object}"
        _add_tail(draw, event, None, 0.3 * tails)
    elif frame == "ditransitive":
        _add_both(draw, event)
        _add_tail(draw, event, None, 0.4 * tails)
    elif frame == "prepositional":
        _add_prepositional(draw, event)
    elif frame == "placement":
        theme = _add_accusative(draw, event, False)
        _add_tail(draw, event, theme, 1)
    else:
        event.english = verb.particle
        _add_tail(draw, event, None, 0.65 * tails if frame == "intransitive" else 1)
    return event


def draw_gap(draw: Draw, verb: Verb, subject: Phrase, tail: bool = True) -> Event:
    """Return an event without its object, for a question or a relative clause about the object."""
    event = Event(subject, verb, english=verb.particle)
    if "refl" in verb.tails:
        event.pronouns = f" {REFLEXIVE[subject.person]}"
    if tail and verb.frame in ("transitive", "dative"):
        _add_tail(draw, event, None, 0.3)
    return event


def act_on(subject: Phrase, verb: Verb, thing: Phrase) -> Event:
    """Return the event of a subject, a verb and its direct object."""
    return Event(subject, verb, accusative=f" {thing.acc}", english=f"{verb.particle} {thing.object}")


def draw_definite_subject(draw: Draw, verb: Verb) -> Phrase:
    """Return a definite subject."""
    while True:
        subject = draw_subject(draw, verb.agents)
        if not subject.indefinite:
            return subject
