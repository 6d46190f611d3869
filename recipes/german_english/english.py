"""English morphology: verb forms, plurals, indefinite articles, numbers, dates and times."""

from __future__ import annotations

from dataclasses import dataclass

from .notation import pairs, words

MONTHS = words("January February March April May June July August September October November December")
_UNITS = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = words("- ten twenty thirty forty fifty sixty seventy eighty ninety")
_ORDINALS = dict(
    pairs("one = first; two = second; three = third; five = fifth; eight = eighth; nine = ninth; twelve = twelfth")
)
# The article follows the sound, and these words sound unlike their first letter.
_CONSONANT_SOUNDS = ("uni", "use", "euro", "one")
_VOWEL_SOUNDS = ("hour", "honest", "heir")
_DOUBLING = frozenset(words("get put cut run swim sit set stop chat plan jog travel wrap shop"))


@dataclass(frozen=True)
class EnglishVerb:
    """The forms of a verb, without what follows its first word (particle, preposition, noun)."""

    base: str
    third: str
    past: str
    participle: str
    ing: str


def _ends_in_consonant_y(word: str) -> bool:
    return word.endswith("y") and word[-2] not in "aeiou"


def pluralize(noun: str) -> str:
    """Return the regular plural.

    >>> [pluralize(noun) for noun in ("dog", "box", "cherry", "boy")]
    ['dogs', 'boxes', 'cherries', 'boys']
    """
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    return noun[:-1] + "ies" if _ends_in_consonant_y(noun) else noun + "s"


def add_indefinite(phrase: str) -> str:
    """Return the phrase after ``a`` or ``an``, by the sound that it starts with.

    >>> add_indefinite("old car"), add_indefinite("university")
    ('an old car', 'a university')
    """
    word = phrase.lower()
    vowel = (word[0] in "aeiou" and not word.startswith(_CONSONANT_SOUNDS)) or word.startswith(_VOWEL_SOUNDS)
    return ("an " if vowel else "a ") + phrase


def conjugate(base: str, past: str = "", participle: str = "") -> EnglishVerb:
    """Return the forms of a verb; only irregular verbs need ``past`` and ``participle``.

    >>> conjugate("try").third, conjugate("put", "put").ing, conjugate("stop").past
    ('tries', 'putting', 'stopped')
    """
    if base == "have":
        return EnglishVerb("have", "has", "had", "had", "having")
    stem = base + base[-1] if base in _DOUBLING else base
    if not past:
        past = base[:-1] + "ied" if _ends_in_consonant_y(base) else stem.removesuffix("e") + "ed"
    if base.endswith("ie"):
        stem = base[:-2] + "y"
    elif not base.endswith("ee"):
        stem = stem.removesuffix("e")
    return EnglishVerb(
        base, base + "es" if base.endswith("o") else pluralize(base), past, participle or past, stem + "ing"
    )


def spell_cardinal(number: int) -> str:
    """Return a number from 0 to 999 in words.

    >>> spell_cardinal(23), spell_cardinal(105)
    ('twenty-three', 'one hundred and five')
    """
    if not 0 <= number <= 999:
        raise ValueError(f"number must be between 0 and 999 but is {number}; write larger numbers in digits")
    hundreds, rest = divmod(number, 100)
    tens, unit = divmod(rest, 10)
    tail = _UNITS[rest] if rest < 20 else _TENS[tens] + (f"-{_UNITS[unit]}" if unit else "")
    if not hundreds:
        return tail
    return f"{_UNITS[hundreds]} hundred" + (f" and {tail}" if rest else "")


def spell_ordinal(number: int) -> str:
    """Return the ordinal of 1 to 99 in words.

    >>> spell_ordinal(3), spell_ordinal(21), spell_ordinal(30)
    ('third', 'twenty-first', 'thirtieth')
    """
    head, dash, last = spell_cardinal(number).rpartition("-")
    regular = last[:-1] + "ieth" if last.endswith("y") else last.removesuffix("t") + "th"
    return head + dash + _ORDINALS.get(last, regular)


def spell_time(hour: int, minute: int) -> str:
    """Return a time of day on the twelve-hour clock in words, in steps of five minutes.

    >>> spell_time(2, 30), spell_time(1, 0), spell_time(4, 45)
    ('half past two', "one o'clock", 'a quarter to five')
    """
    if minute == 0:
        return f"{_UNITS[hour]} o'clock"
    if minute == 30:
        return f"half past {_UNITS[hour]}"
    past = min(minute, 60 - minute)
    amount = "a quarter" if past == 15 else spell_cardinal(past)
    return f"{amount} past {_UNITS[hour]}" if minute < 30 else f"{amount} to {_UNITS[hour % 12 + 1]}"
