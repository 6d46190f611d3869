"""Templates with numbers: counts, ages, prices, dates and times of day."""

from __future__ import annotations

from . import english, german
from .adverbials import draw_clock, draw_date, draw_place, select_places
from .notation import Draw, Pair, say, template
from .nouns import PEOPLE, select
from .phrases import choose, draw_definite, draw_someone, pick

_COUNTABLE = select("goods:portable Buch fruit Ei Brötchen Keks plant farm pet")
OUTSIDE = select("plant farm pet prey")
INSIDE = select("goods:portable Buch fruit Ei Kiste Stuhl Teppich")
OPEN_AIR = select_places("Garten Park Dorf Wald")
STORES = select_places("Küche Laden Keller Zimmer")
# Verbs in the singular and in the plural.
_COUNTERS = (
    (("hat", "has"), ("haben", "have"), _COUNTABLE),
    (("kauft", "is buying"), ("kaufen", "are buying"), _COUNTABLE),
    (("verkauft", "is selling"), ("verkaufen", "are selling"), _COUNTABLE),
    (("brauchte", "needed"), ("brauchten", "needed"), _COUNTABLE),
    (("fotografierte", "photographed"), ("fotografierten", "photographed"), OUTSIDE),
)


def _spell(number: int) -> Pair:
    return german.spell_cardinal(number), english.spell_cardinal(number)


@template(8)
def counting(draw: Draw) -> Pair:
    """A number of things."""
    count = _spell(
        2 + int(draw() * 98) if draw() < 0.85 else pick(draw, (100, 110, 120, 150, 200, 235, 250, 365, 500, 999))
    )
    if draw() < 0.35:
        outside = draw() < 0.5
        thing = pick(draw, OUTSIDE if outside else INSIDE)
        return say(
            "{place} {be} {count} {thing.german[1][0]} = there {be} {count} {thing.english[1]} {place}",
            count=count,
            thing=thing,
            place=draw_place(draw, OPEN_AIR if outside else STORES),
            be=choose(draw, "sind = are; waren = were"),
        )
    one, many, things = pick(draw, _COUNTERS)
    thing = pick(draw, things)
    subject = draw_someone(draw, PEOPLE, 0.3, 0.3, 0.2)
    text = "{who.nom} {verb} {count} {thing.german[1][1]} = {who.subject} {verb} {count} {thing.english[1]}"
    return say(text, who=subject, verb=many if subject.many else one, count=count, thing=thing)


_PRICED = tuple(noun for noun in select("goods") if noun.is_a(":thing") or noun.is_a(":clothes"))
_PAGED = select("Buch Heft Roman")


@template(6)
def measure(draw: Draw) -> Pair:
    """An age, a price or a number of pages."""
    chance = draw()
    number = 2 + int(draw() * 98)
    if chance < 0.4:
        subject, verb = draw_someone(draw, PEOPLE, 0.4, 0.2), ("", "")
        if draw() < 0.3:
            text = "{it.nom} ist noch nicht {count} Jahre alt = {it.subject} is not yet {count} years old"
        else:
            text = "{it.nom} ist {count} Jahre alt = {it.subject} is {count} years old"
    elif chance < 0.8:
        subject = draw_definite(draw, _PRICED, 0.5, 0.2)
        if draw() < 0.5:
            verb = ("kosten", "cost") if subject.many else ("kostet", "costs")
            text = "{it.nom} {verb} {count} Euro = {it.subject} {verb} {count} euros"
        else:
            verb = ("kosteten", "cost") if subject.many else ("kostete", "cost")
            text = "{it.nom} {verb} nur {count} Euro = {it.subject} {verb} only {count} euros"
    else:
        subject, verb = draw_definite(draw, _PAGED, 0.5), ("", "")
        number += 100 * int(draw() * 4)
        number += number % 100 == 1
        text = "{it.nom} hat {count} Seiten = {it.subject} has {count} pages"
    return say(text, it=subject, verb=verb, count=_spell(number))


_EVENTS = select("event")
_VENUES = select_places("Park Theater Garten Museum Universität")
_DAYS = (
    "Montag = Monday; Dienstag = Tuesday; Mittwoch = Wednesday; Donnerstag = Thursday; Freitag = Friday; "
    "Samstag = Saturday; Sonntag = Sunday"
)


@template(6)
def date(draw: Draw) -> Pair:
    """A day of the year, in the dative after am and in the nominative."""
    chance = draw()
    if chance < 0.35:
        text = "{who.nom} wurde {day} geboren = {who.subject} was born {day}"
        return say(text, day=draw_date(draw), who=draw_someone(draw, PEOPLE, 0.4, 0.2))
    if chance < 0.6:
        day, event = draw_date(draw), draw_definite(draw, _EVENTS, 0.4)
        if draw() < 0.5:
            text = "{e.nom} findet {day} {place} statt = {e.subject} will take place {place} {day}"
        else:
            text = "{e.nom} hat {day} {place} stattgefunden = {e.subject} took place {place} {day}"
        return say(text, day=day, e=event, place=draw_place(draw, _VENUES))
    weekday = choose(draw, _DAYS)
    month, number = int(draw() * 12), 1 + int(draw() * 28)
    day = (
        f"der {german.spell_ordinal(number)}e {german.MONTHS[month]}",
        f"the {english.spell_ordinal(number)} of {english.MONTHS[month]}",
    )
    head = choose(draw, "heute ist = today is; morgen ist = tomorrow is; gestern war = yesterday was")
    text = "{head} {weekday}, {day} = {head} {weekday}, {day}" if chance < 0.8 else "{head} {day} = {head} {day}"
    return say(text, head=head, weekday=weekday, day=day)


# Subjects, German finite verb, its prefix and infinitive, English verb.
_SCHEDULED = (
    (select("Zug Bus"), "fährt", "ab", "abfahren", "leave"),
    (select("Zug Bus"), "kommt", "an", "ankommen", "arrive"),
    (select("Film Konzert Kurs Spiel Fest"), "fängt", "an", "anfangen", "start"),
    (select("Film Konzert Kurs Spiel"), "hört", "auf", "aufhören", "end"),
)


@template(5)
def schedule(draw: Draw) -> Pair:
    """The time at which something starts or leaves, with a separable verb."""
    nouns, finite, prefix, infinitive, verb = pick(draw, _SCHEDULED)
    subject, time = draw_definite(draw, nouns, 0.4), draw_clock(draw)
    day = pick(draw, (("", ""), ("heute ", " today"), ("morgen ", " tomorrow"), ("jeden Tag ", " every day")))
    ahead = day[0] in ("heute ", "morgen ")
    if draw() < 0.3:
        if ahead:
            text = "wann {finite} {it.nom} {day}{prefix}? = when will {it.subject} {verb}{day}?"
        else:
            text = "wann {finite} {it.nom} {prefix}? = when does {it.subject} {verb}?"
    elif draw() < 0.2:
        text = "{it.nom} soll {time} {infinitive} = {it.subject} should {verb} {time}"
    elif ahead:
        text = "{it.nom} {finite} {day}{time} {prefix} = {it.subject} will {verb} {time}{day}"
    else:
        text = "{it.nom} {finite} {day}{time} {prefix} = {it.subject} {verb}s {time}{day}"
    return say(text, it=subject, finite=finite, prefix=prefix, infinitive=infinitive, verb=verb, time=time, day=day)
