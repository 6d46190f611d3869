"""Clauses: an event put into a tense and then into the word order of either language."""

from __future__ import annotations

from dataclasses import dataclass

from . import english
from .notation import Pair, rows, words
from .phrases import ER, Phrase
from .verbs import Verb


@dataclass(slots=True)
class Event:
    """A verb with its subject, objects and adverbial; every part but the subject starts with a space unless empty."""

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
    """A German tense or modal and the English form that stands for it.

    Attributes:
        finite: The forms of the auxiliary by person; None where the verb itself is finite.
        participle: Whether the clause ends in the participle rather than the infinitive.
        form: The English form; see ``build_english_verb``.
    """

    finite: tuple[str, ...] | None
    participle: bool
    form: str


_HABEN = words("habe hast hat haben habt haben")
_SEIN = words("bin bist ist sind seid sind")
_WAR = words("war warst war waren wart waren")
_HATTE = words("hatte hattest hatte hatten hattet hatten")
_BE = words("am are is are are are")
_WAS = words("was were was were were were")
WERDEN = words("werde wirst wird werden werdet werden")
PRESENT, PAST = Tense(None, False, "simple"), Tense(None, False, "past")
PERFECT, PLUPERFECT = Tense(_HABEN, True, "past"), Tense(_HATTE, True, "pluperfect")
FUTURE = Tense(WERDEN, False, "will")
CONDITIONAL = Tense(words("würde würdest würde würden würdet würden"), False, "would")


def _parse_modals(table: str) -> tuple[Tense, ...]:
    return tuple(Tense(words(finite), False, form) for finite, form in rows(table))


MODALS = _parse_modals("""
kann kannst kann können könnt können | can
muss musst muss müssen müsst müssen | have to
will willst will wollen wollt wollen | want to
darf darfst darf dürfen dürft dürfen | be allowed to
soll sollst soll sollen sollt sollen | should
möchte möchtest möchte möchten möchtet möchten | would like to
""")
PAST_MODALS = _parse_modals("""
konnte konntest konnte konnten konntet konnten | could
musste musstest musste mussten musstet mussten | had to
wollte wolltest wollte wollten wolltet wollten | wanted to
durfte durftest durfte durften durftet durften | was allowed to
""")


def be(phrase: Phrase, past: bool = False) -> Pair:
    """Return the forms of sein and to be that agree with a subject."""
    return (_WAR if past else _SEIN)[phrase.person], (_WAS if past else _BE)[phrase.person]


@dataclass(slots=True)
class Time:
    """An adverbial of time; one of frequency (``middle``) stands beside the English verb and never goes first."""

    german: str
    english: str
    middle: bool = False


