"""Templates of description: states, comparisons, professions, possession, likes."""

from __future__ import annotations

from . import english
from .adverbials import CITIES, draw_place
from .clauses import PERFECT, WERDEN, Clause, be
from .events import draw_event
from .german import FEM
from .notation import Draw, Pair, read_table, say, template, words
from .nouns import NOUNS, PEOPLE, Noun, select
from .phrases import (
    ER,
    NAMES,
    build,
    build_genitive,
    choose,
    draw_adjective,
    draw_bare,
    draw_definite,
    draw_phrase,
    draw_subject,
    pick,
)
from .quantities import INSIDE, OPEN_AIR, OUTSIDE, STORES
from .relatives import ABSOLUTE
from .subordinates import DYNAMIC, STATES, draw_person

_THINGS = select("portable vehicle clothes goods:p place :place :door :animal")
_COMPARED = {base: (german, english) for base, german, english in read_table("comparatives")}
# Both are groß in German.
_BIG = {"tall": ("größer", "taller"), "big": ("größer", "bigger")}
_NOTHING = ("", "")
_DEGREES = (_NOTHING, ("sehr ", "very "), ("nicht ", "not "), ("nicht sehr ", "not very "), ("zu ", "too "))


@template(5)
def state(draw: Draw) -> Pair:
    """A state of somebody or something, present or past, or its beginning."""
    if draw() < 0.5:
        subject, adjective = draw_person(draw), pick(draw, STATES)
    else:
        noun = pick(draw, _THINGS)
        subject = build(noun, pick(draw, ("der", "dieser")), draw() < 0.25 and not noun.is_a("u"))
        adjective = pick(draw, [pair for pair in noun.adjectives if pair[0] != "arm"])
    passing = adjective in STATES
    chance = draw()
    if chance < 0.2 and passing:
        becomes = WERDEN[subject.person], be(subject)[1]
        return say("{who.nom} {be} {a} = {who.subject} {be} getting {a}", who=subject, be=becomes, a=adjective)
    past = draw() < 0.35
    finite = be(subject, past)
    if chance < 0.4:
        return say("{be} {who.nom} {a}? = {be} {who.subject} {a}?", who=subject, be=finite, a=adjective)
    degree = pick(draw, _DEGREES)
    if adjective[0] in ABSOLUTE and degree[0][:1] in ("s", "z"):
        degree = _NOTHING
    time = _NOTHING
    if past and passing:
        time = pick(draw, (("gestern ", " yesterday"), _NOTHING))
    elif passing and draw() < 0.3:
        time = "heute ", " today"
    text = "{who.nom} {be} {time}{degree}{a} = {who.subject} {be} {degree}{a}{time}"
    return say(text, who=subject, be=finite, time=time, degree=degree, a=adjective)


_JOBS = select("Lehrer Arzt Polizist Bäcker Koch Maler Gärtner Künstler")
_JOBS_FEMALE = select("Lehrerin Ärztin Kellnerin Sängerin Richterin")
_ASPIRING = (select("Bruder Sohn Onkel"), select("Schwester Tochter Tante"))


@template(4)
def profession(draw: Draw) -> Pair:
    """A profession, which has no article in German and has one in English."""
    female = draw() < 0.5
    if draw() < 0.5:
        subject = pick(draw, [name for name in NAMES if (name.gender == FEM) == female])
    else:
        subject = build(pick(draw, _ASPIRING[female]), pick(draw, ("mein", "dein", "unser", "sein")))
    job = pick(draw, _JOBS_FEMALE if female else _JOBS)
    city, chance = pick(draw, CITIES), draw()
    if chance < 0.3:
        text = "{who.nom} ist {job} in {city} = {who.subject} is {job} in {city}"
    elif chance < 0.55:
        text = "{who.nom} arbeitet als {job} in {city} = {who.subject} works as {job} in {city}"
    elif chance < 0.8:
        text = "{who.nom} möchte {job} werden = {who.subject} would like to become {job}"
    else:
        text = "ist {who.nom} {job} in {city}? = is {who.subject} {job} in {city}?"
    return say(text, who=subject, job=(job.lemma, english.add_indefinite(job.english[0])), city=city)


_TIDE = tuple(
    noun for noun in NOUNS.values() if any(a[0] in _COMPARED for a in noun.adjectives) and not noun.is_a("u")
)
_GROUPS: dict[str, list[Noun]] = {}
for _noun in _TIDE:
    _GROUPS.setdefault(_noun.classes[-1], []).append(_noun)


@template(8)
def comparison(draw: Draw) -> Pair | None:
    """Two people or things compared."""
    one = pick(draw, _TIDE)
    two = pick(draw, _GROUPS[one.classes[-1]])
    adjective = pick(draw, one.adjectives)
    if one is two or (adjective[0] not in _COMPARED and adjective[1] not in _BIG) or one.lemma + "in" == two.lemma:
        return None
    first, second = (draw_bare(draw, noun, "der der dieser", 0.2) for noun in (one, two))
    finite = be(first, draw() < 0.15)
    chance = draw()
    how = _NOTHING
    if chance < 0.6:
        adjective = _BIG.get(adjective[1]) or _COMPARED[adjective[0]]
        how = ("viel ", "much ") if draw() < 0.25 else _NOTHING
        text = "{one.nom} {be} {how}{a} als {two.nom} = {one.subject} {be} {how}{a} than {two.object}"
    else:
        how = ("nicht so", "not as") if chance < 0.8 else ("genauso", "just as")
        text = "{one.nom} {be} {how} {a} wie {two.nom} = {one.subject} {be} {how} {a} as {two.object}"
    return say(text, one=first, two=second, be=finite, how=how, a=adjective)


