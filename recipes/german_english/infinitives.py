"""Templates of infinitive clauses, and of main clauses side by side."""

from __future__ import annotations

from .clauses import PAST, PERFECT, PRESENT, Clause, Event, Tense
from .events import PERSON_VERBS, draw_definite_subject, draw_event, draw_gap
from .notation import Draw, Pair, say, template
from .phrases import DU, ICH, IHR, SUBJECT_PRONOUNS, WIR, Phrase, choose, draw_definite, pick
from .relatives import THING_OBJECT
from .subordinates import CHOSEN, WEATHER, draw_person
from .tenses import put_in_time
from .verbs import make_verbs

_CONTROL = tuple(
    zip(
        make_verbs(
            """
versuchen | | try
hoffen | | hope
versprechen | verspricht versprach versprochen | promise
vergessen | vergisst vergaß vergessen | forget,forgot,forgotten
vor+haben | hat hatte gehabt | intend
planen | | plan
an+fangen | fängt fing gefangen | start
""",
            "clause",
        ),
        ("progressive", "simple", "past", "past", "simple", "progressive", "progressive"),
        strict=True,
    )
)
_APPRAISALS = "schwierig = difficult; wichtig = important; leicht = easy; gut = good; möglich = possible"
_PLAIN = tuple(verb for verb in CHOSEN if "refl" not in verb.tails)
_ERRANDS = tuple(verb for verb in CHOSEN if verb.frame in ("transitive", "dative", "ditransitive"))
_OUTINGS = tuple(verb for verb in PERSON_VERBS if verb.frame == "movement")
_CORRECTED = tuple(verb for verb in THING_OBJECT if not verb.punctual)


def _get_outer_tense(form: str, subject: Phrase) -> Tense:
    if form == "past":
        return PERFECT if subject.person in (ICH, DU, WIR, IHR) else PAST
    return PRESENT


@template(8)
def zu_infinitive(draw: Draw) -> Pair:
    """An infinitive clause with zu, after a verb or an adjective."""
    subject = draw_person(draw)
    inner = Clause(draw_event(draw, subject, CHOSEN, kein=0), PRESENT, "simple")
    if draw() < 0.2:
        adjective = choose(draw, _APPRAISALS)
        inner = Clause(draw_event(draw, SUBJECT_PRONOUNS[5], _PLAIN, kein=0), PRESENT, "simple")
        return say("es ist {a}, {inner.zu} = it is {a} to {inner.bare}", a=adjective, inner=inner)
    verb, present = pick(draw, _CONTROL)
    form = pick(draw, (present, "past"))
    outer = Clause(Event(subject, verb), _get_outer_tense(form, subject), form)
    return say("{outer.main}, {inner.zu} = {outer.english} to {inner.bare}", outer=outer, inner=inner)


@template(6)
def purpose(draw: Draw) -> Pair:
    """An infinitive clause with um or ohne."""
    subject = draw_person(draw)
    wanted = draw() < 0.75
    outer = put_in_time(draw, draw_event(draw, subject, _OUTINGS), "nnpppfm" if wanted else "ppp", negate=0)
    inner = Clause(draw_event(draw, subject, _ERRANDS, kein=0, tails=0), PRESENT, "simple")
    if wanted:
        text = "{outer.main}, um {inner.zu} = {outer.english} in order to {inner.bare}"
    else:
        text = "{outer.main}, ohne {inner.zu} = {outer.english} without {event.verb.en.ing}{event.english}"
    return say(text, outer=outer, inner=inner, event=inner.event)


def _correct(draw: Draw) -> Pair | None:
    verb = pick(draw, _CORRECTED)
    subject = draw_definite_subject(draw, verb)
    one, two = draw_definite(draw, verb.themes), draw_definite(draw, verb.themes)
    if one.noun is two.noun:
        return None
    event = draw_gap(draw, verb, subject, False)
    event.accusative, event.english = f" nicht {one.acc}", f"{verb.particle} {one.object}"
    clause = Clause(event, PRESENT, "simple" if verb.stative else "progressive")
    german = clause.main
    clause.negated = True
    return f"{german}, sondern {two.acc}", f"{clause.english} but {two.object}"


@template(8)
def coordination(draw: Draw) -> Pair | None:
    """Two main clauses with und, aber or deshalb, or two objects with nicht and sondern."""
    chance = draw()
    first = put_in_time(draw, draw_event(draw, pronouns=0.1), "np", negate=0.1)
    if chance < 0.55:
        kind = "n" if first.form == "progressive" else "p"
        second = put_in_time(draw, draw_event(draw, pronouns=0.1), kind, negate=0.1)
        first.time = second.time = None
        if first.tense is not second.tense and first.form == "past" and not first.event.verb.stative:
            first.tense = second.tense = PERFECT
        if first.event.subject.subject == second.event.subject.subject or first.form != second.form:
            return None
        word = (", aber", ", but") if draw() < 0.6 else (" und", " and")
        return say("{a.main}{word} {b.main} = {a.english}{word} {b.english}", a=first, word=word, b=second)
    if chance < 0.8:
        weather = pick(draw, WEATHER[:2])[:2]
        result = put_in_time(draw, draw_event(draw, draw_person(draw), CHOSEN, kein=0), "n", negate=0.1)
        result.time = None
        return say("{weather}, deshalb {c.question} = {weather}, so {c.english}", weather=weather, c=result)
    return _correct(draw)
