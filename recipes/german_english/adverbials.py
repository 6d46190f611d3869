"""Adverbials of place, manner and time in both languages."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from . import english, german
from .german import ACC, DAT
from .notation import Draw, Pair, adjectives, pairs, read_table, words
from .nouns import NOUNS, PEOPLE, Noun, make_noun
from .phrases import NAMES, Phrase, build, choose, draw_adjective, draw_someone, pick

CITIES, _COUNTRIES = (adjectives(names) for _, names in read_table("names"))
_CITIES_TO = (
    *((f"nach {de}", f"to {en}") for de, en in CITIES + _COUNTRIES),
    *pairs("in die Schweiz = to Switzerland; in die Türkei = to Turkey"),
)


@dataclass(frozen=True)
class Place:
    """A place with the prepositions, German and English, of going there and of being there."""

    noun: Noun
    to: Pair
    at: Pair


PLACES = {
    noun.lemma: Place(noun, *adjectives(f"{to},{at}"))
    for german_part, english_part, to, at, described in read_table("places")
    for noun in [make_noun(german_part, english_part, described)]
}


def select_places(names: str) -> tuple[Place, ...]:
    """Return the places of these names."""
    return tuple(PLACES[name] for name in words(names))


_AT = {kind: select_places(names) for kind, names in read_table("adverbials of place")}
_TO = tuple(PLACES.values())
_FAR = select_places("Bahnhof Flughafen Meer Strand See Dorf Universität Krankenhaus Zoo Stadt Museum")
_FIXED = dict(read_table("adverbials"))
_VEHICLES = "mit dem Zug = by train; mit dem Bus = by bus; mit dem Auto = by car; mit dem Fahrrad = by bicycle"
_GOALS = "in die Schule = to school; nach Hause = home; zur Arbeit = to work; in die Kirche = to church"
_TWO_WAY = tuple(((de, en), NOUNS[name]) for de, en, names in read_table("surfaces") for name in words(names))
_BETWEEN = adjectives("Tisch Stuhl,Bett Schrank,Sofa Lampe,Tür Fenster")
_LANDINGS = tuple(NOUNS[name] for name in ("Tisch", "Stuhl", "Sofa", "Bett", "Kiste"))
_SURFACE_ADJECTIVES = adjectives("groß big,klein small,alt old,neu new,schön beautiful")


def _draw_surface(draw: Draw, noun: Noun) -> Phrase:
    return build(noun, "der", False, pick(draw, _SURFACE_ADJECTIVES) if draw() < 0.3 else None)


def _draw_two_way(draw: Draw, case: int, avoid: Noun | None) -> Pair:
    """Return a two-way preposition with its phrase: accusative for where to, dative for where."""
    if draw() < 0.1:
        nouns = [NOUNS[name] for name in pick(draw, _BETWEEN)]
        if avoid not in nouns:
            one, two = (build(noun, "der") for noun in nouns)
            return f"zwischen {one.german[case]} und {two.german[case]}", f"between {one.object} and {two.object}"
    (prep_de, prep_en), noun = pick(draw, _TWO_WAY)
    while noun is avoid:
        (prep_de, prep_en), noun = pick(draw, _TWO_WAY)
    phrase = _draw_surface(draw, noun)
    return german.contract(prep_de, phrase.german[case]), f"{prep_en} {phrase.object}"


def draw_place(draw: Draw, places: tuple[Place, ...], moving: bool = False) -> Pair:
    """Return where somebody goes (``moving``) or is, with the article merged into the preposition."""
    place = pick(draw, places)
    phrase = build(place.noun, "der", False, draw_adjective(draw, place.noun, 0.3))
    preposition, english_preposition = place.to if moving else place.at
    case = ACC if moving and preposition != "zu" else DAT
    return german.contract(preposition, phrase.german[case]), f"{english_preposition} {phrase.object}"


def _draw_company(draw: Draw, subject: Phrase) -> Pair:
    companion = draw_someone(draw, PEOPLE, 0.4, 0.3)
    while companion.german == subject.german or companion.noun is subject.noun is not None:
        companion = pick(draw, NAMES)
    return f"mit {companion.dat}", f"with {companion.object}"


def draw_tail(draw: Draw, kind: str, subject: Phrase, theme: Noun | None) -> Pair:
    """Return an adverbial of a kind named in the verb tables."""
    if kind in _AT:
        return draw_place(draw, _AT[kind])
    if kind in _FIXED:
        return choose(draw, _FIXED[kind])
    if kind == "dest":
        return choose(draw, _GOALS) if draw() < 0.2 else draw_place(draw, _TO, True)
    if kind == "friends":
        return _draw_company(draw, subject)
    if kind == "city":
        return pick(draw, _CITIES_TO)
    if kind == "in_city":
        city = pick(draw, CITIES)
        return f"in {city[0]}", f"in {city[1]}"
    if kind == "travel":
        vehicle, goal = (
            choose(draw, _VEHICLES),
            pick(draw, _CITIES_TO) if draw() < 0.6 else draw_place(draw, _FAR, True),
        )
        return f"{vehicle[0]} {goal[0]}", f"{goal[1]} {vehicle[1]}"
    if kind == "early":
        return draw_clock(draw) if draw() < 0.7 else choose(draw, "früh = early; spät = late")
    if kind == "jump":
        noun = pick(draw, _LANDINGS)
        over = ("über", "over") if draw() < 0.3 else ("auf", "onto")
        phrase = _draw_surface(draw, noun)
        return f"{over[0]} {phrase.acc}", f"{over[1]} {phrase.object}"
    if kind == "onto":
        return _draw_two_way(draw, ACC, theme)
    return _draw_two_way(draw, DAT, subject.noun)


# Whole, half and quarter hours are the most common.
_CLOCK_TIMES = tuple(
    (f"um {german.spell_time(*time)}", f"at {english.spell_time(*time)}")
    for time in itertools.product(range(1, 13), (0, 0, 15, 30, 30, 45, 5, 10, 20, 50))
)
# Every month has its days up to the twenty-eighth.
_DATES = tuple(
    (
        f"am {german.spell_ordinal(day)}en {german.MONTHS[month]}",
        f"on the {english.spell_ordinal(day)} of {english.MONTHS[month]}",
    )
    for day, month in itertools.product(range(1, 29), range(12))
)


def draw_clock(draw: Draw) -> Pair:
    """Return a time of day."""
    return pick(draw, _CLOCK_TIMES)


def draw_date(draw: Draw) -> Pair:
    """Return a day of a month."""
    return pick(draw, _DATES)