_UNSUITED = select("Rock Kleid")
_OWNED = tuple(noun for noun in select("vehicle goods:p pet k room:p Haus") if noun not in _UNSUITED)
_BELONGING = tuple(noun for noun in _OWNED if not noun.is_a("k") and not noun.is_a("room"))
_SEHEN = words("sehe siehst sieht sehen seht sehen")


@template(6)
def genitive(draw: Draw) -> Pair | None:
    """An owner in the genitive."""
    owner, thing = pick(draw, PEOPLE), pick(draw, _OWNED)
    if owner is thing:
        return None
    determiner = pick(draw, ("mein", "dein", "unser")) if owner.is_a("k") else "der"
    adjective = draw_adjective(draw, owner, 0.3)
    plural = draw() < 0.2 and not thing.is_a("single")
    owned = build(thing, "der", plural)
    quality = pick(draw, [pair for pair in thing.adjectives if pair[0] != "arm"])
    finite = be(owned, draw() < 0.3)
    whose = (
        build_genitive(owner, determiner, False, adjective),
        f"{build(owner, determiner, False, adjective).subject}'s",
    )
    parts = {"thing": owned, "whose": whose, "bare": thing.english[plural]}
    if draw() < 0.6:
        return say("{thing.nom} {whose} {be} {a} = {whose} {bare} {be} {a}", be=finite, a=quality, **parts)
    seer = draw_person(draw)
    if seer.noun is owner or seer.noun is thing:
        return None
    sees = _SEHEN[seer.person], "sees" if seer.person == ER else "see"
    return say("{who.nom} {see} {thing.acc} {whose} = {who.subject} {see} {whose} {bare}", who=seer, see=sees, **parts)


_CAUSES = (
    "wegen des Regens = because of the rain; trotz des Regens = despite the rain; "
    "wegen des schlechten Wetters = because of the bad weather; trotz der Hitze = despite the heat; "
    "trotz der Kälte = despite the cold; wegen der Hitze = because of the heat; "
    "während der Ferien = during the holidays; während des Sommers = during the summer"
)


@template(4)
def cause(draw: Draw) -> Pair:
    """A preposition with the genitive at the start of the sentence."""
    clause = Clause(draw_event(draw, draw_person(draw), DYNAMIC, kein=0), PERFECT, "past")
    return say("{why} {c.question} = {why}, {c.english}", why=choose(draw, _CAUSES), c=clause)


@template(5)
def existence(draw: Draw) -> Pair:
    """The things that there are somewhere: es gibt with the accusative."""
    outside = draw() < 0.5
    place = draw_place(draw, OPEN_AIR if outside else STORES)
    kein = draw() < 0.3
    while True:
        thing = draw_phrase(draw, OUTSIDE if outside else INSIDE, kein)
        if thing.indefinite or thing.negative:
            break
    text = "{place} gibt es {thing.acc} = there {be} {english} {place}"
    if not thing.negative and draw() < 0.3:
        text = "gibt es {place} {thing.acc}? = {be} there {english} {place}?"
    english_part = "no " + thing.object.split(" ", 1)[1] if thing.negative else thing.object
    return say(text, place=place, thing=thing, be=be(thing), english=english_part)


_CLOTHES = select("clothes")
_LIKED = select("text clothes place :place fruit painted seen")


@template(7)
def experience(draw: Draw) -> Pair:
    """Verbs whose German subject is the thing and whose dative is the person."""
    while True:
        person = draw_subject(draw, PEOPLE, 0.35)
        if not person.indefinite:
            break
    chance = draw()
    thing = draw_definite(draw, _LIKED if chance < 0.45 else _CLOTHES if chance < 0.7 else _BELONGING, 0.35, 0.25)
    subject = person if chance < 0.45 else thing
    do, s = ("does", "s") if subject.person == ER else ("do", "")
    if chance < 0.45:
        verb = "gefallen" if thing.many else "gefällt"
        if draw() < 0.25:
            text = "{it.nom} {verb} {who.dat} nicht = {who.subject} {do} not like {it.object}"
        elif draw() < 0.5:
            text = "{it.nom} {verb} {who.dat} = {who.subject} like{s} {it.object}"
        else:
            text = "{who.dat} {verb} {it.nom} = {who.subject} like{s} {it.object}"
    elif chance < 0.7:
        verb = "passen" if thing.many else "passt"
        if draw() < 0.4:
            text = "{it.nom} {verb} {who.dat} nicht = {it.subject} {do} not fit {who.object}"
        else:
            text = "{it.nom} {verb} {who.dat} = {it.subject} fit{s} {who.object}"
    else:
        verb = "gehören" if thing.many else "gehört"
        if draw() >= 0.3:
            text = "{it.nom} {verb} {who.dat} = {it.subject} belong{s} to {who.object}"
        elif person.pronoun:
            text = "{verb} {who.dat} {it.nom}? = {do} {it.subject} belong to {who.object}?"
        else:
            text = "{verb} {it.nom} {who.dat}? = {do} {it.subject} belong to {who.object}?"
    return say(text, it=thing, who=person, verb=verb, do=do, s=s)