@dataclass(slots=True)
class Clause:
    """An event in a tense, at a time, affirmed or negated; its properties are the word orders of both languages."""

    event: Event
    tense: Tense
    form: str
    time: Time | None = None
    negated: bool = False

    def _get_finite(self) -> tuple[str, str]:
        """Return the finite verb and the words that close the clause."""
        verb, person, tense = self.event.verb.de, self.event.subject.person, self.tense
        if tense.finite is None:
            return (verb.present if tense is PRESENT else verb.past)[person], verb.prefix
        finite = tense.finite
        if tense.participle and verb.takes_sein:
            finite = _SEIN if tense is PERFECT else _WAR
        return finite[person], verb.participle if tense.participle else verb.infinitive

    def _build_middle(self, front: str = "") -> str:
        event = self.event
        time = f" {self.time.german}" if self.time and front != "time" else ""
        dative = "" if front == "dative" else event.dative
        accusative = "" if front == "accusative" else event.accusative
        tail = "" if front == "tail" else event.tail
        return f"{event.pronouns}{time}{dative}{accusative}{' nicht' if self.negated else ''}{tail}"

    def begin_with(self, front: str) -> str:
        """Return the German main clause with its time, dative, accusative, tail or nothing (``none``) in front."""
        finite, close = self._get_finite()
        event, subject, middle = self.event, self.event.subject, self._build_middle(front)
        if front == "time":
            assert self.time is not None
            first = self.time.german
        else:
            first = "" if front == "none" else getattr(event, front)[1:]
        # A pronoun comes before a full subject, but sie and es could then be taken for the subject themselves.
        pronouns = ""
        if event.pronouns and not subject.pronoun and event.pronouns not in (" sie", " es"):
            pronouns, middle = event.pronouns, middle.removeprefix(event.pronouns)
        return f"{first} {finite}{pronouns} {subject.nom}{middle} {close}".strip()

    @property
    def main(self) -> str:
        """The German main clause, subject first and verb second."""
        finite, close = self._get_finite()
        return f"{self.event.subject.nom} {finite}{self._build_middle()} {close}".rstrip()

    @property
    def question(self) -> str:
        """The German order of yes/no questions and of clauses after something fronted: verb, then subject."""
        return self.begin_with("none")

    def say_relative(self, pronoun: str) -> str:
        """Return the German clause with the verb at the end and a relative pronoun (or nothing) for its subject."""
        finite, close = self._get_finite()
        verb = close + finite if self.tense.finite is None else f"{close} {finite}"
        return f"{pronoun}{self._build_middle()} {verb}".lstrip()

    @property
    def final(self) -> str:
        """The German subordinate clause, verb at the end."""
        subject = self.event.subject
        if self.event.pronouns == " sich" and not subject.pronoun:
            return f"sich {subject.nom}{self.say_relative('').removeprefix('sich')}"
        return self.say_relative(subject.nom)

    @property
    def zu(self) -> str:
        """The German infinitive clause with zu."""
        return f"{self._build_middle()} {self.event.verb.de.zu_infinitive}".lstrip()

    def _get_english(self, supported: bool) -> tuple[str, str, str]:
        """Return the auxiliary, the negation and the rest of the English verb."""
        negated = self.negated or self.event.negative
        person = self.event.subject.person
        auxiliary, verb = build_english_verb(self.event.verb.en, self.form, person, supported or negated)
        middle = f"{self.time.english} " if self.time and self.time.middle else ""
        return auxiliary, "not " if negated else "", middle + verb

    @property
    def _english_end(self) -> str:
        return self.event.english + (f" {self.time.english}" if self.time and not self.time.middle else "")

    def say_english(self, subject: str | None = None, front_time: bool = False) -> str:
        """Return the English statement, with another subject or with its time at the start."""
        auxiliary, negation, verb = self._get_english(False)
        subject = self.event.subject.subject if subject is None else subject
        if auxiliary == "can" and negation:
            auxiliary, negation = "cannot", ""
        rest = f"{auxiliary} {negation}{verb}" if auxiliary else verb
        if front_time and self.time and not self.time.middle:
            # A single word needs no comma in English, a longer phrase reads better with one.
            comma = "," if " " in self.time.english else ""
            return f"{self.time.english}{comma} {subject} {rest}{self.event.english}"
        return f"{subject} {rest}{self._english_end}".lstrip()

    @property
    def english(self) -> str:
        """The English statement, which is also the form of subordinate clauses."""
        return self.say_english()

    @property
    def asked(self) -> str:
        """The English question without its question mark, auxiliary first."""
        auxiliary, negation, verb = self._get_english(True)
        return f"{auxiliary} {self.event.subject.subject} {negation}{verb}{self._english_end}"

    @property
    def bare(self) -> str:
        """The English clause from its base form on, to be put after to."""
        return self.event.verb.en.base + self._english_end

    @property
    def both(self) -> Pair:
        """The main clause in both languages."""
        return self.main, self.english

    @property
    def time_first(self) -> Pair:
        """The main clause in both languages with its time at the start."""
        return self.begin_with("time"), self.say_english(front_time=True)


def build_english_verb(verb: english.EnglishVerb, form: str, person: int, supported: bool) -> Pair:
    """Return the auxiliary and the rest of the verb; ``supported`` asks for do where there would be no auxiliary."""
    base, third = verb.base, person == ER
    present = {
        "simple": (base, verb.third),
        "have to": (f"have to {base}", f"has to {base}"),
        "want to": (f"want to {base}", f"wants to {base}"),
    }
    past = {
        "past": (base, verb.past),
        "had to": (f"have to {base}", f"had to {base}"),
        "wanted to": (f"want to {base}", f"wanted to {base}"),
    }
    if form in present:
        plain, finite = present[form]
        return ("does" if third else "do", plain) if supported else ("", finite if third else plain)
    if form in past:
        plain, finite = past[form]
        return ("did", plain) if supported else ("", finite)
    others = {
        "progressive": (_BE[person], verb.ing),
        "past progressive": (_WAS[person], verb.ing),
        "perfect": ("has" if third else "have", verb.participle),
        "pluperfect": ("had", verb.participle),
        "would like to": ("would", f"like to {base}"),
        "be allowed to": (_BE[person], f"allowed to {base}"),
        "was allowed to": (_WAS[person], f"allowed to {base}"),
    }
    return others.get(form, (form, base))
