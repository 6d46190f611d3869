"""Templates of two clauses: subordinate, relative and infinitive clauses, and coordination."""

from __future__ import annotations

import dataclasses

from .clauses import (
    BE,
    CONDITIONAL,
    FUTURE,
    MODALS,
    PAST,
    PLUPERFECT,
    PRESENT,
    SEIN,
    WAR,
    WAS,
    Clause,
    Event,
    say_english,
    say_final,
    say_main,
    say_question,
)
from .events import PERSON_VERBS, draw_definite_subject, draw_event
from .german import NOM
from .nouns import NOUNS, parse_adjectives
from .phrases import (
    NAMES,
    SIE_PLURAL,
    SUBJECT_PRONOUNS,
    Draw,
    Phrase,
    draw_definite,
    get_pronoun,
    pick,
)
from .tenses import put_in_time
from .verbs import DATIVE, Verb, make_verb

Pair = tuple[str, str]
# Kind and Mädchen are left out where a pronoun takes up the person: es or sie, it or she would be open.
ADULTS = tuple(noun for noun in NOUNS.values() if noun.is_a("he") or noun.is_a("she"))
PEOPLE = tuple(noun for noun in NOUNS.values() if noun.is_a("person"))
STATES = parse_adjectives(
    "müde tired,krank ill,hungrig hungry,traurig sad,glücklich happy,durstig thirsty,nervös nervous"
)
_HARDSHIPS = tuple(state for state in STATES if state[0] != "glücklich")
WEATHER = (
    (("regnet es", "es regnet"), "it is raining", "it rains"),
    (("schneit es", "es schneit"), "it is snowing", "it snows"),
    (("ist das Wetter schön", "das Wetter schön ist"), "the weather is nice", "the weather is nice"),
    (("ist es kalt", "es kalt ist"), "it is cold", "it is cold"),
    (("ist es sehr heiß", "es sehr heiß ist"), "it is very hot", "it is very hot"),
)
DYNAMIC = tuple(verb for verb in PERSON_VERBS if not verb.stative and not verb.accidental)
CHOSEN = tuple(verb for verb in DYNAMIC if not verb.punctual and verb.frame != "position")


def make_mind(verb: str, parts: str, english_part: str, flags: str = "t") -> Verb:
    """Return a verb that takes a clause for its object."""
    return make_verb(verb, parts, english_part, flags, "person", "clause")


_KNOW = make_mind("wissen", "weiß wusste gewusst", "know,knew,known")
_KNOW = dataclasses.replace(
    _KNOW, de=dataclasses.replace(_KNOW.de, present=("weiß", "weißt", "weiß", "wissen", "wisst", "wissen"))
)
_SAY = (
    _KNOW,
    make_mind("glauben", "", "believe"),
    make_mind("sagen", "", "say,said"),
    make_mind("denken", "denkt dachte gedacht", "think,thought"),
    make_mind("hoffen", "", "hope"),
    make_mind("behaupten", "", "claim"),
)
_ASK = (make_mind("fragen", "", "ask"), make_mind("wissen wollen", "", "want to know"))
_IMPERSONAL = parse_adjectives("schön nice,schade a pity,klar clear,möglich possible,gut good,wahr true")


def draw_person(draw: Draw) -> Phrase:
    """Return an adult, a name or a pronoun, any of which a pronoun can take up without doubt."""
    chance = draw()
    if chance < 0.2:
        return pick(draw, SUBJECT_PRONOUNS)
    if chance < 0.4:
        return pick(draw, NAMES)
    return draw_definite(draw, ADULTS, 0.25, 0.15)


def _head(draw: Draw, verb: Verb, negated: bool = False) -> tuple[str, str]:
    clause = Clause(Event(draw_person(draw), verb), PRESENT, "simple", None, negated)
    return say_main(clause), say_english(clause)


