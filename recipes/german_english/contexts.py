"""Templates that leave something open which only the rest of the sentence decides."""

from __future__ import annotations

from .adverbials import PEOPLE
from .clauses import PERFECT, PRESENT, Clause, Event, say_english, say_final, say_main, say_question
from .events import draw_definite_subject, draw_event
from .german import ACC, DAT, FEM, NOM, contract
from .nouns import select
from .phrases import (
    NAMES,
    SIE_PLURAL,
    THEY,
    Draw,
    Phrase,
    build,
    draw_definite,
    get_pronoun,
    pick,
)
from .senses import SENSES
from .subordinates import ADULTS, STATES, Pair, draw_person
from .tenses import put_in_time
from .verbs import INTRANSITIVE, make_verb

# With these the verb alone leaves both meanings open.
_NEEDS_TAIL = frozenset(("bouquet", "snake", "lock", "wing"))
_COUNTLESS = frozenset(("clay", "sea", "wheel"))


def _draw_sense(draw: Draw, subject: Phrase) -> Event:
    sense = pick(draw, SENSES)
    noun, verb = sense.noun, sense.verb
    adjective = pick(draw, noun.adjectives) if noun.adjectives and draw() < 0.55 else None
    name = noun.english[0]
    if name == "clay":
        determiner = ""
    elif name in _COUNTLESS or (sense.link in ("at ", "in ", "") and sense.preposition):
        determiner = "der"
    else:
        determiner = pick(draw, ("der", "der", "ein", "dieser"))
    phrase = build(noun, determiner, False, adjective)
    tail = pick(draw, sense.tails) if sense.tails and (draw() < 0.75 or name in _NEEDS_TAIL) else ("", "")
    text = f"{phrase.object} {tail[1]}".rstrip()
    if not sense.preposition:
        return Event(
            subject,
            verb,
            accusative=f" {phrase.german[ACC]} {tail[0]}".rstrip(),
            english=f"{verb.particle} {text}",
            indefinite=True,
        )
    event = Event(subject, verb, indefinite=True)
    event.tail = f" {contract(sense.preposition, phrase.german[sense.case])} {tail[0]}".rstrip()
    event.english = f" {sense.link}{text}"
    if sense.objects:
        thing, thing_en = pick(draw, sense.objects)
        event.accusative, event.english = f" {thing}", f" {thing_en}{event.english}"
    return event


def ambiguous_word(draw: Draw) -> Pair:
    """A word of two meanings, told apart by the verb and what else there is."""
    subject = draw_definite_subject(draw, INTRANSITIVE[1])
    clause = put_in_time(draw, _draw_sense(draw, subject), "nnpppfmw")
    chance = draw()
    if chance < 0.2 and clause.time and clause.time.german != "gerade":
        return say_main(clause, "time"), say_english(clause, front_time=True)
    if chance < 0.35 and not subject.pronoun:
        knower = pick(draw, (("ich weiß", "I know"), ("ich glaube", "I believe"), ("wir hoffen", "we hope")))
        return f"{knower[0]}, dass {say_final(clause)}", f"{knower[1]} that {say_english(clause)}"
    return say_main(clause), say_english(clause)


_THINGS = select("portable vehicle clothes gift :door seat base goods:fixed")
_THINGS = tuple(noun for noun in _THINGS if len(noun.adjectives) > 3)
_BUYABLE = tuple(noun for noun in _THINGS if noun.is_a("goods"))
_BUYS = tuple(
    make_verb(verb, parts, english, "", "person", "transitive")
    for verb, parts, english in (
        ("kaufen", "", "buy,bought"),
        ("verkaufen", "", "sell,sold"),
        ("bestellen", "", "order"),
        ("zurück+geben", "gibt gab gegeben", "return"),
    )
)
_REASONS = {
    "kaufen": "neu schön billig warm elegant",
    "verkaufen": "alt hässlich schwer groß",
    "bestellen": "neu schön billig",
    "zurückgeben": "schwer groß hässlich klein teuer",
}


