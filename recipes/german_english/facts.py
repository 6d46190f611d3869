"""Templates of description: states, comparisons, numbers, dates, times, possession."""

from __future__ import annotations

from . import english, german
from .adverbials import CITIES, PEOPLE, draw_place
from .clauses import BE, PERFECT, SEIN, WAR, WAS, WERDEN, Clause, say_english, say_question
from .events import draw_event
from .german import ACC, DAT, NOM
from .nouns import NOUNS, Noun, select
from .phrases import (
    NAMES,
    SIE_PLURAL,
    Draw,
    Phrase,
    build,
    build_genitive,
    draw_definite,
    draw_phrase,
    draw_subject,
    pick,
)
from .quantities import INSIDE, OPEN_AIR, OUTSIDE, STORES
from .subordinates import DYNAMIC, STATES, draw_person

Pair = tuple[str, str]
_THINGS = select("portable vehicle clothes goods:p place :place :door :animal")
_COMPARED = {
    "alt": ("älter", "older"),
    "jung": ("jünger", "younger"),
    "klein": ("kleiner", "smaller"),
    "schnell": ("schneller", "faster"),
    "teuer": ("teurer", "more expensive"),
    "billig": ("billiger", "cheaper"),
    "schön": ("schöner", "more beautiful"),
    "warm": ("wärmer", "warmer"),
    "schwer": ("schwerer", "heavier"),
    "neu": ("neuer", "newer"),
    "reich": ("reicher", "richer"),
    "klug": ("klüger", "cleverer"),
    "freundlich": ("freundlicher", "friendlier"),
    "höflich": ("höflicher", "more polite"),
    "lang": ("länger", "longer"),
    "kurz": ("kürzer", "shorter"),
    "süß": ("süßer", "sweeter"),
    "interessant": ("interessanter", "more interesting"),
    "langweilig": ("langweiliger", "more boring"),
    "dunkel": ("dunkler", "darker"),
    "ruhig": ("ruhiger", "quieter"),
    "fleißig": ("fleißiger", "more hard-working"),
    "faul": ("fauler", "lazier"),
    "traurig": ("trauriger", "sadder"),
    "spannend": ("spannender", "more exciting"),
}
_BIG = {"tall": ("größer", "taller"), "big": ("größer", "bigger")}


def _be(phrase: Phrase, past: bool) -> Pair:
    return (WAR if past else SEIN)[phrase.person], (WAS if past else BE)[phrase.person]


def state(draw: Draw) -> Pair:
    """What somebody or something is like, was like, becomes or stays."""
    if draw() < 0.5:
        subject, adjective = draw_person(draw), pick(draw, STATES)
    else:
        noun = pick(draw, _THINGS)
        subject = build(noun, pick(draw, ("der", "dieser")), draw() < 0.25 and not noun.is_a("u"))
        adjective = pick(draw, [pair for pair in noun.adjectives if pair[0] != "arm"])
    chance, person = draw(), subject.person
    name, name_en = subject.german[NOM], subject.subject
    if chance < 0.2 and adjective in STATES:
        return f"{name} {WERDEN[person]} {adjective[0]}", f"{name_en} {BE[person]} getting {adjective[1]}"
    past = draw() < 0.35
    finite, finite_en = _be(subject, past)
    if chance < 0.4:
        return f"{finite} {name} {adjective[0]}?", f"{finite_en} {name_en} {adjective[1]}?"
    degree, degree_en = pick(
        draw, (("", ""), ("sehr ", "very "), ("nicht ", "not "), ("nicht sehr ", "not very "), ("zu ", "too "))
    )
    if (
        adjective[0] in ("rot", "blau", "grün", "gelb", "schwarz", "weiß", "braun", "modern", "bunt")
        and degree[:1] in "sz"
    ):
        degree, degree_en = "", ""
    time, time_en = pick(draw, (("gestern ", " yesterday"), ("", ""))) if past and adjective in STATES else ("", "")
    if adjective in STATES and not past and draw() < 0.3:
        time, time_en = "heute ", " today"
    return f"{name} {finite} {time}{degree}{adjective[0]}", f"{name_en} {finite_en} {degree_en}{adjective[1]}{time_en}"


_JOBS = select("Lehrer Arzt Polizist Bäcker Koch Maler Gärtner Künstler")
_JOBS_FEMALE = select("Lehrerin Ärztin Kellnerin Sängerin Richterin")