def that(draw: Draw) -> Pair:
    """A clause with dass."""
    clause = put_in_time(draw, draw_event(draw), "nnpppphfmw")
    inner, inner_en = say_final(clause), say_english(clause)
    chance = draw()
    if chance < 0.15:
        adjective = pick(draw, _IMPERSONAL)
        return f"es ist {adjective[0]}, dass {inner}", f"it is {adjective[1]} that {inner_en}"
    if chance < 0.25 and clause.form == "past" and not clause.event.subject.pronoun:
        return f"ich habe gehört, dass {inner}", f"I heard that {inner_en}"
    # One does not hope that somebody has to or may do something.
    said = _SAY if clause.tense not in MODALS else _SAY[:4]
    head, head_en = _head(draw, pick(draw, said))
    return f"{head}, dass {inner}", f"{head_en} that {inner_en}"


def whether(draw: Draw) -> Pair:
    """An indirect question, with ob or with a question word."""
    subject = draw_definite_subject(draw, DATIVE[0])
    event = draw_event(draw, subject, PERSON_VERBS, kein=0)
    clause = put_in_time(draw, event, "nppf", negate=0)
    word, word_en = ("ob", "whether") if draw() < 0.7 else ("warum", "why")
    if draw() < 0.5:
        asker = draw_person(draw)
        event = Event(asker, _ASK[0])
        head, head_en = say_main(Clause(event, PRESENT, "simple")), say_english(Clause(event, PRESENT, "simple"))
    elif draw() < 0.4:
        head, head_en = pick(draw, (("ich möchte wissen", "I would like to know"), ("niemand weiß", "nobody knows")))
    else:
        head, head_en = _head(draw, _KNOW, negated=True)
    return f"{head}, {word} {say_final(clause)}", f"{head_en} {word_en} {say_english(clause)}"


def _draw_state(
    draw: Draw, subject: Phrase, past: bool, states: tuple[Pair, ...] = STATES
) -> tuple[tuple[str, str], str]:
    """Return what state somebody is in: German with the verb in the middle and at the end, then English."""
    pronoun, adjective = get_pronoun(subject), pick(draw, states)
    finite = (WAR if past else SEIN)[subject.person]
    finite_en = (WAS if past else BE)[subject.person]
    very, very_en = (" sehr", " very") if draw() < 0.3 else ("", "")
    name = pronoun.german[NOM]
    forms = (f"{finite} {name}{very} {adjective[0]}", f"{name}{very} {adjective[0]} {finite}")
    return forms, f"{pronoun.subject} {finite_en}{very_en} {adjective[1]}"


def _draw_reason(draw: Draw, subject: Phrase, clause: Clause) -> Pair:
    chance = draw()
    past = clause.form == "past"
    if chance < 0.4:
        state = _draw_state(draw, subject, past)
        return state[0][1], state[1]
    if chance < 0.55 and clause.form == "progressive":
        weather = pick(draw, WEATHER)
        return weather[0][1], weather[1]
    reason = draw_event(draw, get_pronoun(subject), CHOSEN, kein=0)
    second = put_in_time(draw, reason, "w" if past else "m", negate=0.2)
    second.time = None
    return say_final(second), say_english(second)


def because(draw: Draw) -> Pair:
    """A reason with weil."""
    subject = draw_person(draw)
    clause = put_in_time(draw, draw_event(draw, subject, DYNAMIC, kein=0), "nnppp")
    reason, reason_en = _draw_reason(draw, subject, clause)
    return f"{say_main(clause)}, weil {reason}", f"{say_english(clause)} because {reason_en}"


def although(draw: Draw) -> Pair:
    """A concession with obwohl, in front of the main clause or after it."""
    subject = draw_person(draw)
    clause = put_in_time(draw, draw_event(draw, subject, CHOSEN, kein=0), "npp", negate=0.1)
    clause.time = None
    past = clause.form == "past"
    if draw() < 0.5:
        state, state_en = _draw_state(draw, subject, past, _HARDSHIPS)
        return f"{say_main(clause)}, obwohl {state[1]}", f"{say_english(clause)} although {state_en}"
    adjective = pick(draw, _HARDSHIPS)
    name = subject.german[NOM]
    head = f"obwohl {name} {adjective[0]} {(WAR if past else SEIN)[subject.person]}"
    head_en = f"although {subject.subject} {(WAS if past else BE)[subject.person]} {adjective[1]}"
    clause.event.subject = get_pronoun(subject)
    return f"{head}, {say_question(clause)}", f"{head_en}, {say_english(clause)}"