def _draw_contrast(draw: Draw) -> Pair | None:
    noun = pick(draw, _THINGS)
    phrase = build(noun, pick(draw, ("der", "dieser")), draw() < 0.2)
    one, two = pick(draw, noun.adjectives), pick(draw, noun.adjectives)
    if one == two:
        return None
    pronoun = get_pronoun(phrase)
    many = phrase.person == SIE_PLURAL
    be, be_en = ("sind", "are") if many else ("ist", "is")
    word, word_en = pick(draw, ((", aber", ", but"), (" und", ", and")))
    negation, negation_en = (" nicht", " not") if draw() < 0.3 else ("", "")
    german = f"{phrase.german[NOM]} {be} {one[0]}{word} {pronoun.german[NOM]} {be}{negation} {two[0]}"
    return german, f"{phrase.subject} {be_en} {one[1]}{word_en} {pronoun.subject} {be_en}{negation_en} {two[1]}"


def pronoun_gender(draw: Draw) -> Pair | None:
    """A pronoun that follows the grammatical gender of a thing in German and is it in English."""
    chance = draw()
    if chance < 0.35:
        return _draw_contrast(draw)
    subject = draw_person(draw)
    if chance < 0.6:
        verb = pick(draw, _BUYS)
        thing = build(pick(draw, _BUYABLE), pick(draw, ("der", "dieser")), draw() < 0.15)
        assert thing.noun is not None
        wanted = _REASONS[verb.de.infinitive].split()
        reasons = [pair for pair in thing.noun.adjectives if pair[0] in wanted]
        if not reasons:
            return None
        adjective, pronoun = pick(draw, reasons), get_pronoun(thing)
        many, past = thing.person == SIE_PLURAL, draw() < 0.5
        be, be_en = (
            (("waren", "were") if many else ("war", "was")) if past else ("sind", "are") if many else ("ist", "is")
        )
        event = Event(subject, verb, accusative=f" {thing.german[ACC]}", english=f" {thing.object}")
        clause = Clause(event, PERFECT if past else PRESENT, "past" if past else "progressive")
        reason = f"weil {pronoun.german[NOM]} {adjective[0]} {be}"
        return (
            f"{say_main(clause)}, {reason}",
            f"{say_english(clause)} because {pronoun.subject} {be_en} {adjective[1]}",
        )
    return _draw_search(draw, subject) if chance < 0.85 else _draw_gift(draw, subject)


_SEARCH = make_verb("suchen", "", "look,, for", "", "person", "transitive")
_BUY = _BUYS[0]
_SOUGHT = select("portable vehicle pet")


def _draw_search(draw: Draw, subject: Phrase) -> Pair | None:
    noun = pick(draw, _SOUGHT)
    thing = build(noun, pick(draw, ("der", "mein", "unser") if noun.is_a("p") else ("der",)), draw() < 0.2)
    event = Event(subject, _SEARCH, accusative=f" {thing.german[ACC]}", english=f" for {thing.object}")
    past = draw() < 0.4
    clause = Clause(event, PERFECT if past else PRESENT, "past" if past else "progressive")
    again, it = get_pronoun(subject), get_pronoun(thing)
    can = "konnte konntest konnte konnten konntet konnten" if past else "kann kannst kann können könnt können"
    second = f"{again.german[NOM]} {can.split()[subject.person]} {it.german[ACC]} nicht finden"
    second_en = f"{again.subject} {'could not' if past else 'cannot'} find {it.object}"
    return f"{say_main(clause)}, aber {second}", f"{say_english(clause)}, but {second_en}"


def _draw_gift(draw: Draw, subject: Phrase) -> Pair | None:
    thing = build(pick(draw, _BUYABLE), pick(draw, ("ein", "der")))
    friend = draw_definite(draw, PEOPLE, 0.2, 0.15)
    if friend.noun is subject.noun is not None:
        return None
    event = Event(subject, _BUY, accusative=f" {thing.german[ACC]}", english=f" {thing.object}")
    clause, it = Clause(event, PERFECT, "past"), get_pronoun(thing)
    verb, verb_en = pick(
        draw, (("geschenkt", "gave"), ("gezeigt", "showed"), ("gegeben", "gave"), ("geliehen", "lent"))
    )
    german = f"{say_main(clause)} und {it.german[ACC]} {friend.german[DAT]} {verb}"
    return german, f"{say_english(clause)} and {verb_en} {it.object} to {friend.object}"


