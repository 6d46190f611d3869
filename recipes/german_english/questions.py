"""Templates of questions: yes or no, for the subject and objects, for place, time and reason."""

from __future__ import annotations

from .clauses import (
    PERFECT,
    PRESENT,
    Clause,
    Event,
    ask_english,
    say_english,
    say_main,
    say_question,
)
from .events import PERSON_VERBS, draw_definite_subject, draw_event, draw_gap
from .german import ACC
from .mains import ADDRESSEES, PERSON_OBJECT, THING_OBJECT
from .phrases import (
    ER,
    Draw,
    Phrase,
    draw_definite,
    draw_subject,
    pick,
)
from .tenses import put_in_time
from .verbs import DATIVE, DITRANSITIVE, INTRANSITIVE, MOVEMENT, PLACEMENT, POSITION, PREPOSITIONAL, Verb

Pair = tuple[str, str]
_WHO = Phrase(("wer", "wen", "wem"), "who", "who", ER, 9, pronoun=True)


def yes_no(draw: Draw) -> Pair:
    """A question to be answered with yes or no."""
    addressed = draw() < 0.5
    event = draw_event(draw, pick(draw, ADDRESSEES), PERSON_VERBS) if addressed else draw_event(draw)
    clause = put_in_time(draw, event, "nnnpppfmmh", negate=0.08)
    return say_question(clause) + "?", ask_english(clause) + "?"


def who(draw: Draw) -> Pair:
    """A question for the subject."""
    clause = put_in_time(draw, draw_event(draw, _WHO, PERSON_VERBS, kein=0), "nnpppfmw", negate=0)
    return say_main(clause) + "?", say_english(clause) + "?"


def _ask(draw: Draw, words: Pair, event: Event, kinds: str, negate: float = 0.0) -> Pair:
    clause = put_in_time(draw, event, kinds, negate)
    return f"{words[0]} {say_question(clause)}?", f"{words[1]} {ask_english(clause)}?"


_PERSONAL = frozenset(PERSON_VERBS)


def _draw_asked(draw: Draw, verb: Verb) -> Phrase:
    return pick(draw, ADDRESSEES) if draw() < 0.25 and verb in _PERSONAL else draw_subject(draw, verb.agents, 0.15)


def whom(draw: Draw) -> Pair:
    """A question for the object: a person, a thing, the one concerned or what follows a preposition."""
    chance = draw()
    if chance < 0.3:
        verb, words = pick(draw, PERSON_OBJECT), ("wen", "who")
    elif chance < 0.6:
        verb, words = pick(draw, THING_OBJECT), ("was", "what")
    elif chance < 0.8:
        verb, words = pick(draw, DATIVE), ("wem", "who")
    else:
        verb = pick(draw, PREPOSITIONAL)
        preposition = verb.tails[-2]
        if verb.themes[0].is_a("person"):
            words = (f"{preposition} {'wen' if verb.tails[-1] == 'acc' else 'wem'}", "who")
        else:
            words = (f"wo{'r' if preposition[0] in 'aeuiüo' else ''}{preposition}", "what")
    return _ask(draw, words, draw_gap(draw, verb, _draw_asked(draw, verb)), "nnpppfmw")


_GIVEN_TO = tuple(v for v in DITRANSITIVE if v.en.base not in ("buy", "promise"))


def to_whom(draw: Draw) -> Pair:
    """A question for the recipient of something."""
    verb = pick(draw, _GIVEN_TO)
    gift = draw_definite(draw, verb.themes, 0.3, 0.2)
    event = Event(_draw_asked(draw, verb), verb, accusative=f" {gift.german[ACC]}", english=f" {gift.object} to")
    return _ask(draw, ("wem", "who"), event, "nnppp")


_WHERE_VERBS = tuple(v for v in INTRANSITIVE if v in PERSON_VERBS and v.tails[0] in ("out", "room", "work", "friends"))


def where(draw: Draw) -> Pair:
    """A question for the place, where something is or where it goes."""
    chance = draw()
    if chance < 0.4:
        verb = pick(draw, _WHERE_VERBS + POSITION)
        return _ask(
            draw, ("wo", "where"), draw_gap(draw, verb, draw_definite_subject(draw, verb), tail=False), "nnppph"
        )
    if chance < 0.7:
        verb = pick(draw, MOVEMENT[:-1])
        kinds = "nnpppfmw"
        return _ask(draw, ("wohin", "where"), draw_gap(draw, verb, _draw_asked(draw, verb), tail=False), kinds)
    verb = pick(draw, PLACEMENT)
    event = draw_gap(draw, verb, _draw_asked(draw, verb), tail=False)
    phrase = draw_definite(draw, verb.themes, 0.3, 0.2)
    event.accusative, event.english = f" {phrase.german[ACC]}", f" {phrase.object}"
    return _ask(draw, ("wohin", "where"), event, "nnppm")


def when_why(draw: Draw) -> Pair:
    """A question for the time or the reason."""
    verb = pick(draw, PERSON_VERBS)
    event = draw_event(draw, _draw_asked(draw, verb), (verb,), kein=0)
    if draw() < 0.6 and verb.de.infinitive not in ("ankommen", "aufwachen", "einschlafen"):
        return _ask(draw, ("warum", "why"), event, "nnppph", negate=0.2)
    if verb.stative or verb.de.infinitive == "begegnen" or event.tail_kind == "early":
        return when_why(draw)
    past = draw() < 0.5
    clause = Clause(event, PERFECT if past else PRESENT, "past" if past else "will")
    return f"wann {say_question(clause)}?", f"when {ask_english(clause)}?"


TEMPLATES = (
    ("yes_no", yes_no, 9),
    ("who", who, 4),
    ("whom", whom, 5),
    ("to_whom", to_whom, 2),
    ("where", where, 4),
    ("when_why", when_why, 6),
)
