"""Templates of one clause: word order, requests, the passive, questions."""

from __future__ import annotations

from .clauses import MODALS, PERFECT, PRESENT, WERDEN, Clause, Event, Time, be
from .events import ALL_VERBS, PERSON_VERBS, PLACE_KINDS, draw_definite_subject, draw_event, draw_gap
from .german import contract
from .notation import Draw, Pair, say, template, words
from .phrases import (
    DU,
    ER,
    IHR,
    SIE_PLURAL,
    YOU,
    YOU_FORMAL,
    YOU_PLURAL,
    Phrase,
    draw_definite,
    draw_subject,
    pick,
)
from .tenses import put_in_time
from .verbs import DATIVE, DITRANSITIVE, INTRANSITIVE, MOVEMENT, PLACEMENT, POSITION, PREPOSITIONAL, TRANSITIVE, Verb

_SHOWS_CASE = frozenset(words("den diesen jeden meinen deinen seinen unseren euren keinen einen"))
ADDRESSEES = (YOU, YOU, YOU_FORMAL, YOU_FORMAL, YOU_PLURAL)
PERSON_OBJECT = tuple(v for v in TRANSITIVE if v in PERSON_VERBS and v.themes[0].is_a("person"))
THING_OBJECT = tuple(v for v in TRANSITIVE if v in PERSON_VERBS and not any(n.is_a("person") for n in v.themes))


@template(24)
def main(draw: Draw) -> Pair:
    """Subject first, any tense."""
    return put_in_time(draw, draw_event(draw)).both


@template(20)
def time_first(draw: Draw) -> Pair | None:
    """A point in time first, so that the subject follows the verb."""
    clause = put_in_time(draw, draw_event(draw), "pphffmwwh")
    if clause.time is None or clause.time.middle or clause.time.german in ("gerade", "bald"):
        return None
    return clause.time_first


_PLACED = tuple(verb for verb in ALL_VERBS if verb.frame != "placement" and PLACE_KINDS.intersection(verb.tails))


@template(9)
def place_first(draw: Draw) -> Pair | None:
    """A place first."""
    event = draw_event(draw, verbs=_PLACED, pronouns=0.15, tails=3)
    if event.tail_kind != "place" or (event.subject.indefinite and event.negative):
        return None
    clause = put_in_time(draw, event, "nnppfhm", negate=0)
    if clause.time and event.subject.indefinite:
        return None
    return clause.begin_with("tail"), clause.english


@template(22)
def object_first(draw: Draw) -> Pair | None:
    """The object first, in a form that only an object can have."""
    verbs = PERSON_OBJECT if draw() < 0.5 else THING_OBJECT
    event = draw_event(draw, verbs=verbs, kein=0, pronouns=0.1)
    if not event.accusative or event.accusative.split()[0] not in _SHOWS_CASE or event.subject.indefinite:
        return None
    clause = put_in_time(draw, event, "nnpppfmw")
    return clause.begin_with("accusative"), clause.english


@template(11)
def dative_first(draw: Draw) -> Pair | None:
    """The indirect object first."""
    event = draw_event(draw, verbs=DATIVE + DITRANSITIVE, pronouns=0.15)
    if not event.dative or event.indefinite or event.subject.indefinite:
        return None
    clause = put_in_time(draw, event, "nnpppfmw")
    return clause.begin_with("dative"), clause.english


