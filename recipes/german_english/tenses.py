"""Points in time, and the tense of either language that goes with them."""

from __future__ import annotations

from . import english, german
from .adverbials import draw_clock, draw_date
from .clauses import FUTURE, MODALS, PAST, PAST_MODALS, PERFECT, PRESENT, Clause, Event, Time
from .notation import Draw, pairs, words
from .phrases import DU, IHR, pick

_HABITUAL = frozenset(
    words(
        "lesen essen trinken arbeiten kochen singen tanzen schwimmen besuchen treffen anrufen helfen füttern "
        "streicheln putzen aufräumen spielen aufstehen fernsehen einkaufen frühstücken telefonieren gehen zuhören "
        "laufen gießen backen waschen aufwachen schlafen zeichnen kümmern abholen lachen vorlesen ausruhen bellen"
    )
)


_INVOLUNTARY = frozenset(("aufwachen", "einschlafen", "ankommen", "begegnen", "träumen"))


def _times(text: str, middle: bool = False) -> tuple[Time, ...]:
    return tuple(Time(*pair, middle) for pair in pairs(text))


_NOW = _times("gerade = at the moment; jetzt = now; heute = today; gerade = at the moment")
_HABIT = _times(
    "jeden Tag = every day; jeden Morgen = every morning; jeden Abend = every evening; jede Woche = every week; "
    "am Wochenende = at the weekend; montags = on Mondays; freitags = on Fridays; sonntags = on Sundays"
) + _times("oft = often; immer = always; manchmal = sometimes; selten = rarely; meistens = usually", True)
_FUTURE = _times(
    "morgen = tomorrow; morgen = tomorrow; morgen früh = tomorrow morning; bald = soon; nächste Woche = next week; "
    "nächsten Monat = next month; heute Abend = this evening; übermorgen = the day after tomorrow; "
    "morgen Abend = tomorrow evening; nächsten Samstag = next Saturday"
)
_PAST = _times(
    "gestern = yesterday; gestern = yesterday; vorgestern = the day before yesterday; letzte Woche = last week; "
    "gestern Abend = yesterday evening; letzten Monat = last month; letztes Jahr = last year; "
    "heute Morgen = this morning; im Sommer = in the summer; letzten Sonntag = last Sunday"
)
_DAYS = _times(
    "am Montag = on Monday; am Dienstag = on Tuesday; am Mittwoch = on Wednesday; am Donnerstag = on Thursday; "
    "am Freitag = on Friday; am Samstag = on Saturday; am Sonntag = on Sunday"
)
_UNITS = (("Tagen", "days", 12), ("Wochen", "weeks", 6), ("Monaten", "months", 9), ("Stunden", "hours", 5))


def _draw_span(draw: Draw, past: bool) -> Time:
    unit_de, unit_en, most = pick(draw, _UNITS)
    number = 2 + int(draw() * (most - 1))
    count = english.spell_cardinal(number)
    after = f"{count} {unit_en} ago" if past else f"in {count} {unit_en}"
    return Time(f"{'vor' if past else 'in'} {german.spell_cardinal(number)} {unit_de}", after)


def _draw_point(draw: Draw, past: bool, timed: bool) -> Time:
    chance = draw()
    if chance < 0.5:
        return pick(draw, _PAST if past else _FUTURE)
    if chance < 0.65:
        return pick(draw, _DAYS)
    if chance < 0.8:
        return _draw_span(draw, past)
    if chance < 0.9 or timed:
        return Time(*draw_date(draw))
    return Time(*draw_clock(draw))


def _is_agent(event: Event) -> bool:
    """Return whether the subject does something rather than lie or stand somewhere."""
    return event.verb.frame != "position" or event.verb.agents[0].is_a("person")


def _draw_kind(draw: Draw, event: Event, kinds: str) -> str:
    verb = event.verb
    kind = pick(draw, kinds)
    if verb.accidental:
        return "p"
    if not _is_agent(event):
        return "p" if kind in "pw" else "n"
    if (kind == "n" and verb.punctual) or (kind == "h" and verb.de.infinitive not in _HABITUAL):
        kind = "p"
    if kind in "mw" and verb.de.infinitive in _INVOLUNTARY:
        kind = "p"
    if kind in "hf" and event.negative:
        kind = "p"
    return kind


def _draw_past(draw: Draw, event: Event) -> Clause:
    time = _draw_point(draw, True, event.tail_kind == "early") if draw() < 0.6 else None
    # German hardly uses the simple past of du and ihr.
    simple = draw() < 0.25 and event.subject.person not in (DU, IHR)
    return Clause(event, PAST if simple else PERFECT, "past", time)


def _draw_future(draw: Draw, event: Event) -> Clause:
    present = draw() < 0.55
    time = _draw_point(draw, False, event.tail_kind == "early") if present or draw() < 0.5 else None
    return Clause(event, PRESENT if present else FUTURE, "will", time)


def _put_stative(draw: Draw, event: Event, kinds: str) -> Clause:
    past = "p" in kinds and draw() < 0.35 and event.subject.person not in (DU, IHR)
    present = "progressive" if event.verb.ongoing else "simple"
    return Clause(event, PAST if past else PRESENT, "past" if past else present)


def put_in_time(draw: Draw, event: Event, kinds: str = "nnppphfmmw", negate: float = 0.12) -> Clause:
    """Return a clause with the event in a random tense that suits its verb.

    Args:
        draw: The source of randomness.
        event: The event.
        kinds: The initials of now, past, habit, future, modal and (w) past modal; repeated ones are more likely.
        negate: The chance of a negation where the objects allow nicht.
    """
    if event.verb.stative:
        clause = _put_stative(draw, event, kinds)
        negatable = True
    else:
        kind = _draw_kind(draw, event, kinds)
        negatable = kind in "npmw"
        if kind == "n":
            timed = event.tail_kind == "early" or not _is_agent(event) or draw() < 0.6
            clause = Clause(event, PRESENT, "progressive", None if timed else pick(draw, _NOW))
        elif kind == "p":
            clause = _draw_past(draw, event)
        elif kind == "f":
            clause = _draw_future(draw, event)
        elif kind == "h":
            clause = Clause(event, PRESENT, "simple", pick(draw, _HABIT))
        else:
            tense = pick(draw, MODALS if kind == "m" else PAST_MODALS)
            time = _draw_point(draw, kind == "w", event.tail_kind == "early") if draw() < 0.3 else None
            clause = Clause(event, tense, tense.form, time)
            # A negated wish is said with wollen in both languages.
            negatable = tense is not MODALS[-1]
    if negatable and negate and draw() < negate:
        clause.negated = not (event.negative or event.indefinite or event.subject.indefinite)
    return clause