_KIN = select("Bruder Onkel Sohn Großvater Schwester Tante Tochter Großmutter Vater Mutter")
_OWN = select("portable:p pet vehicle")
_WITH_KIN = tuple(
    make_verb(verb, parts, english, "", "person", "transitive")
    for verb, parts, english in (
        ("besuchen", "", "visit"),
        ("an+rufen", "ruft rief gerufen", "call"),
        ("ab+holen", "", "pick ~up"),
        ("suchen", "", "look,, for"),
        ("ein+laden", "lädt lud geladen", "invite"),
    )
)
_WITH_OWN = tuple(
    make_verb(verb, parts, english, "", "person", "transitive")
    for verb, parts, english in (
        ("verkaufen", "", "sell,sold"),
        ("suchen", "", "look,, for"),
        ("holen", "", "get,got"),
        ("mit+bringen", "bringt brachte gebracht", "bring,brought along"),
    )
)


def owner(draw: Draw) -> Pair | None:
    """A possessive that is his, her or their by the subject."""
    people = tuple(noun for noun in ADULTS if not noun.is_a("k"))
    subject = pick(draw, NAMES) if draw() < 0.35 else draw_definite(draw, people, 0.3, 0.4)
    determiner = "ihr+" if subject.person == SIE_PLURAL else "ihr" if subject.gender == FEM else "sein"
    kin = draw() < 0.5
    noun = pick(draw, _KIN if kin else _OWN)
    verb = pick(draw, _WITH_KIN if kin else _WITH_OWN)
    adjective = pick(draw, noun.adjectives) if draw() < 0.35 else None
    thing = build(noun, determiner, draw() < 0.15 and not noun.is_a("single"), adjective)
    event = Event(subject, verb, accusative=f" {thing.german[ACC]}", english=f"{verb.particle} {thing.object}")
    clause = put_in_time(draw, event, "nnpppfm", negate=0.08)
    chance = draw()
    if chance < 0.2 and clause.time and clause.time.german != "gerade":
        return say_main(clause, "time"), say_english(clause, front_time=True)
    return say_main(clause), say_english(clause)


_SHE_OR_THEY = tuple(noun for noun in ADULTS if noun.is_a("she"))
_AT_WORK = tuple(
    verb for verb in INTRANSITIVE if verb.tails[0] in ("work", "out", "room", "water") and len(verb.agents) > 20
)


def she_or_they(draw: Draw) -> Pair:
    """The pronoun sie, which the verb and the noun before it tell apart."""
    noun = pick(draw, _SHE_OR_THEY)
    determiner = pick(draw, ("mein", "dein", "unser")) if noun.is_a("k") else pick(draw, ("der", "dieser"))
    subject = build(noun, determiner, draw() < 0.5 and not noun.is_a("single"))
    many, adjective = subject.person == SIE_PLURAL, pick(draw, STATES)
    pronoun = THEY if many else get_pronoun(subject)
    clause = Clause(draw_event(draw, pronoun, _AT_WORK, tails=0.5), PRESENT, "progressive")
    head = f"{subject.german[NOM]} {'sind' if many else 'ist'} {adjective[0]}"
    head_en = f"{subject.subject} {'are' if many else 'is'} {adjective[1]}"
    if draw() < 0.5 or adjective[0] == "glücklich":
        return f"{head}, aber {say_main(clause)}", f"{head_en}, but {say_english(clause)}"
    clause.negated = True
    return f"{head}, deshalb {say_question(clause)}", f"{head_en}, so {say_english(clause)}"


TEMPLATES = (
    ("ambiguous_word", ambiguous_word, 16),
    ("pronoun_gender", pronoun_gender, 14),
    ("owner", owner, 8),
    ("she_or_they", she_or_they, 5),
)