def build_imperative(verb: Verb, person: int) -> str:
    """Return the imperative for du, ihr or Sie without the separable prefix.

    The imperative keeps a change of e to i (lies, gib) but not the umlaut of other verbs (fahr).
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


@template(6)
def request(draw: Draw) -> Pair | None:
    """A request or, with nicht, a prohibition."""
    addressee = pick(draw, ADDRESSEES)
    event = draw_event(draw, addressee, _REQUESTED, kein=0)
    if "sein" in event.accusative[:6] or event.verb.de.infinitive in ("aufwachen", "ankommen", "einschlafen"):
        return None
    clause = Clause(event, PRESENT, "simple", None, not event.indefinite and draw() < 0.15)
    please, head = ("", "do not ") if clause.negated else (" bitte", "please ") if draw() < 0.5 else ("", "")
    negation = " nicht" if clause.negated else ""
    verb = build_imperative(event.verb, addressee.person)
    close = f" {event.verb.de.prefix}".rstrip()
    german = f"{verb}{event.pronouns}{please}{event.dative}{event.accusative}{negation}{event.tail}{close}!"
    return german, f"{head}{clause.bare}!"


_NO_PASSIVE = frozenset(words("tragen treffen anziehen ausziehen mitbringen sehen aufessen verlieren"))
_PASSIVE = tuple(
    v
    for v in TRANSITIVE
    if not v.stative and v.de.infinitive not in _NO_PASSIVE and (v.splits or not v.particle) and v.en.base != "bring"
)
_WURDE = words("wurde wurdest wurde wurden wurdet wurden")


@template(6)
def passive(draw: Draw) -> Pair:
    """The passive, with or without the agent."""
    verb = pick(draw, _PASSIVE)
    theme = draw_definite(draw, verb.themes, 0.35, 0.25)
    doer = draw_definite(draw, verb.agents)
    while doer.noun is theme.noun:
        doer = draw_definite(draw, verb.agents)
    agent = (f" {contract('von', doer.dat)}", f" by {doer.object}") if draw() < 0.5 else ("", "")
    done = verb.de.participle, verb.en.participle + verb.particle
    chance = draw()
    if chance < 0.3 and not verb.punctual:
        finite, text = (
            (WERDEN[theme.person], be(theme)[1]),
            "{theme.nom} {be}{by} {done} = {theme.subject} {be} being {done}{by}",
        )
    elif chance < 0.7:
        finite, text = (
            (_WURDE[theme.person], be(theme, True)[1]),
            "{theme.nom} {be}{by} {done} = {theme.subject} {be} {done}{by}",
        )
    elif chance < 0.85:
        finite = be(theme)[0], "have" if theme.many else "has"
        text = "{theme.nom} {be} schon{by} {done} worden = {theme.subject} {be} already been {done}{by}"
    else:
        modal = MODALS[int(draw() * 2)]
        assert modal.finite is not None
        finite = modal.finite[theme.person], "can" if modal is MODALS[0] else "have to" if theme.many else "has to"
        text = "{theme.nom} {be}{by} {done} werden = {theme.subject} {be} be {done}{by}"
    return say(text, theme=theme, be=finite, by=agent, done=done)


_DONE = tuple(v for v in PERSON_VERBS if not v.stative and v.frame in ("transitive", "ditransitive"))


@template(6)
def already(draw: Draw) -> Pair | None:
    """The perfect with schon or noch nicht, which English says with its own perfect."""
    event = draw_event(draw, verbs=_DONE, kein=0, pronouns=0.4)
    if event.tail or event.subject.indefinite or event.indefinite:
        return None
    clause = Clause(event, PERFECT, "perfect")
    event.tail = " schon"
    if draw() < 0.3:
        return say("{c.question}? = {c.asked} yet?", c=clause) if event.subject.person in (DU, IHR) else None
    if draw() < 0.5:
        return clause.main, Clause(event, PERFECT, "perfect", Time("", "already", True)).english
    event.tail = " noch nicht"
    return clause.main, Clause(event, PERFECT, "perfect", negated=True).english + " yet"


_WHO = Phrase(("wer", "wen", "wem"), "who", "who", ER, 9, pronoun=True)


@template(9)
def yes_no(draw: Draw) -> Pair:
    """A question to be answered with yes or no."""
    addressed = draw() < 0.5
    event = draw_event(draw, pick(draw, ADDRESSEES), PERSON_VERBS) if addressed else draw_event(draw)
    return say("{c.question}? = {c.asked}?", c=put_in_time(draw, event, "nnnpppfmmh", negate=0.08))


@template(4)
def who(draw: Draw) -> Pair:
    """A question for the subject."""
    event = draw_event(draw, _WHO, PERSON_VERBS, kein=0)
    return say("{c.main}? = {c.english}?", c=put_in_time(draw, event, "nnpppfmw", negate=0))


def _ask(draw: Draw, word: Pair, event: Event, kinds: str, negate: float = 0.0) -> Pair:
    return say("{word} {c.question}? = {word} {c.asked}?", word=word, c=put_in_time(draw, event, kinds, negate))


_PERSONAL = frozenset(PERSON_VERBS)


def _draw_asked(draw: Draw, verb: Verb) -> Phrase:
    return pick(draw, ADDRESSEES) if draw() < 0.25 and verb in _PERSONAL else draw_subject(draw, verb.agents, 0.15)


@template(5)
def whom(draw: Draw) -> Pair:
    """A question for the object: a person, a thing, in the dative or after a preposition."""
    chance = draw()
    if chance < 0.3:
        verb, word = pick(draw, PERSON_OBJECT), ("wen", "who")
    elif chance < 0.6:
        verb, word = pick(draw, THING_OBJECT), ("was", "what")
    elif chance < 0.8:
        verb, word = pick(draw, DATIVE), ("wem", "who")
    else:
        verb = pick(draw, PREPOSITIONAL)
        preposition, case = verb.tails[-2:]
        if verb.themes[0].is_a("person"):
            word = f"{preposition} {'wen' if case == 'acc' else 'wem'}", "who"
        else:
            word = f"wo{'r' if preposition[0] in 'aeuiüo' else ''}{preposition}", "what"
    return _ask(draw, word, draw_gap(draw, verb, _draw_asked(draw, verb)), "nnpppfmw")


_GIVEN_TO = tuple(v for v in DITRANSITIVE if v.en.base not in ("buy", "promise"))


@template(2)
def to_whom(draw: Draw) -> Pair:
    """A question for the recipient of something."""
    verb = pick(draw, _GIVEN_TO)
    gift = draw_definite(draw, verb.themes, 0.3, 0.2)
    event = Event(_draw_asked(draw, verb), verb, accusative=f" {gift.acc}", english=f" {gift.object} to")
    return _ask(draw, ("wem", "who"), event, "nnppp")


_WHERE_VERBS = tuple(v for v in INTRANSITIVE if v in PERSON_VERBS and v.tails[0] in ("out", "room", "work", "friends"))


@template(4)
def where(draw: Draw) -> Pair:
    """A question for a place or a direction."""
    chance = draw()
    if chance < 0.4:
        verb = pick(draw, _WHERE_VERBS + POSITION)
        event = draw_gap(draw, verb, draw_definite_subject(draw, verb), tail=False)
        return _ask(draw, ("wo", "where"), event, "nnppph")
    verb = pick(draw, MOVEMENT[:-1] if chance < 0.7 else PLACEMENT)
    event = draw_gap(draw, verb, _draw_asked(draw, verb), tail=False)
    if chance < 0.7:
        return _ask(draw, ("wohin", "where"), event, "nnpppfmw")
    phrase = draw_definite(draw, verb.themes, 0.3, 0.2)
    event.accusative, event.english = f" {phrase.acc}", f" {phrase.object}"
    return _ask(draw, ("wohin", "where"), event, "nnppm")


@template(6)
def when_why(draw: Draw) -> Pair:
    """A question for the time or the reason."""
    verb = pick(draw, PERSON_VERBS)
    event = draw_event(draw, _draw_asked(draw, verb), (verb,), kein=0)
    if draw() < 0.6 and verb.de.infinitive not in ("ankommen", "aufwachen", "einschlafen"):
        return _ask(draw, ("warum", "why"), event, "nnppph", negate=0.2)
    if verb.stative or verb.de.infinitive == "begegnen" or event.tail_kind == "early":
        return when_why(draw)
    clause = Clause(event, PERFECT, "past") if draw() < 0.5 else Clause(event, PRESENT, "will")
    return say("wann {c.question}? = when {c.asked}?", c=clause)
