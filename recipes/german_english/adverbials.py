"""Adverbials of place, manner and time in both languages."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from . import english, german
from .german import ACC, DAT
from .nouns import NOUNS, Noun, make_noun, parse_adjectives
from .phrases import NAMES, Draw, Phrase, build, draw_definite, pick

Pair = tuple[str, str]

# noun | English | preposition where to, English | preposition where, English | adjectives
_PLACES = """
Park m s Parks | park | in to | in in | groß big,schön beautiful,alt old
Garten m s Gärten | garden | in into | in in | groß big,klein small,schön beautiful
Küche f - Küchen | kitchen | in into | in in | klein small,neu new
Stadt f - Städte | city | in to | in in | alt old,groß big
Kino n s Kinos | cinema | in to | in at | neu new,alt old
Theater n s Theater | theatre | in to | in at | neu new,alt old
Museum n s Museen | museum | in to | in at | modern modern,neu new
Restaurant n s Restaurants | restaurant | in to | in at | neu new,teuer expensive,klein small
Café n s Cafés | café | in to | in in | klein small,neu new
Markt m es Märkte | market | auf to | auf at | groß big
Bahnhof m es Bahnhöfe | station | zu to | an at | neu new,alt old
Flughafen m s Flughäfen | airport | zu to | an at | neu new
Krankenhaus n es Krankenhäuser | hospital | in to | in in | neu new
Bibliothek f - Bibliotheken | library | in to | in in | groß big,neu new,alt old
Wald m es Wälder | forest | in into | in in | dunkel dark,groß big
Büro n s Büros | office | in to | in at | neu new
Supermarkt m es Supermärkte | supermarket | in to | in at | neu new,groß big
Laden m s Läden | shop | in into | in in | klein small,neu new
Dorf n es Dörfer | village | in to | in in | klein small,alt old
Zoo m s Zoos | zoo | in to | in at | groß big
Universität f - Universitäten | university | zu to | an at | alt old,neu new
See m s Seen | lake | an to | an by | groß big,ruhig quiet
Meer n es Meere | sea | an to | an by |
Strand m es Strände | beach | an to | an on |
Bäckerei f - Bäckereien | bakery | in to | in at | klein small,neu new
Keller m s Keller | cellar | in into | in in | dunkel dark,feucht damp
Zimmer n s Zimmer | room | in into | in in | klein small,ruhig quiet
Schwimmbad n es Schwimmbäder | swimming_pool | in to | in at | neu new
"""
CITIES: tuple[Pair, ...] = parse_adjectives(
    "Berlin Berlin,Hamburg Hamburg,München Munich,Köln Cologne,Wien Vienna,Paris Paris,London London,Rom Rome,"
    "Prag Prague,Zürich Zurich,Leipzig Leipzig,"
    "Dresden Dresden,Bremen Bremen,Warschau Warsaw,Nürnberg Nuremberg,Lissabon Lisbon"
)
_COUNTRIES = parse_adjectives(
    "Frankreich France,Italien Italy,Spanien Spain,Polen Poland,Schweden Sweden,Griechenland Greece,Österreich Austria"
)
_CITIES_TO = (
    *tuple((f"nach {de}", f"to {en}") for de, en in CITIES + _COUNTRIES),
    ("in die Schweiz", "to Switzerland"),
    ("in die Türkei", "to Turkey"),
)


@dataclass(frozen=True)
class Place:
    """A place one goes to or is at, with the prepositions of either."""

    noun: Noun
    to: Pair
    at: Pair


def _parse_places() -> dict[str, Place]:
    places = {}
    for line in _PLACES.strip().splitlines():
        german_part, english_part, to, at, adjectives = (part.strip() for part in line.split("|"))
        (to_de, to_en), (at_de, at_en) = to.split(), at.split()
        noun = make_noun(german_part, english_part)
        noun = Noun(noun.lemma, noun.gender, noun.german, noun.english, parse_adjectives(adjectives))
        places[noun.lemma] = Place(noun, (to_de, to_en), (at_de, at_en))
    return places


PLACES = _parse_places()


def _places(names: str) -> tuple[Place, ...]:
    return tuple(PLACES[name] for name in names.split())


_AT = {
    "out": _places("Park Garten Stadt Markt See Strand Zoo Wald Dorf"),
    "room": _places("Küche Garten Café Restaurant Zimmer"),
    "shop": _places("Supermarkt Markt Laden Stadt"),
    "read": _places("Garten Park Bibliothek Café Büro Zimmer"),
    "find": _places("Garten Küche Park Keller Zimmer Büro Laden Wald"),
    "eat": _places("Küche Garten Restaurant Café Park"),
    "home": _places("Garten Keller Küche"),
    "work": _places("Büro Garten Krankenhaus Supermarkt Bibliothek Museum Restaurant Universität"),
}
_TO = tuple(PLACES.values())
_FAR = _places("Bahnhof Flughafen Meer Strand See Dorf Universität Krankenhaus Zoo Stadt Museum")


def _entries(text: str) -> tuple[Pair, ...]:
    pairs = [entry.split(" = ") for entry in text.split("; ")]
    return tuple((de, en) for de, en in pairs)


_FIXED = {
    "loud": _entries("laut = loudly; leise = quietly"),
    "fast": _entries("schnell = fast; langsam = slowly"),
    "kitchen": _entries("in der Küche = in the kitchen; zu Hause = at home"),
    "run": _entries(
        "im Garten = in the garden; über die Straße = across the road; schnell = fast; im Wald = in the forest"
    ),
    "slow": _entries("langsam = slowly; vorsichtig = carefully; schnell = quickly"),
    "sleep": _entries("auf dem Sofa = on the sofa; im Garten = in the garden; unter dem Baum = under the tree"),
    "water": _entries(
        "im See = in the lake; im Meer = in the sea; im Fluss = in the river; im Schwimmbad = at the swimming pool"
    ),
    "arrive": _entries("am Bahnhof = at the station; am Flughafen = at the airport; in der Stadt = in the city"),
    "present": _entries("zu Weihnachten = for Christmas"),
    "wait": _entries(
        "vor dem Kino = in front of the cinema; neben der Tür = next to the door; an der Ecke = on the corner; "
        "vor der Schule = in front of the school; auf der Brücke = on the bridge; hinter dem Haus = behind the house"
    ),
    "sit": _entries(
        "auf dem Sofa = on the sofa; am Tisch = at the table; am Fenster = by the window; im Zug = on the train; "
        "unter dem Baum = under the tree; im Garten = in the garden; auf dem Boden = on the floor"
    ),
    "home_city": _entries(
        "in einem kleinen Dorf = in a small village; in einem alten Haus = in an old house; am Meer = by the sea; "
        "auf einer kleinen Insel = on a small island; in der Stadt = in the city; "
        "neben der Kirche = next to the church; in einem großen Haus = in a big house; "
        "am Wald = near the forest; in einer ruhigen Straße = in a quiet street"
    ),
}
_EARLY = _entries("früh = early; spät = late")
_EXTRA_TO = _entries("in die Schule = to school; nach Hause = home; zur Arbeit = to work; in die Kirche = to church")
_VEHICLES = _entries(
    "mit dem Zug = by train; mit dem Bus = by bus; mit dem Auto = by car; mit dem Fahrrad = by bicycle"
)
_SURFACES = {
    ("auf", "on"): "Tisch Stuhl Sofa Bett Schrank Teppich",
    ("unter", "under"): "Tisch Bett Stuhl Baum Sofa",
    ("neben", "next to"): "Lampe Tür Fenster Sofa Bett Schrank Tisch Klavier",
    ("hinter", "behind"): "Tür Sofa Schrank Spiegel Vase",
    ("vor", "in front of"): "Tür Fenster Bett Haus Schrank Spiegel",
    ("in", "in"): "Schrank Kiste Korb",
}
_TWO_WAY = tuple((prep, NOUNS[name]) for prep, names in _SURFACES.items() for name in names.split())
_LANDINGS = tuple(NOUNS[name] for name in ["Tisch", "Stuhl", "Sofa", "Bett", "Kiste"])
_SURFACE_ADJECTIVES = parse_adjectives("groß big,klein small,alt old,neu new,schön beautiful")


def draw_two_way(draw: Draw, case: int, avoid: Noun | None) -> Pair:
    """Return a two-way preposition with its phrase: accusative for where to, dative for where."""
    if draw() < 0.1:
        first, second = pick(draw, (("Tisch", "Stuhl"), ("Bett", "Schrank"), ("Sofa", "Lampe"), ("Tür", "Fenster")))
        one, two = build(NOUNS[first], "der"), build(NOUNS[second], "der")
        if avoid is not NOUNS[first] and avoid is not NOUNS[second]:
            german_part = f"zwischen {one.german[case]} und {two.german[case]}"
            return german_part, f"between {one.object} and {two.object}"
    (prep_de, prep_en), noun = pick(draw, _TWO_WAY)
    while noun is avoid:
        (prep_de, prep_en), noun = pick(draw, _TWO_WAY)
    adjective = pick(draw, _SURFACE_ADJECTIVES) if draw() < 0.3 else None
    phrase = build(noun, "der", False, adjective)
    return german.contract(prep_de, phrase.german[case]), f"{prep_en} {phrase.object}"


def draw_place(draw: Draw, places: tuple[Place, ...], moving: bool) -> Pair:
    """Return where to (moving) or where, with the article merged into the preposition."""
    place = pick(draw, places)
    adjective = pick(draw, place.noun.adjectives) if place.noun.adjectives and draw() < 0.3 else None
    phrase = build(place.noun, "der", False, adjective)
    preposition, english_preposition = place.to if moving else place.at
    case = ACC if moving and preposition != "zu" else DAT
    return german.contract(preposition, phrase.german[case]), f"{english_preposition} {phrase.object}"


def _draw_company(draw: Draw, people: tuple[Noun, ...], subject: Phrase) -> Pair:
    companion = pick(draw, NAMES) if draw() < 0.4 else draw_definite(draw, people)
    while companion.german == subject.german or companion.noun is subject.noun is not None:
        companion = pick(draw, NAMES)
    return f"mit {companion.german[DAT]}", f"with {companion.object}"


PEOPLE = tuple(noun for noun in NOUNS.values() if noun.is_a("person"))


def draw_tail(draw: Draw, kind: str, subject: Phrase, theme: Noun | None) -> Pair:
    """Return an adverbial of a kind named in the verb tables."""
    if kind in _AT:
        return draw_place(draw, _AT[kind], False)
    if kind in _FIXED:
        return pick(draw, _FIXED[kind])
    if kind == "dest":
        return pick(draw, _EXTRA_TO) if draw() < 0.2 else draw_place(draw, _TO, True)
    if kind == "friends":
        return _draw_company(draw, PEOPLE, subject)
    if kind == "city":
        return pick(draw, _CITIES_TO)
    if kind == "in_city":
        city = pick(draw, CITIES)
        return f"in {city[0]}", f"in {city[1]}"
    if kind == "travel":
        vehicle, goal = pick(draw, _VEHICLES), pick(draw, _CITIES_TO) if draw() < 0.6 else draw_place(draw, _FAR, True)
        return f"{vehicle[0]} {goal[0]}", f"{goal[1]} {vehicle[1]}"
    if kind == "early":
        return draw_clock(draw) if draw() < 0.7 else pick(draw, _EARLY)
    if kind == "jump":
        noun = pick(draw, _LANDINGS)
        over = draw() < 0.3
        phrase = build(noun, "der", False, pick(draw, _SURFACE_ADJECTIVES) if draw() < 0.3 else None)
        return f"{'über' if over else 'auf'} {phrase.german[ACC]}", f"{'over' if over else 'onto'} {phrase.object}"
    if kind == "onto":
        return draw_two_way(draw, ACC, theme)
    return draw_two_way(draw, DAT, subject.noun)


def _list_clock_times() -> tuple[Pair, ...]:
    # Whole, half and quarter hours are what people say most.
    minutes = (0, 0, 15, 30, 30, 45, 5, 10, 20, 50)
    times = itertools.product(range(1, 13), minutes)
    return tuple((f"um {german.spell_time(*time)}", f"at {english.spell_time(*time)}") for time in times)


def _list_dates() -> tuple[Pair, ...]:
    dates = itertools.product(range(1, 29), range(12))
    return tuple(
        (
            f"am {german.spell_ordinal(day)}en {german.MONTHS[month]}",
            f"on the {english.spell_ordinal(day)} of {english.MONTHS[month]}",
        )
        for day, month in dates
    )


_CLOCK_TIMES = _list_clock_times()
_DATES = _list_dates()


def draw_clock(draw: Draw) -> Pair:
    """Return a time of day."""
    return pick(draw, _CLOCK_TIMES)


def draw_date(draw: Draw) -> Pair:
    """Return a day of a month, from the first to the twenty-eighth so that every month has it."""
    return pick(draw, _DATES)