def if_(draw: Draw) -> Pair:
    """A condition with wenn, in front of the main clause or after it."""
    subject = draw_person(draw)
    result = Clause(draw_event(draw, subject, CHOSEN, kein=0), PRESENT if draw() < 0.5 else FUTURE, "will")
    if draw() < 0.35:
        forms, _, weather = pick(draw, WEATHER)
        condition, condition_en = forms[1], weather
    else:
        same = draw() < 0.5 or subject.pronoun
        other = subject if same else draw_person(draw)
        while not same and other.noun is subject.noun and not other.pronoun:
            other = draw_person(draw)
        event = draw_event(draw, other, DYNAMIC, kein=0)
        if same:
            result.event.subject = get_pronoun(subject)
        first = Clause(event, PRESENT, "simple")
        first.negated = draw() < 0.2 and not event.indefinite
        condition, condition_en = say_final(first), say_english(first)
        return f"wenn {condition}, {say_question(result)}", f"if {condition_en}, {say_english(result)}"
    if draw() < 0.5:
        return f"wenn {condition}, {say_question(result)}", f"if {condition_en}, {say_english(result)}"
    return f"{say_main(result)}, wenn {condition}", f"{say_english(result)} if {condition_en}"


_WISHED = tuple(verb for verb in CHOSEN if verb.frame in ("transitive", "ditransitive", "movement"))


def would(draw: Draw) -> Pair:
    """An unreal condition."""
    subject = draw_person(draw)
    pronoun = get_pronoun(subject)
    result = Clause(draw_event(draw, pronoun, _WISHED, kein=0), CONDITIONAL, "would")
    have = ("hätte", "hättest", "hätte", "hätten", "hättet", "hätten")[subject.person]
    thing, thing_en = pick(draw, (("Zeit", "time"), ("mehr Zeit", "more time"), ("mehr Geld", "more money")))
    head = f"wenn {subject.german[NOM]} {thing} {have}"
    return f"{head}, {say_question(result)}", f"if {subject.subject} had {thing_en}, {say_english(result)}"


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


def when(draw: Draw) -> Pair:
    """A clause of time with als, nachdem, bevor or während."""
    subject = draw_definite(draw, ADULTS, 0.25, 0.15) if draw() < 0.6 else pick(draw, NAMES)
    pronoun = get_pronoun(subject)
    other = draw_definite(draw, PEOPLE, 0.2, 0.1)
    while other.noun is subject.noun:
        other = draw_definite(draw, PEOPLE, 0.2, 0.1)
    second = Clause(draw_event(draw, pronoun, _TEMPORAL, kein=0), PAST, "past")
    chance = draw()
    if chance < 0.3:
        one, many, arrival = pick(draw, _ARRIVALS)
        event = draw_event(draw, other, _LASTING, kein=0)
        background = Clause(event, PAST, "past progressive")
        verb = many if subject.person == SIE_PLURAL else one
        english = f"when {subject.subject} {arrival}, {say_english(background)}"
        return f"als {subject.german[NOM]} {verb}, {say_question(background)}", english
    if chance < 0.6:
        word, first = (
            ("nachdem", "after"),
            Clause(draw_event(draw, subject, _TEMPORAL, kein=0), PLUPERFECT, "pluperfect"),
        )
    elif chance < 0.8:
        word, first = ("bevor", "before"), Clause(draw_event(draw, subject, _TEMPORAL, kein=0), PAST, "past")
    else:
        word = ("während", "while")
        first = Clause(draw_event(draw, other, _LASTING, kein=0), PAST, "past progressive")
        second.event = draw_event(draw, subject, _LASTING, kein=0)
    return (
        f"{word[0]} {say_final(first)}, {say_question(second)}",
        f"{word[1]} {say_english(first)}, {say_english(second)}",
    )


TEMPLATES = (
    ("that", that, 10),
    ("whether", whether, 7),
    ("because", because, 9),
    ("although", although, 6),
    ("if", if_, 9),
    ("would", would, 3),
    ("when", when, 9),
)
