"""Templates with numbers: counts, ages, prices, dates and times of day."""

from __future__ import annotations

from . import english, german
from .adverbials import PEOPLE, PLACES, draw_clock, draw_date, draw_place
from .german import ACC, NOM
from .nouns import parse_adjectives, select
from .phrases import (
    NAMES,
    SIE_PLURAL,
    Draw,
    draw_definite,
    pick,
)

Pair = tuple[str, str]
_COUNTABLE = select("goods:portable Buch fruit Ei Brötchen Keks plant farm pet")
OUTSIDE = select("plant farm pet prey")
INSIDE = select("goods:portable Buch fruit Ei Kiste Stuhl Teppich")
OPEN_AIR = tuple(PLACES[name] for name in ("Garten", "Park", "Dorf", "Wald"))
STORES = tuple(PLACES[name] for name in ("Küche", "Laden", "Keller", "Zimmer"))
_COUNTERS = (
    (("hat", "haben"), ("has", "have"), _COUNTABLE),
    (("kauft", "kaufen"), ("is buying", "are buying"), _COUNTABLE),
    (("verkauft", "verkaufen"), ("is selling", "are selling"), _COUNTABLE),
    (("brauchte", "brauchten"), ("needed", "needed"), _COUNTABLE),
    (("fotografierte", "fotografierten"), ("photographed", "photographed"), OUTSIDE),
)


def counting(draw: Draw) -> Pair:
    """How many there are of something."""
    number = 2 + int(draw() * 98) if draw() < 0.85 else pick(draw, (100, 110, 120, 150, 200, 235, 250, 365, 500, 999))
    count, count_en = german.spell_cardinal(number), english.spell_cardinal(number)
    if draw() < 0.35:
        outside = draw() < 0.5
        thing = pick(draw, OUTSIDE if outside else INSIDE)
        plural = thing.german[1]
        place = draw_place(draw, OPEN_AIR if outside else STORES, False)
        finite = pick(draw, (("sind", "are"), ("waren", "were")))
        return (
            f"{place[0]} {finite[0]} {count} {plural[0]}",
            f"there {finite[1]} {count_en} {thing.english[1]} {place[1]}",
        )
    verb, verb_en, things = pick(draw, _COUNTERS)
    thing = pick(draw, things)
    plural = thing.german[1]
    subject = pick(draw, NAMES) if draw() < 0.3 else draw_definite(draw, PEOPLE, 0.3, 0.2)
    many = subject.person == SIE_PLURAL
    return (
        f"{subject.german[NOM]} {verb[many]} {count} {plural[ACC]}",
        f"{subject.subject} {verb_en[many]} {count_en} {thing.english[1]}",
    )


_PRICED = tuple(noun for noun in select("goods") if noun.is_a(":thing") or noun.is_a(":clothes"))
_PAGED = select("Buch Heft Roman")


def measure(draw: Draw) -> Pair:
    """An age, a price or a number of pages."""
    chance = draw()
    number = 2 + int(draw() * 98)
    count, count_en = german.spell_cardinal(number), english.spell_cardinal(number)
    if chance < 0.4:
        subject = pick(draw, NAMES) if draw() < 0.4 else draw_definite(draw, PEOPLE, 0.2)
        name = subject.german[NOM]
        if draw() < 0.3:
            return f"{name} ist noch nicht {count} Jahre alt", f"{subject.subject} is not yet {count_en} years old"
        return f"{name} ist {count} Jahre alt", f"{subject.subject} is {count_en} years old"
    if chance < 0.8:
        thing = draw_definite(draw, _PRICED, 0.5, 0.2)
        many = thing.person == SIE_PLURAL
        if draw() < 0.5:
            return (
                f"{thing.german[NOM]} {'kosten' if many else 'kostet'} {count} Euro",
                f"{thing.subject} {'cost' if many else 'costs'} {count_en} euros",
            )
        return (
            f"{thing.german[NOM]} {'kosteten' if many else 'kostete'} nur {count} Euro",
            f"{thing.subject} cost only {count_en} euros",
        )
    text = draw_definite(draw, _PAGED, 0.5)
    number += 100 * int(draw() * 4)
    if number % 100 == 1:
        number += 1
    count, count_en = german.spell_cardinal(number), english.spell_cardinal(number)
    return f"{text.german[NOM]} hat {count} Seiten", f"{text.subject} has {count_en} pages"


