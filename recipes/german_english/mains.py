"""Templates of one clause: word order, questions, requests, the passive."""

from __future__ import annotations

from .clauses import (
    MODALS,
    PERFECT,
    PRESENT,
    Clause,
    Time,
    ask_english,
    say_english,
    say_english_infinitive,
    say_main,
    say_question,
)
from .events import ALL_VERBS, PERSON_VERBS, PLACE_KINDS, draw_event
from .german import DAT, contract
from .phrases import (
    DU,
    IHR,
    SIE_PLURAL,
    YOU,
    YOU_FORMAL,
    YOU_PLURAL,
    Draw,
    draw_definite,
    pick,
)
from .tenses import put_in_time
from .verbs import DATIVE, DITRANSITIVE, TRANSITIVE, Verb

Pair = tuple[str, str]
_SHOWS_CASE = frozenset(
    ["den", "diesen", "jeden", "meinen", "deinen", "seinen", "unseren", "euren", "keinen", "einen"]
)
ADDRESSEES = (YOU, YOU, YOU_FORMAL, YOU_FORMAL, YOU_PLURAL)
PERSON_OBJECT = tuple(v for v in TRANSITIVE if v in PERSON_VERBS and v.themes[0].is_a("person"))
THING_OBJECT = tuple(v for v in TRANSITIVE if v in PERSON_VERBS and not any(n.is_a("person") for n in v.themes))


def main(draw: Draw) -> Pair:
    """Subject first, any tense."""
    clause = put_in_time(draw, draw_event(draw))
    return say_main(clause), say_english(clause)


def time_first(draw: Draw) -> Pair | None:
    """A point in time first, so that the subject follows the verb."""
    clause = put_in_time(draw, draw_event(draw), "pphffmwwh")
    if clause.time is None or clause.time.middle or clause.time.german in ("gerade", "bald"):
        return None
    return say_main(clause, "time"), say_english(clause, front_time=True)


_PLACED = tuple(verb for verb in ALL_VERBS if verb.frame != "placement" and PLACE_KINDS.intersection(verb.tails))


def place_first(draw: Draw) -> Pair | None:
    """A place first."""
    event = draw_event(draw, verbs=_PLACED, pronouns=0.15, tails=3)
    if event.tail_kind != "place" or (event.subject.indefinite and event.negative):
        return None
    clause = put_in_time(draw, event, "nnppfhm", negate=0)
    if clause.time and event.subject.indefinite:
        return None
    return say_main(clause, "tail"), say_english(clause)


def object_first(draw: Draw) -> Pair | None:
    """The object first, in a form that only an object can have."""
    verbs = PERSON_OBJECT if draw() < 0.5 else THING_OBJECT
    event = draw_event(draw, verbs=verbs, kein=0, pronouns=0.1)
    if not event.accusative or event.accusative.split()[0] not in _SHOWS_CASE or event.subject.indefinite:
        return None
    clause = put_in_time(draw, event, "nnpppfmw")
    return say_main(clause, "accusative"), say_english(clause)


def dative_first(draw: Draw) -> Pair | None:
    """The person concerned first."""
    event = draw_event(draw, verbs=DATIVE + DITRANSITIVE, pronouns=0.15)
    if not event.dative or event.indefinite or event.subject.indefinite:
        return None
    clause = put_in_time(draw, event, "nnpppfmw")
    return say_main(clause, "dative"), say_english(clause)


def build_imperative(verb: Verb, person: int) -> str:
    """Return the imperative for du, ihr or Sie without the separable prefix.

    Only a change of e to i stays in the imperative (lies, gib), the umlaut of other verbs does not (fahr).
    """
    present = verb.de.present
    if person != DU:
        return present[IHR] if person == IHR else f"{present[SIE_PLURAL]} Sie"
    infinitive, third = present[3], present[2]
    stem = infinitive[:-2] if infinitive.endswith("en") else infinitive[:-1]
    if not third.startswith(stem) and "i" in third and "e" in stem and "ä" not in third:
        return third[:-1]
    if third == stem + "et" or infinitive.endswith(("eln", "ern", "ieren")):
        return present[0]
    return stem


_REQUESTED = tuple(v for v in PERSON_VERBS if not v.stative and not v.punctual and v.frame != "position")


