"""Clauses: an event put into a tense and then into the word order of either language."""

from __future__ import annotations

from dataclasses import dataclass

from . import english
from .phrases import ER, Phrase
from .verbs import Verb


@dataclass(slots=True)
class Event:
    """Who does what to whom and where. German parts and the English rest each start with a space unless empty."""

    subject: Phrase
    verb: Verb
    pronouns: str = ""
    dative: str = ""
    accusative: str = ""
    tail: str = ""
    english: str = ""
    negative: bool = False
    indefinite: bool = False
    tail_kind: str = ""


@dataclass(frozen=True)
class Tense:
    """A German tense or modal and the English that stands for it.

    Attributes:
        finite: The auxiliary's forms by person; None where the verb itself is finite.
        participle: Whether the clause closes with the participle rather than the infinitive.
        form: The English form; see build_english_verb.
    """

    finite: tuple[str, ...] | None
    participle: bool
    form: str


HABEN = ("habe", "hast", "hat", "haben", "habt", "haben")
SEIN = ("bin", "bist", "ist", "sind", "seid", "sind")
WAR = ("war", "warst", "war", "waren", "wart", "waren")
HATTE = ("hatte", "hattest", "hatte", "hatten", "hattet", "hatten")
WERDEN = ("werde", "wirst", "wird", "werden", "werdet", "werden")
WUERDE = ("würde", "würdest", "würde", "würden", "würdet", "würden")
PRESENT, PAST = Tense(None, False, "simple"), Tense(None, False, "past")
PERFECT, PLUPERFECT = Tense(HABEN, True, "past"), Tense(HATTE, True, "pluperfect")
FUTURE, CONDITIONAL = Tense(WERDEN, False, "will"), Tense(WUERDE, False, "would")
MODALS = (
    Tense(("kann", "kannst", "kann", "können", "könnt", "können"), False, "can"),
    Tense(("muss", "musst", "muss", "müssen", "müsst", "müssen"), False, "have to"),
    Tense(("will", "willst", "will", "wollen", "wollt", "wollen"), False, "want to"),
    Tense(("darf", "darfst", "darf", "dürfen", "dürft", "dürfen"), False, "be allowed to"),
    Tense(("soll", "sollst", "soll", "sollen", "sollt", "sollen"), False, "should"),
    Tense(("möchte", "möchtest", "möchte", "möchten", "möchtet", "möchten"), False, "would like to"),
)
PAST_MODALS = (
    Tense(("konnte", "konntest", "konnte", "konnten", "konntet", "konnten"), False, "could"),
    Tense(("musste", "musstest", "musste", "mussten", "musstet", "mussten"), False, "had to"),
    Tense(("wollte", "wolltest", "wollte", "wollten", "wolltet", "wollten"), False, "wanted to"),
    Tense(("durfte", "durftest", "durfte", "durften", "durftet", "durften"), False, "was allowed to"),
)
BE = ("am", "are", "is", "are", "are", "are")
WAS = ("was", "were", "was", "were", "were", "were")
_LEXICAL = {"have to": ("has to", False), "want to": ("wants to", False)}
_LEXICAL_PAST = {"had to": "have to", "wanted to": "want to"}
_AUXILIARIES = {
    "will": ("will", ""),
    "would": ("would", ""),
    "can": ("can", ""),
    "could": ("could", ""),
    "should": ("should", ""),
    "would like to": ("would", "like to "),
}


@dataclass(slots=True)
class Time:
    """An adverbial of time; frequent ones stand next to the English verb and are not moved to the front."""

    german: str
    english: str
    middle: bool = False


@dataclass(slots=True)
class Clause:
    """An event in a tense, at a time, affirmed or negated."""

    event: Event
    tense: Tense
    form: str
    time: Time | None = None
    negated: bool = False


def _get_finite(clause: Clause) -> tuple[str, str]:
    """Return the finite verb and what closes the clause, without the separable prefix in front of a finite verb."""
    verb, person, tense = clause.event.verb.de, clause.event.subject.person, clause.tense
    if tense is PRESENT:
        return verb.present[person], verb.prefix
    if tense is PAST:
        return verb.past[person], verb.prefix
    if tense is PERFECT:
        return (SEIN if verb.takes_sein else HABEN)[person], verb.participle
    if tense is PLUPERFECT:
        return (WAR if verb.takes_sein else HATTE)[person], verb.participle
    assert tense.finite is not None
    return tense.finite[person], verb.infinitive


def _build_middle(clause: Clause, front: str, time_used: bool) -> str:
    event = clause.event
    time = f" {clause.time.german}" if clause.time and not time_used else ""
    dative = "" if front == "dative" else event.dative
    accusative = "" if front == "accusative" else event.accusative
    tail = "" if front == "tail" else event.tail
    return f"{event.pronouns}{time}{dative}{accusative}{' nicht' if clause.negated else ''}{tail}"


