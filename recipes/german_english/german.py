"""German morphology: articles, adjective endings, noun and verb forms, numbers, dates and times."""

from __future__ import annotations

from dataclasses import dataclass

from .notation import pairs, words

NOM, ACC, DAT, GEN = range(4)
# The plural has no gender in German, so it stands as a fourth one in every table.
MASC, FEM, NEUT, PLURAL = range(4)

Table = tuple[tuple[str, ...], ...]


def _table(text: str, stem: str = "") -> Table:
    """Return the forms by gender and case; ``-`` is an empty ending."""
    # euer loses an e before an ending.
    short = "eur" if stem == "euer" else stem
    return tuple(
        tuple(stem if form == "-" else short + form for form in words(gender)) for gender in text.split(" | ")
    )


_DER_ENDINGS = "er en em es | e e er er | es es em es | e e en er"
_EIN_ENDINGS = "- en em es | e e er er | - - em es | e e en er"
RELATIVE = _table("der den dem dessen | die die der deren | das das dem dessen | die die denen deren")
_POSSESSIVES = words("ein kein mein dein sein ihr unser euer")
_NUMBERS = words("zwei drei vier fünf sechs")
ARTICLES: dict[str, Table] = {
    "der": _table("der den dem des | die die der der | das das dem des | die die den der"),
    **{stem + "er": _table(_DER_ENDINGS, stem) for stem in ("dies", "jed", "welch")},
    **{stem + "e": _table(_DER_ENDINGS, stem) for stem in ("viel", "einig")},
    **{number: (("",) * 4,) * 3 + ((number,) * 4,) for number in _NUMBERS},
    **{stem: _table(_EIN_ENDINGS, stem) for stem in _POSSESSIVES},
}
DECLENSIONS: dict[str, Table] = {
    **dict.fromkeys(("der", "dieser", "jeder", "welcher"), _table("e en en en | e e en en | e e en en | en en en en")),
    **dict.fromkeys(_POSSESSIVES, _table("er en en en | e e en en | es es en en | en en en en")),
    **dict.fromkeys(("", "viele", "einige", *_NUMBERS), _table("er en em en | e e er er | es es em en | e e en er")),
}
_CONTRACTIONS = dict(
    pairs("in dem = im; in das = ins; an dem = am; an das = ans")
    + pairs("zu dem = zum; zu der = zur; bei dem = beim; von dem = vom")
)
_UNITS = words(
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
    "siebzehn achtzehn neunzehn"
)
_TENS = words("- zehn zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
MONTHS = words("Januar Februar März April Mai Juni Juli August September Oktober November Dezember")
# The first letters of these verbs belong to the stem.
_NO_PREFIX = ("bellen", "beten", "ernten")
_UNACCENTED_PREFIXES = ("be", "ent", "er", "ge", "ver", "zer", "über", "unter")


def decline_adjective(adjective: str, determiner: str, gender: int, case: int) -> str:
    """Return the adjective with the ending that the determiner, gender and case require.

    >>> decline_adjective("groß", "ein", MASC, NOM), decline_adjective("teuer", "der", FEM, DAT)
    ('großer', 'teuren')
    """
    if adjective == "hoch":
        stem = "hoh"
    elif adjective.endswith("el"):
        stem = adjective[:-2] + "l"
    elif adjective.endswith(("auer", "euer")):
        stem = adjective[:-2] + "r"
    else:
        stem = adjective.removesuffix("e")
    return stem + DECLENSIONS[determiner][gender][case]


def contract(preposition: str, phrase: str) -> str:
    """Return a preposition with its noun phrase, merged with the article where German does so (in dem -> im)."""
    article, _, rest = phrase.partition(" ")
    joined = f"{preposition} {article}"
    return f"{_CONTRACTIONS.get(joined, joined)} {rest}" if rest else joined


def build_noun_forms(lemma: str, gender: int, genitive: str, plural: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the singular and the plural of a noun by case.

    A masculine genitive in -n or -en marks the n-declension, which has that ending in every case but the nominative.
    """
    oblique = lemma + genitive if gender == MASC and genitive in ("n", "en") else lemma
    dative = plural if plural.endswith(("n", "s")) else plural + "n"
    return (lemma, oblique, oblique, lemma + genitive), (plural, plural, dative, plural)


@dataclass(frozen=True)
class GermanVerb:
    """All forms of a verb; finite forms are ordered ich, du, er, wir, ihr, sie."""

    infinitive: str
    prefix: str
    present: tuple[str, ...]
    past: tuple[str, ...]
    participle: str
    zu_infinitive: str
    takes_sein: bool


def _get_link(stem: str) -> str:
    """Return the e that some stems need before an ending in a consonant."""
    cluster = stem.endswith(("m", "n")) and stem[-2] not in "aeiouäöülrhmn"
    return "e" if cluster or stem.endswith(("d", "t", "chn")) else ""


def _build_present(infinitive: str, stem: str, third: str) -> tuple[str, ...]:
    linked = stem + _get_link(stem)
    base = third[:-1] if third and third != linked + "t" else linked
    second = base + ("t" if base.endswith(("s", "ß", "z", "x")) else "st")
    first = stem[:-2] + "le" if infinitive.endswith("eln") else stem + "e"
    return first, second, third or linked + "t", infinitive, linked + "t", infinitive


def _build_past(stem: str) -> tuple[str, ...]:
    if stem.endswith("te"):
        return stem, stem + "st", stem, stem + "n", stem + "t", stem + "n"
    second = stem + ("est" if stem.endswith(("d", "t", "s", "ß")) else "st")
    return stem, second, stem, stem + "en", stem + ("et" if stem.endswith(("d", "t")) else "t"), stem + "en"


def conjugate(verb: str, principal_parts: str = "", takes_sein: bool = False) -> GermanVerb:
    """Return all forms of a verb.

    Args:
        verb: The infinitive; a plus sign marks a separable prefix (``an+rufen``).
        principal_parts: The third person present, the past and the participle of an irregular verb without its
            separable prefix (``ruft rief gerufen``); empty for a regular one.
        takes_sein: Whether the perfect is formed with ``sein``.

    >>> conjugate("an+rufen", "ruft rief gerufen").zu_infinitive
    'anzurufen'
    """
    prefix, _, base = verb.rpartition("+")
    stem = base[:-2] if base.endswith("en") else base[:-1]
    if principal_parts:
        third, past, participle = principal_parts.split()
    else:
        linked = stem + _get_link(stem)
        bare = (base.startswith(_UNACCENTED_PREFIXES) and base not in _NO_PREFIX) or base.endswith("ieren")
        third, past, participle = "", linked + "te", ("" if bare else "ge") + linked + "t"
    return GermanVerb(
        prefix + base,
        prefix,
        _build_present(base, stem, third),
        _build_past(past),
        prefix + participle,
        f"{prefix}zu{base}" if prefix else f"zu {base}",
        takes_sein,
    )


def spell_cardinal(number: int) -> str:
    """Return a number from 0 to 999 in words, as it stands before a noun in the plural.

    >>> spell_cardinal(23), spell_cardinal(105)
    ('dreiundzwanzig', 'hundertfünf')
    """
    if not 0 <= number <= 999:
        raise ValueError(f"number must be between 0 and 999 but is {number}; write larger numbers in digits")
    hundreds, rest = divmod(number, 100)
    head = ("" if hundreds == 1 else _UNITS[hundreds]) + "hundert" if hundreds else ""
    if rest < 20:
        return head if head and not rest else head + _UNITS[rest]
    tens, unit = divmod(rest, 10)
    return head + (("ein" if unit == 1 else _UNITS[unit]) + "und" if unit else "") + _TENS[tens]


def spell_ordinal(number: int) -> str:
    """Return the ordinal of 1 to 99 in words, without its adjective ending.

    >>> spell_ordinal(3) + "er", spell_ordinal(21) + "en"
    ('dritter', 'einundzwanzigsten')
    """
    irregular = {1: "erst", 3: "dritt", 7: "siebt", 8: "acht"}
    return irregular.get(number) or spell_cardinal(number) + ("t" if number < 20 else "st")


def spell_time(hour: int, minute: int) -> str:
    """Return a time of day on the twelve-hour clock in words, in steps of five minutes.

    >>> spell_time(2, 30), spell_time(1, 0), spell_time(4, 45)
    ('halb drei', 'ein Uhr', 'Viertel vor fünf')
    """
    if minute == 0:
        return "ein Uhr" if hour == 1 else f"{_UNITS[hour]} Uhr"
    following = _UNITS[hour % 12 + 1]
    if minute == 30:
        return f"halb {following}"
    past = min(minute, 60 - minute)
    amount = "Viertel" if past == 15 else spell_cardinal(past)
    return f"{amount} nach {_UNITS[hour]}" if minute < 30 else f"{amount} vor {following}"
