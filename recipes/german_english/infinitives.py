"""Templates of infinitive clauses, and of main clauses side by side."""

from __future__ import annotations

from .clauses import (
    PAST,
    PERFECT,
    PRESENT,
    Clause,
    Event,
    Tense,
    say_english,
    say_english_infinitive,
    say_main,
    say_question,
    say_zu,
)
from .events import PERSON_VERBS, draw_definite_subject, draw_event, draw_gap
from .german import ACC
from .nouns import parse_adjectives
from .phrases import (
    SUBJECT_PRONOUNS,
    Draw,
    Phrase,
    draw_definite,
    pick,
)
from .relatives import THING_OBJECT
from .subordinates import CHOSEN, WEATHER, Pair, draw_person, make_mind
from .tenses import put_in_time

_CONTROL = (
    (make_mind("versuchen", "", "try", ""), ("progressive", "past")),
    (make_mind("hoffen", "", "hope", ""), ("simple", "past")),
    (make_mind("versprechen", "verspricht versprach versprochen", "promise", ""), ("past", "past")),
    (make_mind("vergessen", "vergisst vergaß vergessen", "forget,forgot,forgotten", ""), ("past", "past")),
    (make_mind("vor+haben", "hat hatte gehabt", "intend", ""), ("simple", "past")),
    (make_mind("planen", "", "plan", ""), ("progressive", "past")),
    (make_mind("an+fangen", "fängt fing gefangen", "start", ""), ("progressive", "past")),
)
_CONTROL_TENSE = {"past": PAST, "simple": PRESENT, "progressive": PRESENT}


_APPRAISALS = parse_adjectives("schwierig difficult,wichtig important,leicht easy,gut good,möglich possible")


def zu_infinitive(draw: Draw) -> Pair:
    """An infinitive clause with zu, after a verb, an adjective or a request to somebody."""
    subject = draw_person(draw)
    inner = Clause(draw_event(draw, subject, CHOSEN, kein=0), PRESENT, "simple")
    inner_de, inner_en = say_zu(inner), say_english_infinitive(inner)
    chance = draw()
    if chance < 0.2:
        adjective = pick(draw, _APPRAISALS)
        inner = Clause(draw_event(draw, SUBJECT_PRONOUNS[5], _PLAIN, kein=0), PRESENT, "simple")
        return f"es ist {adjective[0]}, {say_zu(inner)}", f"it is {adjective[1]} to {say_english_infinitive(inner)}"
    verb, forms = pick(draw, _CONTROL)
    form = pick(draw, forms)
    outer = Clause(Event(subject, verb), _get_outer_tense(form, subject), form)
    return f"{say_main(outer)}, {inner_de}", f"{say_english(outer)} to {inner_en}"


def _get_outer_tense(form: str, subject: Phrase) -> Tense:
    return PERFECT if form == "past" and subject.person in (0, 1, 3, 4) else _CONTROL_TENSE[form]


_PLAIN = tuple(verb for verb in CHOSEN if "refl" not in verb.tails)
_ERRANDS = tuple(verb for verb in CHOSEN if verb.frame in ("transitive", "dative", "ditransitive"))
_OUTINGS = tuple(verb for verb in PERSON_VERBS if verb.frame == "movement")


def purpose(draw: Draw) -> Pair:
    """An infinitive clause with um or ohne."""
    subject = draw_person(draw)
    if draw() < 0.75:
        outer = put_in_time(draw, draw_event(draw, subject, _OUTINGS), "nnpppfm", negate=0)
        inner = Clause(draw_event(draw, subject, _ERRANDS, kein=0, tails=0), PRESENT, "simple")
        return (
            f"{say_main(outer)}, um {say_zu(inner)}",
            f"{say_english(outer)} in order to {say_english_infinitive(inner)}",
        )
    outer = put_in_time(draw, draw_event(draw, subject, _OUTINGS), "ppp", negate=0)
    inner = Clause(draw_event(draw, subject, _ERRANDS, kein=0, tails=0), PRESENT, "simple")
    verb = inner.event.verb
    return (
        f"{say_main(outer)}, ohne {say_zu(inner)}",
        f"{say_english(outer)} without {verb.en.ing}{inner.event.english}",
    )


_CORRECTED = tuple(verb for verb in THING_OBJECT if not verb.punctual)


def coordination(draw: Draw) -> Pair | None:
    """Two main clauses with und, aber, denn or deshalb, or two objects with nicht and sondern."""
    chance = draw()
    first = put_in_time(draw, draw_event(draw, pronouns=0.1), "np", negate=0.1)
    if chance < 0.55:
        second = put_in_time(
            draw, draw_event(draw, pronouns=0.1), "n" if first.form == "progressive" else "p", negate=0.1
        )
        first.time = second.time = None
        if first.tense is not second.tense and first.form == "past" and not first.event.verb.stative:
            first.tense = second.tense = PERFECT
        if first.event.subject.subject == second.event.subject.subject or first.form != second.form:
            return None
        word, word_en = (", aber", ", but") if draw() < 0.6 else (" und", " and")
        return f"{say_main(first)}{word} {say_main(second)}", f"{say_english(first)}{word_en} {say_english(second)}"
    if chance < 0.8:
        weather = pick(draw, WEATHER[:2])
        result = put_in_time(draw, draw_event(draw, draw_person(draw), CHOSEN, kein=0), "n", negate=0.1)
        result.time = None
        return f"{weather[0][1]}, deshalb {say_question(result)}", f"{weather[1]}, so {say_english(result)}"
    verb = pick(draw, _CORRECTED)
    subject = draw_definite_subject(draw, verb)
    one, two = draw_definite(draw, verb.themes), draw_definite(draw, verb.themes)
    if one.noun is two.noun:
        return None
    event = draw_gap(draw, verb, subject, False)
    event.accusative, event.english = f" nicht {one.german[ACC]}", f"{verb.particle} {one.object}"
    clause = Clause(event, PRESENT, "simple" if verb.stative else "progressive")
    german_part = say_main(clause)
    clause.negated = True
    return f"{german_part}, sondern {two.german[ACC]}", f"{say_english(clause)} but {two.object}"


TEMPLATES = (
    ("zu_infinitive", zu_infinitive, 8),
    ("purpose", purpose, 6),
    ("coordination", coordination, 8),
)
