"""German morphology: articles, adjective endings, noun and verb forms, numbers, dates and times."""

from __future__ import annotations

from dataclasses import dataclass

NOM, ACC, DAT, GEN = range(4)
# The plural has no gender in German, so it takes the place of a fourth one in every table.
MASC, FEM, NEUT, PLURAL = range(4)

Table = tuple[tuple[str, ...], ...]

DEFINITE: Table = (
    ("der", "den", "dem", "des"),
    ("die", "die", "der", "der"),
    ("das", "das", "dem", "des"),
    ("die", "die", "den", "der"),
)
DER_ENDINGS: Table = (
    ("er", "en", "em", "es"),
    ("e", "e", "er", "er"),
    ("es", "es", "em", "es"),
    ("e", "e", "en", "er"),
)
EIN_ENDINGS: Table = (
    ("", "en", "em", "es"),
    ("e", "e", "er", "er"),
    ("", "", "em", "es"),
    ("e", "e", "en", "er"),
)
WEAK: Table = (("e", "en", "en", "en"), ("e", "e", "en", "en"), ("e", "e", "en", "en"), ("en", "en", "en", "en"))
MIXED: Table = (("er", "en", "en", "en"), ("e", "e", "en", "en"), ("es", "es", "en", "en"), ("en", "en", "en", "en"))
STRONG: Table = (("er", "en", "em", "en"), ("e", "e", "er", "er"), ("es", "es", "em", "en"), ("e", "e", "en", "er"))
RELATIVE: Table = (
    ("der", "den", "dem", "dessen"),
    ("die", "die", "der", "deren"),
    ("das", "das", "dem", "dessen"),
    ("die", "die", "denen", "deren"),
)
CONTRACTIONS = {
    "in dem": "im",
    "in das": "ins",
    "an dem": "am",
    "an das": "ans",
    "zu dem": "zum",
    "zu der": "zur",
    "bei dem": "beim",
    "von dem": "vom",
}

_UNITS = [
    "null",
    "eins",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
    "dreizehn",
    "vierzehn",
    "fünfzehn",
    "sechzehn",
    "siebzehn",
    "achtzehn",
    "neunzehn",
]
_TENS = ("", "zehn", "zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig")
MONTHS = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
]
# The first letters of these belong to the stem.
_NO_PREFIX = ("bellen", "beten", "ernten")
_UNACCENTED_PREFIXES = ("be", "ent", "er", "ge", "ver", "zer", "über", "unter")


def _build_article(stem: str, endings: Table) -> Table:
    if stem == "euer":
        return tuple(tuple("euer" if not end else "eur" + end for end in row) for row in endings)
    return tuple(tuple(stem + end for end in row) for row in endings)


ARTICLES: dict[str, Table] = {
    "der": DEFINITE,
    **{name + "er": _build_article(name, DER_ENDINGS) for name in ("dies", "jed", "welch")},
    **{name + "e": _build_article(name, DER_ENDINGS) for name in ("viel", "einig")},
    **{number: (("",) * 4,) * 3 + ((number,) * 4,) for number in ("zwei", "drei", "vier", "fünf", "sechs")},
    **{
        name: _build_article(name, EIN_ENDINGS)
        for name in ("ein", "kein", "mein", "dein", "sein", "ihr", "unser", "euer")
    },
}
DECLENSIONS: dict[str, Table] = {"": STRONG, "der": WEAK, "dieser": WEAK, "jeder": WEAK, "welcher": WEAK}
DECLENSIONS |= dict.fromkeys(("ein", "kein", "mein", "dein", "sein", "ihr", "unser", "euer"), MIXED)
DECLENSIONS |= dict.fromkeys(("viele", "einige", "zwei", "drei", "vier", "fünf", "sechs"), STRONG)


def decline_adjective(adjective: str, determiner: str, gender: int, case: int) -> str:
    """Return the adjective with the ending that the determiner, gender and case ask for.

    >>> decline_adjective("groß", "ein", MASC, NOM), decline_adjective("teuer", "der", FEM, DAT)
    ('großer', 'teuren')
    """
    return get_adjective_stem(adjective) + DECLENSIONS[determiner][gender][case]


def get_adjective_stem(adjective: str) -> str:
    """Return what the endings are added to: some adjectives change or shorten before an ending."""
    if adjective == "hoch":
        return "hoh"
    if adjective.endswith("el"):
        return adjective[:-2] + "l"
    if adjective.endswith(("auer", "euer")):
        return adjective[:-2] + "r"
    return adjective.removesuffix("e")


def contract(preposition: str, phrase: str) -> str:
    """Join a preposition and a noun phrase, merging the article where German does (in dem -> im)."""
    article, _, rest = phrase.partition(" ")
    joined = f"{preposition} {article}"
    return f"{CONTRACTIONS.get(joined, joined)} {rest}" if rest else joined


