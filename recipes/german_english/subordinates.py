"""Templates of two clauses: subordinate clauses of statement, question, reason, condition and time."""

from __future__ import annotations

import dataclasses

from .clauses import CONDITIONAL, FUTURE, MODALS, PAST, PLUPERFECT, PRESENT, Clause, Event, be
from .events import PERSON_VERBS, draw_definite_subject, draw_event
from .notation import Draw, Pair, adjectives, say, template, words
from .nouns import ADULTS, PEOPLE
from .phrases import NAMES, SUBJECT_PRONOUNS, Phrase, choose, draw_definite, get_pronoun, pick
from .tenses import put_in_time
from .verbs import DATIVE, Verb, make_verbs

STATES = adjectives("müde tired,krank ill,hungrig hungry,traurig sad,glücklich happy,durstig thirsty,nervös nervous")
_HARDSHIPS = tuple(state for state in STATES if state[0] != "glücklich")
# German with the verb at the end, English progressive, English simple.
WEATHER = (
    ("es regnet", "it is raining", "it rains"),
    ("es schneit", "it is snowing", "it snows"),
    ("das Wetter schön ist", "the weather is nice", "the weather is nice"),
    ("es kalt ist", "it is cold", "it is cold"),
    ("es sehr heiß ist", "it is very hot", "it is very hot"),
)
DYNAMIC = tuple(verb for verb in PERSON_VERBS if not verb.stative and not verb.accidental)
CHOSEN = tuple(verb for verb in DYNAMIC if not verb.punctual and verb.frame != "position")
_SAY = make_verbs(
    """
wissen | weiß wusste gewusst | know,knew,known | t
glauben | | believe | t
sagen | | say,said | t
denken | denkt dachte gedacht | think,thought | t
hoffen | | hope | t
behaupten | | claim | t
fragen | | ask | t
""",
    "clause",
)
_KNOW = dataclasses.replace(
    _SAY[0], de=dataclasses.replace(_SAY[0].de, present=words("weiß weißt weiß wissen wisst wissen"))
)
_SAY, _ASK = (_KNOW, *_SAY[1:-1]), _SAY[-1]
_IMPERSONAL = "schön = nice; schade = a pity; klar = clear; möglich = possible; gut = good; wahr = true"


def draw_person(draw: Draw) -> Phrase:
    """Return an adult, a name or a pronoun, any of which a pronoun can refer to without doubt."""
    chance = draw()
    if chance < 0.4:
        return pick(draw, SUBJECT_PRONOUNS if chance < 0.2 else NAMES)
    return draw_definite(draw, ADULTS, 0.25, 0.15)


def _draw_head(draw: Draw, verb: Verb, negated: bool = False) -> Pair:
    return Clause(Event(draw_person(draw), verb), PRESENT, "simple", None, negated).both


@template(10)
def that(draw: Draw) -> Pair:
    """A clause with dass."""
    clause = put_in_time(draw, draw_event(draw), "nnpppphfmw")
    chance = draw()
    if chance < 0.15:
        return say("es ist {a}, dass {c.final} = it is {a} that {c.english}", a=choose(draw, _IMPERSONAL), c=clause)
    if chance < 0.25 and clause.form == "past" and not clause.event.subject.pronoun:
        return say("ich habe gehört, dass {c.final} = I heard that {c.english}", c=clause)
    # Nobody hopes or claims that somebody has to or may do something.
    head = _draw_head(draw, pick(draw, _SAY if clause.tense not in MODALS else _SAY[:4]))
    return say("{head}, dass {c.final} = {head} that {c.english}", head=head, c=clause)


@template(7)
def whether(draw: Draw) -> Pair:
    """An indirect question, with ob or with a question word."""
    subject = draw_definite_subject(draw, DATIVE[0])
    clause = put_in_time(draw, draw_event(draw, subject, PERSON_VERBS, kein=0), "nppf", negate=0)
    word = ("ob", "whether") if draw() < 0.7 else ("warum", "why")
    if draw() < 0.5:
        head = _draw_head(draw, _ASK)
    elif draw() < 0.4:
        head = choose(draw, "ich möchte wissen = I would like to know; niemand weiß = nobody knows")
    else:
        head = _draw_head(draw, _KNOW, negated=True)
    return say("{head}, {word} {c.final} = {head} {word} {c.english}", head=head, word=word, c=clause)


def _draw_state(draw: Draw, subject: Phrase, past: bool, states: tuple[Pair, ...] = STATES) -> Pair:
    """Return the state that somebody is in, in German with the verb at the end."""
    state = pick(draw, states)
    very = (" sehr", " very") if draw() < 0.3 else ("", "")
    it = get_pronoun(subject)
    return say(
        "{it.nom}{very} {a} {be} = {it.subject} {be}{very} {a}", it=it, very=very, a=state, be=be(subject, past)
    )


def _draw_reason(draw: Draw, subject: Phrase, clause: Clause) -> Pair:
    chance = draw()
    past = clause.form == "past"
    if chance < 0.4:
        return _draw_state(draw, subject, past)
    if chance < 0.55 and clause.form == "progressive":
        return pick(draw, WEATHER)[:2]
    reason = draw_event(draw, get_pronoun(subject), CHOSEN, kein=0)
    second = put_in_time(draw, reason, "w" if past else "m", negate=0.2)
    second.time = None
    return second.final, second.english


