"""Templates with a word or form that only the rest of the sentence disambiguates."""

from __future__ import annotations

from .clauses import PERFECT, PRESENT, Clause, Event, be
from .events import act_on, draw_definite_subject, draw_event
from .german import FEM, contract
from .notation import Draw, Pair, say, template, words
from .nouns import ADULTS, PEOPLE, select
from .phrases import (
    THEY,
    Phrase,
    build,
    choose,
    draw_adjective,
    draw_bare,
    draw_definite,
    draw_someone,
    get_pronoun,
    pick,
)
from .subordinates import STATES, draw_person
from .tenses import put_in_time
from .verbs import INTRANSITIVE, SENSES, make_verbs

# With these words the verb alone leaves both meanings open.
_NEEDS_TAIL = frozenset(("bouquet", "snake", "lock", "wing"))
_DEFINITE = frozenset(("sea", "wheel"))


def _draw_sense(draw: Draw, subject: Phrase) -> Event:
    sense = pick(draw, SENSES)
    noun, name = sense.noun, sense.noun.english[0]
    adjective = draw_adjective(draw, noun, 0.55)
    if name == "clay":
        determiner = ""
    elif name in _DEFINITE or (sense.link in ("at ", "in ", "") and sense.preposition):
        determiner = "der"
    else:
        determiner = pick(draw, ("der", "der", "ein", "dieser"))
    phrase = build(noun, determiner, False, adjective)
    tail = pick(draw, sense.tails) if sense.tails and (draw() < 0.75 or name in _NEEDS_TAIL) else ("", "")
    text = f"{phrase.object} {tail[1]}".rstrip()
    event = Event(subject, sense.verb, indefinite=True)
    if not sense.preposition:
        event.accusative = f" {phrase.acc} {tail[0]}".rstrip()
        event.english = f"{sense.verb.particle} {text}"
        return event
    event.tail = f" {contract(sense.preposition, phrase.german[sense.case])} {tail[0]}".rstrip()
    event.english = f" {sense.link}{text}"
    if sense.objects:
        thing, thing_en = pick(draw, sense.objects)
        event.accusative, event.english = f" {thing}", f" {thing_en}{event.english}"
    return event


@template(16)
def ambiguous_word(draw: Draw) -> Pair:
    """A word of two meanings, told apart by the verb and the adverbial."""
    subject = draw_definite_subject(draw, INTRANSITIVE[1])
    clause = put_in_time(draw, _draw_sense(draw, subject), "nnpppfmw")
    chance = draw()
    if chance < 0.2 and clause.time and clause.time.german != "gerade":
        return clause.time_first
    if chance < 0.35 and not subject.pronoun:
        knower = choose(draw, "ich weiß = I know; ich glaube = I believe; wir hoffen = we hope")
        return say("{who}, dass {c.final} = {who} that {c.english}", who=knower, c=clause)
    return clause.both


_THINGS = tuple(
    noun for noun in select("portable vehicle clothes gift :door seat base goods:fixed") if len(noun.adjectives) > 3
)
_BUYABLE = tuple(noun for noun in _THINGS if noun.is_a("goods"))
_BUYS = make_verbs("""
kaufen | | buy,bought
verkaufen | | sell,sold
bestellen | | order
zurück+geben | gibt gab gegeben | return
""")
_REASONS = {
    "kaufen": words("neu schön billig warm elegant"),
    "verkaufen": words("alt hässlich schwer groß"),
    "bestellen": words("neu schön billig"),
    "zurückgeben": words("schwer groß hässlich klein teuer"),
}


def _draw_contrast(draw: Draw) -> Pair | None:
    noun = pick(draw, _THINGS)
    thing = build(noun, pick(draw, ("der", "dieser")), draw() < 0.2)
    one, two = pick(draw, noun.adjectives), pick(draw, noun.adjectives)
    if one == two:
        return None
    return say(
        "{a.nom} {be} {one}{word} {b.nom} {be}{no} {two} = {a.subject} {be} {one}{word} {b.subject} {be}{no} {two}",
        a=thing,
        b=get_pronoun(thing),
        be=be(thing),
        one=one,
        two=two,
        word=pick(draw, ((", aber", ", but"), (" und", ", and"))),
        no=(" nicht", " not") if draw() < 0.3 else ("", ""),
    )


def _draw_reason(draw: Draw, subject: Phrase) -> Pair | None:
    verb = pick(draw, _BUYS)
    noun = pick(draw, _BUYABLE)
    thing = build(noun, pick(draw, ("der", "dieser")), draw() < 0.15)
    reasons = [pair for pair in noun.adjectives if pair[0] in _REASONS[verb.de.infinitive]]
    if not reasons:
        return None
    reason, past = pick(draw, reasons), draw() < 0.5
    return say(
        "{c.main}, weil {it.nom} {a} {be} = {c.english} because {it.subject} {be} {a}",
        c=_do(act_on(subject, verb, thing), past),
        it=get_pronoun(thing),
        a=reason,
        be=be(thing, past),
    )