def build_noun_forms(lemma: str, gender: int, genitive: str, plural: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the singular and plural of a noun by case.

    A masculine genitive in -n or -en marks the n-declension, which has that ending in every case but the first.
    """
    if gender == MASC and genitive in ("n", "en"):
        singular = (lemma, lemma + genitive, lemma + genitive, lemma + genitive)
    else:
        singular = (lemma, lemma, lemma, lemma + genitive)
    dative = plural if plural.endswith(("n", "s")) else plural + "n"
    return singular, (plural, plural, dative, plural)


@dataclass(frozen=True)
class GermanVerb:
    """All forms of a verb: person forms are ordered ich, du, er, wir, ihr, sie."""

    infinitive: str
    prefix: str
    present: tuple[str, ...]
    past: tuple[str, ...]
    participle: str
    zu_infinitive: str
    takes_sein: bool


def _needs_linking_e(stem: str) -> bool:
    if stem.endswith(("d", "t", "chn")):
        return True
    return stem.endswith(("m", "n")) and stem[-2] not in "aeiouäöülrhmn"


def _build_present(infinitive: str, third: str) -> tuple[str, ...]:
    stem = infinitive[:-2] if infinitive.endswith("en") else infinitive[:-1]
    link = "e" if _needs_linking_e(stem) else ""
    regular_third = stem + link + "t"
    base = third[:-1] if third and third != regular_third else stem + link
    second = base + ("t" if base.endswith(("s", "ß", "z", "x")) else "st")
    first = stem[:-2] + "le" if infinitive.endswith("eln") else stem + "e"
    return first, second, third or regular_third, infinitive, stem + link + "t", infinitive


def _build_past(stem: str) -> tuple[str, ...]:
    if stem.endswith("te"):
        return stem, stem + "st", stem, stem + "n", stem + "t", stem + "n"
    link = "e" if stem.endswith(("d", "t", "s", "ß")) else ""
    second = stem + link + "st"
    return stem, second, stem, stem + "en", stem + ("e" if stem.endswith(("d", "t")) else "") + "t", stem + "en"


def conjugate(verb: str, principal_parts: str = "", takes_sein: bool = False) -> GermanVerb:
    """Return all forms of a verb.

    Args:
        verb: The infinitive; a plus sign marks a separable prefix (an+rufen).
        principal_parts: For irregular verbs the third person present, the past and the participle without the
            separable prefix (ruft rief gerufen); empty for regular ones.
        takes_sein: Whether the perfect is formed with sein.

    >>> conjugate("an+rufen", "ruft rief gerufen").zu_infinitive
    'anzurufen'
    """
    prefix, _, base = verb.rpartition("+")
    stem = base[:-2] if base.endswith("en") else base[:-1]
    if principal_parts:
        third, past, participle = principal_parts.split()
    else:
        link = "e" if _needs_linking_e(stem) else ""
        third, past = "", stem + link + "te"
        bare = (base.startswith(_UNACCENTED_PREFIXES) and base not in _NO_PREFIX) or base.endswith("ieren")
        participle = ("" if bare else "ge") + stem + link + "t"
    zu_infinitive = f"{prefix}zu{base}" if prefix else f"zu {base}"
    present = _build_present(base, third)
    return GermanVerb(
        prefix + base, prefix, present, _build_past(past), prefix + participle, zu_infinitive, takes_sein
    )


def spell_cardinal(number: int) -> str:
    """Spell a number from 0 to 999 as it stands before a noun in the plural.

    >>> spell_cardinal(23), spell_cardinal(105)
    ('dreiundzwanzig', 'hundertfünf')
    """
    if not 0 <= number <= 999:
        raise ValueError(f"number must be between 0 and 999 but is {number}; spell larger numbers as digits")
    hundreds, rest = divmod(number, 100)
    head = ("" if hundreds == 1 else _UNITS[hundreds]) + "hundert" if hundreds else ""
    if head and not rest:
        return head
    if rest < 20:
        return head + _UNITS[rest]
    tens, unit = divmod(rest, 10)
    if not unit:
        return head + _TENS[tens]
    return head + ("ein" if unit == 1 else _UNITS[unit]) + "und" + _TENS[tens]


def spell_ordinal(number: int) -> str:
    """Spell the ordinal of 1 to 99 without its adjective ending.

    >>> spell_ordinal(3) + "er", spell_ordinal(21) + "en"
    ('dritter', 'einundzwanzigsten')
    """
    irregular = {1: "erst", 3: "dritt", 7: "siebt", 8: "acht"}
    return irregular.get(number) or spell_cardinal(number) + ("t" if number < 20 else "st")


def spell_time(hour: int, minute: int) -> str:
    """Spell a time of day on the twelve-hour clock in steps of five minutes, half hours as halb + next hour.

    >>> spell_time(2, 30), spell_time(1, 0), spell_time(4, 45)
    ('halb drei', 'ein Uhr', 'Viertel vor fünf')
    """
    following = _UNITS[hour % 12 + 1]
    if minute == 0:
        return "ein Uhr" if hour == 1 else f"{_UNITS[hour]} Uhr"
    if minute == 30:
        return f"halb {following}"
    if minute in (15, 45):
        return f"Viertel nach {_UNITS[hour]}" if minute == 15 else f"Viertel vor {following}"
    if minute < 30:
        return f"{spell_cardinal(minute)} nach {_UNITS[hour]}"
    return f"{spell_cardinal(60 - minute)} vor {following}"