@template(9)
def because(draw: Draw) -> Pair:
    """A reason with weil."""
    subject = draw_person(draw)
    clause = put_in_time(draw, draw_event(draw, subject, DYNAMIC, kein=0), "nnppp")
    reason = _draw_reason(draw, subject, clause)
    return say("{c.main}, weil {reason} = {c.english} because {reason}", c=clause, reason=reason)


@template(6)
def although(draw: Draw) -> Pair:
    """A concession with obwohl, in front of the main clause or after it."""
    subject = draw_person(draw)
    clause = put_in_time(draw, draw_event(draw, subject, CHOSEN, kein=0), "npp", negate=0.1)
    clause.time = None
    past = clause.form == "past"
    if draw() < 0.5:
        state = _draw_state(draw, subject, past, _HARDSHIPS)
        return say("{c.main}, obwohl {state} = {c.english} although {state}", c=clause, state=state)
    clause.event.subject = get_pronoun(subject)
    return say(
        "obwohl {who.nom} {a} {be}, {c.question} = although {who.subject} {be} {a}, {c.english}",
        who=subject,
        a=pick(draw, _HARDSHIPS),
        be=be(subject, past),
        c=clause,
    )


@template(9)
def if_(draw: Draw) -> Pair:
    """A condition with wenn, in front of the main clause or after it."""
    subject = draw_person(draw)
    result = Clause(draw_event(draw, subject, CHOSEN, kein=0), PRESENT if draw() < 0.5 else FUTURE, "will")
    weather = draw() < 0.35
    if weather:
        german, _, english = pick(draw, WEATHER)
        condition = german, english
    else:
        same = draw() < 0.5 or subject.pronoun
        other = subject if same else draw_person(draw)
        while not same and other.noun is subject.noun and not other.pronoun:
            other = draw_person(draw)
        event = draw_event(draw, other, DYNAMIC, kein=0)
        if same:
            result.event.subject = get_pronoun(subject)
        first = Clause(event, PRESENT, "simple", None, draw() < 0.2 and not event.indefinite)
        condition = first.final, first.english
    if not weather or draw() < 0.5:
        return say("wenn {a}, {c.question} = if {a}, {c.english}", a=condition, c=result)
    return say("{c.main}, wenn {a} = {c.english} if {a}", a=condition, c=result)


_WISHED = tuple(verb for verb in CHOSEN if verb.frame in ("transitive", "ditransitive", "movement"))
_HAETTE = words("hätte hättest hätte hätten hättet hätten")


@template(3)
def would(draw: Draw) -> Pair:
    """An unreal condition."""
    subject = draw_person(draw)
    return say(
        "wenn {who.nom} {thing} {have}, {c.question} = if {who.subject} {have} {thing}, {c.english}",
        who=subject,
        have=(_HAETTE[subject.person], "had"),
        c=Clause(draw_event(draw, get_pronoun(subject), _WISHED, kein=0), CONDITIONAL, "would"),
        thing=choose(draw, "Zeit = time; mehr Zeit = more time; mehr Geld = more money"),
    )


_TEMPORAL = tuple(verb for verb in CHOSEN if verb.frame in ("intransitive", "transitive", "movement"))
_ARRIVALS = (
    ("nach Hause kam", "nach Hause kamen", "came home"),
    ("ins Zimmer kam", "ins Zimmer kamen", "came into the room"),
    ("die Tür aufmachte", "die Tür aufmachten", "opened the door"),
    ("anrief", "anriefen", "called"),
)
_LASTING = tuple(
    verb for verb in _TEMPORAL if verb.de.infinitive not in ("ankommen", "einschlafen", "aufwachen", "losfahren")
)


@template(9)
def when(draw: Draw) -> Pair:
    """A clause of time with als, nachdem, bevor or während."""
    subject = draw_definite(draw, ADULTS, 0.25, 0.15) if draw() < 0.6 else pick(draw, NAMES)
    other = draw_definite(draw, PEOPLE, 0.2, 0.1)
    while other.noun is subject.noun:
        other = draw_definite(draw, PEOPLE, 0.2, 0.1)
    second = Clause(draw_event(draw, get_pronoun(subject), _TEMPORAL, kein=0), PAST, "past")
    chance = draw()
    if chance < 0.3:
        one, many, arrival = pick(draw, _ARRIVALS)
        return say(
            "als {who.nom} {came}, {c.question} = when {who.subject} {came}, {c.english}",
            who=subject,
            came=(many if subject.many else one, arrival),
            c=Clause(draw_event(draw, other, _LASTING, kein=0), PAST, "past progressive"),
        )
    if chance < 0.6:
        word, tense, form = ("nachdem", "after"), PLUPERFECT, "pluperfect"
    elif chance < 0.8:
        word, tense, form = ("bevor", "before"), PAST, "past"
    else:
        word, tense, form = ("während", "while"), PAST, "past progressive"
    if chance < 0.8:
        first = Clause(draw_event(draw, subject, _TEMPORAL, kein=0), tense, form)
    else:
        first = Clause(draw_event(draw, other, _LASTING, kein=0), tense, form)
        second.event = draw_event(draw, subject, _LASTING, kein=0)
    return say("{word} {a.final}, {b.question} = {word} {a.english}, {b.english}", word=word, a=first, b=second)