def _do(event: Event, past: bool) -> Clause:
    return Clause(event, PERFECT, "past") if past else Clause(event, PRESENT, "progressive")


_CANNOT = (
    (words("kann kannst kann können könnt können"), "cannot"),
    (words("konnte konntest konnte konnten konntet konnten"), "could not"),
)
(_SEARCH,) = make_verbs("suchen | | look,, for")
_SOUGHT = select("portable vehicle pet")


def _draw_search(draw: Draw, subject: Phrase) -> Pair:
    noun = pick(draw, _SOUGHT)
    thing = build(noun, pick(draw, ("der", "mein", "unser") if noun.is_a("p") else ("der",)), draw() < 0.2)
    past = draw() < 0.4
    can, cannot = _CANNOT[past]
    return say(
        "{c.main}, aber {who.nom} {can} {it.acc} nicht finden = {c.english}, but {who.subject} {can} find {it.object}",
        c=_do(act_on(subject, _SEARCH, thing), past),
        who=get_pronoun(subject),
        can=(can[subject.person], cannot),
        it=get_pronoun(thing),
    )


def _draw_gift(draw: Draw, subject: Phrase) -> Pair | None:
    thing = build(pick(draw, _BUYABLE), pick(draw, ("ein", "der")))
    friend = draw_definite(draw, PEOPLE, 0.2, 0.15)
    if friend.noun is subject.noun is not None:
        return None
    return say(
        "{c.main} und {it.acc} {friend.dat} {verb} = {c.english} and {verb} {it.object} to {friend.object}",
        c=_do(act_on(subject, _BUYS[0], thing), True),
        it=get_pronoun(thing),
        friend=friend,
        verb=choose(draw, "geschenkt = gave; gezeigt = showed; gegeben = gave; geliehen = lent"),
    )


@template(14)
def pronoun_gender(draw: Draw) -> Pair | None:
    """A pronoun that has the grammatical gender of a thing in German and is it in English."""
    chance = draw()
    if chance < 0.35:
        return _draw_contrast(draw)
    subject = draw_person(draw)
    if chance < 0.6:
        return _draw_reason(draw, subject)
    return _draw_search(draw, subject) if chance < 0.85 else _draw_gift(draw, subject)


_KIN = select("k")
_OWN = select("portable:p pet vehicle")
_WITH_KIN = make_verbs("""
besuchen | | visit
an+rufen | ruft rief gerufen | call
ab+holen | | pick ~up
suchen | | look,, for
ein+laden | lädt lud geladen | invite
""")
_WITH_OWN = make_verbs("""
verkaufen | | sell,sold
suchen | | look,, for
holen | | get,got
mit+bringen | bringt brachte gebracht | bring,brought along
""")
_OWNERS = tuple(noun for noun in ADULTS if not noun.is_a("k"))


@template(8)
def owner(draw: Draw) -> Pair | None:
    """A possessive that is his, her or their by the subject."""
    subject = draw_someone(draw, _OWNERS, 0.35, 0.3, 0.4)
    determiner = "ihr+" if subject.many else "ihr" if subject.gender == FEM else "sein"
    kin = draw() < 0.5
    noun = pick(draw, _KIN if kin else _OWN)
    verb = pick(draw, _WITH_KIN if kin else _WITH_OWN)
    adjective = draw_adjective(draw, noun, 0.35)
    thing = build(noun, determiner, draw() < 0.15 and not noun.is_a("single"), adjective)
    clause = put_in_time(draw, act_on(subject, verb, thing), "nnpppfm", negate=0.08)
    front = draw() < 0.2 and clause.time is not None and clause.time.german != "gerade"
    return clause.time_first if front else clause.both


_SHE_OR_THEY = select("she")
_AT_WORK = tuple(
    verb for verb in INTRANSITIVE if verb.tails[0] in ("work", "out", "room", "water") and len(verb.agents) > 20
)


@template(5)
def she_or_they(draw: Draw) -> Pair:
    """The pronoun sie, which the verb and the noun before it disambiguate."""
    subject = draw_bare(draw, pick(draw, _SHE_OR_THEY), "der dieser", 0.5)
    adjective = pick(draw, STATES)
    pronoun = THEY if subject.many else get_pronoun(subject)
    clause = Clause(draw_event(draw, pronoun, _AT_WORK, tails=0.5), PRESENT, "progressive")
    if draw() < 0.5 or adjective[0] == "glücklich":
        text = "{who.nom} {be} {a}, aber {c.main} = {who.subject} {be} {a}, but {c.english}"
    else:
        clause.negated = True
        text = "{who.nom} {be} {a}, deshalb {c.question} = {who.subject} {be} {a}, so {c.english}"
    return say(text, who=subject, be=be(subject), a=adjective, c=clause)