def request(draw: Draw) -> Pair | None:
    """A request or, with nicht, a prohibition."""
    addressee = pick(draw, ADDRESSEES)
    event = draw_event(draw, addressee, _REQUESTED, kein=0)
    if "sein" in event.accusative[:6] or event.verb.de.infinitive in ("aufwachen", "ankommen", "einschlafen"):
        return None
    clause = Clause(event, PRESENT, "simple", None, not event.indefinite and draw() < 0.15)
    polite = not clause.negated and draw() < 0.5
    verb, person = event.verb, addressee.person
    pronouns = event.pronouns
    middle = f"{pronouns}{' bitte' if polite else ''}{event.dative}{event.accusative}"
    middle += f"{' nicht' if clause.negated else ''}{event.tail}"
    prefix = f" {verb.de.prefix}" if verb.de.prefix else ""
    head = "please " if polite else "do not " if clause.negated else ""
    return f"{build_imperative(verb, person)}{middle}{prefix}!", f"{head}{say_english_infinitive(clause)}!"


_NO_PASSIVE = frozenset(["tragen", "treffen", "anziehen", "ausziehen", "mitbringen", "sehen", "aufessen", "verlieren"])
_PASSIVE = tuple(
    v
    for v in TRANSITIVE
    if not v.stative and v.de.infinitive not in _NO_PASSIVE and (v.splits or not v.particle) and v.en.base != "bring"
)
_WIRD = ("werde", "wirst", "wird", "werden", "werdet", "werden")
_WURDE = ("wurde", "wurdest", "wurde", "wurden", "wurdet", "wurden")


def passive(draw: Draw) -> Pair:
    """What is done to something, with or without the doer."""
    verb = pick(draw, _PASSIVE)
    theme = draw_definite(draw, verb.themes, 0.35, 0.25)
    doer = draw_definite(draw, verb.agents)
    while doer.noun is theme.noun:
        doer = draw_definite(draw, verb.agents)
    by = draw() < 0.5
    agent = f" {contract('von', doer.german[DAT])}" if by else ""
    agent_en = f" by {doer.object}" if by else ""
    done = verb.en.participle + verb.particle
    subject, plural, person = theme.german[0], theme.person == SIE_PLURAL, theme.person
    chance = draw()
    if chance < 0.3 and not verb.punctual:
        english = f"{theme.subject} {'are' if plural else 'is'} being {done}{agent_en}"
        return f"{subject} {_WIRD[person]}{agent} {verb.de.participle}", english
    if chance < 0.7:
        english = f"{theme.subject} {'were' if plural else 'was'} {done}{agent_en}"
        return f"{subject} {_WURDE[person]}{agent} {verb.de.participle}", english
    if chance < 0.85:
        german = f"{subject} {'sind' if plural else 'ist'} schon{agent} {verb.de.participle} worden"
        return german, f"{theme.subject} {'have' if plural else 'has'} already been {done}{agent_en}"
    modal = MODALS[int(draw() * 2)]
    assert modal.finite is not None
    must = modal is MODALS[1]
    link = ("have to" if plural else "has to") if must else "can"
    german = f"{subject} {modal.finite[person]}{agent} {verb.de.participle} werden"
    return german, f"{theme.subject} {link} be {done}{agent_en}"


_DONE = tuple(v for v in PERSON_VERBS if not v.stative and v.frame in ("transitive", "ditransitive"))


def already(draw: Draw) -> Pair | None:
    """The perfect with schon or noch nicht, which English says with its own perfect."""
    event = draw_event(draw, verbs=_DONE, kein=0, pronouns=0.4)
    if event.tail or event.subject.indefinite or event.indefinite:
        return None
    clause = Clause(event, PERFECT, "perfect")
    if draw() < 0.3:
        if event.subject.person not in (DU, IHR):
            return None
        event.tail = " schon"
        return say_question(clause) + "?", ask_english(clause) + " yet?"
    if draw() < 0.5:
        event.tail = " schon"
        german = say_main(clause)
        clause.time = Time("", "already", True)
        return german, say_english(clause)
    event.tail = " noch nicht"
    german = say_main(clause)
    clause.negated = True
    return german, say_english(clause) + " yet"


TEMPLATES = (
    ("main", main, 24),
    ("time_first", time_first, 20),
    ("place_first", place_first, 9),
    ("object_first", object_first, 22),
    ("dative_first", dative_first, 11),
    ("request", request, 6),
    ("passive", passive, 6),
    ("already", already, 6),
)