_ASPIRING = (select("Bruder Sohn Onkel"), select("Schwester Tochter Tante"))


def profession(draw: Draw) -> Pair:
    """What somebody does for a living, for which German has no article and English has one."""
    female = draw() < 0.5
    nouns = _ASPIRING[female]
    names = [name for name in NAMES if (name.gender == german.FEM) == female]
    subject = (
        pick(draw, names) if draw() < 0.5 else build(pick(draw, nouns), pick(draw, ("mein", "dein", "unser", "sein")))
    )
    job = pick(draw, _JOBS_FEMALE if female else _JOBS)
    name, name_en = subject.german[NOM], subject.subject
    title = english.add_indefinite(job.english[0])
    city, city_en = pick(draw, CITIES)
    chance = draw()
    if chance < 0.3:
        return f"{name} ist {job.lemma} in {city}", f"{name_en} is {title} in {city_en}"
    if chance < 0.55:
        return f"{name} arbeitet als {job.lemma} in {city}", f"{name_en} works as {title} in {city_en}"
    if chance < 0.8:
        return f"{name} möchte {job.lemma} werden", f"{name_en} would like to become {title}"
    return f"ist {name} {job.lemma} in {city}?", f"is {name_en} {title} in {city_en}?"


_TIDE = tuple(
    noun for noun in NOUNS.values() if any(a[0] in _COMPARED for a in noun.adjectives) and not noun.is_a("u")
)
_GROUPS: dict[str, list[Noun]] = {}
for _noun in _TIDE:
    _GROUPS.setdefault(_noun.classes[-1], []).append(_noun)


def comparison(draw: Draw) -> Pair | None:
    """Two people or things compared."""
    one = pick(draw, _TIDE)
    two = pick(draw, _GROUPS[one.classes[-1]])
    adjective, adjective_en = pick(draw, one.adjectives)
    if one is two or (adjective not in _COMPARED and adjective_en not in _BIG) or one.lemma + "in" == two.lemma:
        return None
    both = []
    for noun in (one, two):
        determiner = pick(draw, ("mein", "dein", "unser")) if noun.is_a("k") else pick(draw, ("der", "der", "dieser"))
        both.append(build(noun, determiner, draw() < 0.2 and not noun.is_a("single")))
    first, second = both
    past = draw() < 0.15
    finite, finite_en = _be(first, past)
    name, other = first.german[NOM], second.german[NOM]
    chance = draw()
    if chance < 0.6:
        more, more_en = _BIG.get(adjective_en) or _COMPARED[adjective]
        much, much_en = ("viel ", "much ") if draw() < 0.25 else ("", "")
        return (
            f"{name} {finite} {much}{more} als {other}",
            f"{first.subject} {finite_en} {much_en}{more_en} than {second.object}",
        )
    if chance < 0.8:
        ending = f"nicht so {adjective} wie {other}"
        return f"{name} {finite} {ending}", f"{first.subject} {finite_en} not as {adjective_en} as {second.object}"
    ending = f"genauso {adjective} wie {other}"
    return f"{name} {finite} {ending}", f"{first.subject} {finite_en} just as {adjective_en} as {second.object}"


_UNSUITED = select("Rock Kleid")
_OWNED = tuple(noun for noun in select("vehicle goods:p pet k room:p Haus") if noun not in _UNSUITED)
_BELONGING = tuple(noun for noun in _OWNED if not noun.is_a("k") and not noun.is_a("room"))


def genitive(draw: Draw) -> Pair | None:
    """Whose something is, and prepositions with the genitive."""
    owner, thing = pick(draw, PEOPLE), pick(draw, _OWNED)
    if owner is thing:
        return None
    determiner = pick(draw, ("mein", "dein", "unser")) if owner.is_a("k") else "der"
    adjective = pick(draw, owner.adjectives) if draw() < 0.3 else None
    phrase, possessor = build(owner, determiner, False, adjective), build_genitive(owner, determiner, False, adjective)
    plural = draw() < 0.2 and not thing.is_a("single")
    property_ = build(thing, "der", plural)
    bare = thing.english[plural]
    quality = pick(draw, [pair for pair in thing.adjectives if pair[0] != "arm"])
    finite = _be(property_, draw() < 0.3)
    owned = f"{phrase.subject}'s {bare}"
    if draw() < 0.6:
        return f"{property_.german[NOM]} {possessor} {finite[0]} {quality[0]}", f"{owned} {finite[1]} {quality[1]}"
    seer = draw_person(draw)
    if seer.noun is owner or seer.noun is thing:
        return None
    sees = (["sehe", "siehst", "sieht", "sehen", "seht", "sehen"][seer.person], "sees" if seer.person == 2 else "see")
    return f"{seer.german[NOM]} {sees[0]} {property_.german[ACC]} {possessor}", f"{seer.subject} {sees[1]} {owned}"