def say_main(clause: Clause, front: str = "") -> str:
    """Return the German main clause, verb second; front names what takes the place of the subject at its start."""
    finite, close = _get_finite(clause)
    event = clause.event
    close = f" {close}" if close else ""
    middle = _build_middle(clause, front, front == "time")
    subject = event.subject.german[0]
    if not front:
        return f"{subject} {finite}{middle}{close}"
    if front == "time":
        assert clause.time is not None
        first = clause.time.german
    else:
        first = {"dative": event.dative, "accusative": event.accusative, "tail": event.tail, "none": ""}[front][1:]
    # A pronoun comes before a full subject, but sie and es could then be taken for the subject themselves.
    if event.pronouns and not event.subject.pronoun and event.pronouns not in (" sie", " es"):
        middle = middle.removeprefix(event.pronouns)
        return f"{first} {finite}{event.pronouns} {subject}{middle}{close}".lstrip()
    return f"{first} {finite} {subject}{middle}{close}".lstrip()


def say_question(clause: Clause) -> str:
    """Return the German order of yes/no questions and of clauses after something fronted: verb, then subject."""
    return say_main(clause, "none")


def say_final(clause: Clause, subject: str | None = None) -> str:
    """Return the German clause with the verb at the end; subject replaces the subject, as a relative pronoun does."""
    finite, close = _get_finite(clause)
    tense = clause.tense
    verb = close + finite if tense is PRESENT or tense is PAST else f"{close} {finite}"
    event = clause.event
    if subject is None and event.pronouns == " sich" and not event.subject.pronoun:
        middle = _build_middle(clause, "", False).removeprefix(" sich")
        return f"sich {event.subject.german[0]}{middle} {verb}"
    subject = event.subject.german[0] if subject is None else subject
    return f"{subject}{_build_middle(clause, '', False)} {verb}".lstrip()


def say_zu(clause: Clause) -> str:
    """Return the German infinitive clause with zu."""
    return f"{_build_middle(clause, '', False)} {clause.event.verb.de.zu_infinitive}".lstrip()


def build_english_verb(verb: english.EnglishVerb, form: str, person: int, supported: bool) -> tuple[str, str]:
    """Return the auxiliary and the rest of the verb; supported asks for an auxiliary where there would be none."""
    if form == "simple":
        third = person == ER
        if supported:
            return "does" if third else "do", verb.base
        return "", verb.third if third else verb.base
    if form == "past":
        return ("did", verb.base) if supported else ("", verb.past)
    if form == "progressive":
        return BE[person], verb.ing
    if form == "past progressive":
        return WAS[person], verb.ing
    if form == "perfect":
        return "has" if person == ER else "have", verb.participle
    if form == "pluperfect":
        return "had", verb.participle
    if form in _AUXILIARIES:
        auxiliary, link = _AUXILIARIES[form]
        return auxiliary, link + verb.base
    if form in ("be allowed to", "was allowed to"):
        return (BE if form == "be allowed to" else WAS)[person], f"allowed to {verb.base}"
    if form in _LEXICAL_PAST:
        return ("did", f"{_LEXICAL_PAST[form]} {verb.base}") if supported else ("", f"{form} {verb.base}")
    if supported:
        return "does" if person == ER else "do", f"{form} {verb.base}"
    return "", f"{_LEXICAL[form][0] if person == ER else form} {verb.base}"


def _get_english_parts(clause: Clause, supported: bool) -> tuple[str, str, str]:
    event = clause.event
    negated = clause.negated or event.negative
    auxiliary, verb = build_english_verb(event.verb.en, clause.form, event.subject.person, supported or negated)
    middle = f"{clause.time.english} " if clause.time and clause.time.middle else ""
    return auxiliary, "not " if negated else "", middle + verb


def _get_english_time(clause: Clause) -> str:
    return f" {clause.time.english}" if clause.time and not clause.time.middle else ""


def say_english(clause: Clause, front_time: bool = False, subject: str | None = None) -> str:
    """Return the English statement, which is also the form of subordinate clauses."""
    auxiliary, negation, verb = _get_english_parts(clause, False)
    subject = clause.event.subject.subject if subject is None else subject
    if auxiliary == "can" and negation:
        auxiliary, negation = "cannot", ""
    rest = f"{auxiliary} {negation}{verb}" if auxiliary else verb
    if front_time and clause.time and not clause.time.middle:
        # A single word needs no comma in English, a longer phrase reads better with one.
        comma = "," if " " in clause.time.english else ""
        return f"{clause.time.english}{comma} {subject} {rest}{clause.event.english}"
    return f"{subject} {rest}{clause.event.english}{_get_english_time(clause)}".lstrip()


def ask_english(clause: Clause) -> str:
    """Return the English question without the question mark, auxiliary first."""
    auxiliary, negation, verb = _get_english_parts(clause, True)
    subject = clause.event.subject.subject
    return f"{auxiliary} {subject} {negation}{verb}{clause.event.english}{_get_english_time(clause)}"


def say_english_infinitive(clause: Clause) -> str:
    """Return the English clause from its base form on, to be put after to."""
    event = clause.event
    return f"{event.verb.en.base}{event.english}{_get_english_time(clause)}"