_EVENTS = select("event")
_VENUES = tuple(PLACES[name] for name in ("Park", "Theater", "Garten", "Museum", "Universität"))
_DAYS = parse_adjectives(
    "Montag Monday,Dienstag Tuesday,Mittwoch Wednesday,Donnerstag Thursday,Freitag Friday,Samstag Saturday,"
    "Sonntag Sunday"
)


def date(draw: Draw) -> Pair:
    """A day of the year, in the dative after am and in the nominative."""
    chance = draw()
    if chance < 0.35:
        when, when_en = draw_date(draw)
        subject = pick(draw, NAMES) if draw() < 0.4 else draw_definite(draw, PEOPLE, 0.2)
        return f"{subject.german[NOM]} wurde {when} geboren", f"{subject.subject} was born {when_en}"
    if chance < 0.6:
        when, when_en = draw_date(draw)
        event = draw_definite(draw, _EVENTS, 0.4)
        ahead = draw() < 0.5
        place = draw_place(draw, _VENUES, False)
        if ahead:
            return (
                f"{event.german[NOM]} findet {when} {place[0]} statt",
                f"{event.subject} will take place {place[1]} {when_en}",
            )
        return (
            f"{event.german[NOM]} hat {when} {place[0]} stattgefunden",
            f"{event.subject} took place {place[1]} {when_en}",
        )
    day, day_en = pick(draw, _DAYS)
    month, number = int(draw() * 12), 1 + int(draw() * 28)
    ordinal, ordinal_en = german.spell_ordinal(number), f"{english.spell_ordinal(number)} of {english.MONTHS[month]}"
    head, head_en = pick(
        draw, (("heute ist", "today is"), ("morgen ist", "tomorrow is"), ("gestern war", "yesterday was"))
    )
    if chance < 0.8:
        return f"{head} {day}, der {ordinal}e {german.MONTHS[month]}", f"{head_en} {day_en}, the {ordinal_en}"
    return f"{head} der {ordinal}e {german.MONTHS[month]}", f"{head_en} the {ordinal_en}"


_SCHEDULED = (
    (select("Zug Bus"), "fährt", "ab", "leaves", "will leave"),
    (select("Zug Bus"), "kommt", "an", "arrives", "will arrive"),
    (select("Film Konzert Kurs Spiel Fest"), "fängt", "an", "starts", "will start"),
    (select("Film Konzert Kurs Spiel"), "hört", "auf", "ends", "will end"),
)


def schedule(draw: Draw) -> Pair:
    """When something starts or leaves, with a separable verb."""
    nouns, verb, prefix, simple, future = pick(draw, _SCHEDULED)
    subject, (time, time_en) = draw_definite(draw, nouns, 0.4), draw_clock(draw)
    day, day_en = pick(draw, (("", ""), ("heute ", " today"), ("morgen ", " tomorrow"), ("jeden Tag ", " every day")))
    name = subject.german[NOM]
    english_verb = future if day in ("heute ", "morgen ") else simple
    if draw() < 0.3:
        if english_verb == simple:
            return f"wann {verb} {name} {prefix}?", f"when does {subject.subject} {future[5:]}?"
        return f"wann {verb} {name} {day}{prefix}?", f"when {future[:4]} {subject.subject} {future[5:]}{day_en}?"
    if draw() < 0.2:
        infinitive = {"fährt": "abfahren", "kommt": "ankommen", "fängt": "anfangen", "hört": "aufhören"}[verb]
        return f"{name} soll {time} {infinitive}", f"{subject.subject} should {future[5:]} {time_en}"
    return f"{name} {verb} {day}{time} {prefix}", f"{subject.subject} {english_verb} {time_en}{day_en}"


TEMPLATES = (
    ("counting", counting, 8),
    ("measure", measure, 6),
    ("date", date, 6),
    ("schedule", schedule, 5),
)