_CAUSES = (
    ("wegen des Regens", "because of the rain"),
    ("trotz des Regens", "despite the rain"),
    ("wegen des schlechten Wetters", "because of the bad weather"),
    ("trotz der Hitze", "despite the heat"),
    ("trotz der Kälte", "despite the cold"),
    ("wegen der Hitze", "because of the heat"),
    ("während der Ferien", "during the holidays"),
    ("während des Sommers", "during the summer"),
)


def cause(draw: Draw) -> Pair:
    """A preposition with the genitive at the start of the sentence."""
    clause = Clause(draw_event(draw, draw_person(draw), DYNAMIC, kein=0), PERFECT, "past")
    german_part, english_part = pick(draw, _CAUSES)
    return f"{german_part} {say_question(clause)}", f"{english_part}, {say_english(clause)}"


def existence(draw: Draw) -> Pair:
    """What there is somewhere: es gibt with the accusative."""
    outside = draw() < 0.5
    place, place_en = draw_place(draw, OPEN_AIR if outside else STORES, False)
    kein = draw() < 0.3
    while True:
        thing = draw_phrase(draw, OUTSIDE if outside else INSIDE, kein)
        if thing.indefinite or thing.negative:
            break
    many = thing.person == SIE_PLURAL
    be = "are" if many else "is"
    if thing.negative:
        text = "no " + thing.object.split(" ", 1)[1]
        return f"{place} gibt es {thing.german[ACC]}", f"there {be} {text} {place_en}"
    if draw() < 0.3:
        return f"gibt es {place} {thing.german[ACC]}?", f"{be} there {thing.object} {place_en}?"
    return f"{place} gibt es {thing.german[ACC]}", f"there {be} {thing.object} {place_en}"


_CLOTHES = select("clothes")
_LIKED = select("text clothes place :place fruit painted seen")


def experience(draw: Draw) -> Pair:
    """Verbs whose German subject is the thing and whose dative is the person."""
    while True:
        person = draw_subject(draw, PEOPLE, 0.35)
        if not person.indefinite:
            break
    who, third = person.german[DAT], person.person == 2
    chance = draw()
    thing = draw_definite(draw, _LIKED if chance < 0.45 else _CLOTHES if chance < 0.7 else _BELONGING, 0.35, 0.25)
    many, name = thing.person == SIE_PLURAL, thing.german[NOM]
    if chance < 0.45:
        verb = "gefallen" if many else "gefällt"
        negated = draw() < 0.25
        if negated:
            text = f"{person.subject} {'does' if third else 'do'} not like {thing.object}"
            return f"{name} {verb} {who} nicht", text
        text = f"{person.subject} {'likes' if third else 'like'} {thing.object}"
        return (f"{name} {verb} {who}" if draw() < 0.5 else f"{who} {verb} {name}"), text
    if chance < 0.7:
        verb, verb_en = ("passen", "fit") if many else ("passt", "fits")
        if draw() < 0.4:
            return f"{name} {verb} {who} nicht", f"{thing.subject} {'do' if many else 'does'} not fit {person.object}"
        return f"{name} {verb} {who}", f"{thing.subject} {verb_en} {person.object}"
    verb, verb_en = ("gehören", "belong") if many else ("gehört", "belongs")
    if draw() < 0.3:
        asked = f"{who} {name}" if person.pronoun else f"{name} {who}"
        return f"{verb} {asked}?", f"{'do' if many else 'does'} {thing.subject} belong to {person.object}?"
    return f"{name} {verb} {who}", f"{thing.subject} {verb_en} to {person.object}"


TEMPLATES = (
    ("state", state, 5),
    ("profession", profession, 4),
    ("comparison", comparison, 8),
    ("genitive", genitive, 6),
    ("cause", cause, 4),
    ("existence", existence, 5),
    ("experience", experience, 7),
)
