"""English morphology: verb forms, plurals, indefinite articles, numbers, dates and times."""

from __future__ import annotations

from dataclasses import dataclass

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ("", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
# The article follows the sound, and these words sound unlike their first letter.
_CONSONANT_SOUNDS = ("uni", "use", "euro", "one")
_VOWEL_SOUNDS = ("hour", "honest", "heir")
_DOUBLING = frozenset(
    ("get", "put", "cut", "run", "swim", "sit", "set", "stop", "chat", "plan", "jog", "travel", "wrap", "shop")
)


@dataclass(frozen=True)
class EnglishVerb:
    """The forms of a verb; whatever follows its first word (particle, preposition, noun) is kept apart."""

    base: str
    third: str
    past: str
    participle: str
    ing: str


def pluralize(noun: str) -> str:
    """Return the regular plural.

    >>> [pluralize(noun) for noun in ("dog", "box", "cherry", "boy")]
    ['dogs', 'boxes', 'cherries', 'boys']
    """
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def add_indefinite(phrase: str) -> str:
    """Put a or an before a phrase by the sound it starts with.

    >>> add_indefinite("old car"), add_indefinite("university")
    ('an old car', 'a university')
    """
    word = phrase.lower()
    vowel = (word[0] in "aeiou" and not word.startswith(_CONSONANT_SOUNDS)) or word.startswith(_VOWEL_SOUNDS)
    return ("an " if vowel else "a ") + phrase


def conjugate(base: str, past: str = "", participle: str = "") -> EnglishVerb:
    """Return the forms of a verb; past and participle are given for irregular verbs only.

    >>> conjugate("try").third, conjugate("put", "put").ing, conjugate("stop").past
    ('tries', 'putting', 'stopped')
    """
    if base == "have":
        return EnglishVerb("have", "has", "had", "had", "having")
    doubled = base + base[-1] if base in _DOUBLING else base
    third = base + "es" if base.endswith("o") else pluralize(base)
    if not past:
        if base.endswith("e"):
            past = base + "d"
        elif base.endswith("y") and base[-2] not in "aeiou":
            past = base[:-1] + "ied"
        else:
            past = doubled + "ed"
    if base.endswith("ie"):
        ing = base[:-2] + "ying"
    elif base.endswith("e") and not base.endswith("ee"):
        ing = base[:-1] + "ing"
    else:
        ing = doubled + "ing"
    return EnglishVerb(base, third, past, participle or past, ing)


def spell_cardinal(number: int) -> str:
    """Spell a number from 0 to 999.

    >>> spell_cardinal(23), spell_cardinal(105)
    ('twenty-three', 'one hundred and five')
    """
    if not 0 <= number <= 999:
        raise ValueError(f"number must be between 0 and 999 but is {number}; spell larger numbers as digits")
    hundreds, rest = divmod(number, 100)
    head = f"{_UNITS[hundreds]} hundred" if hundreds else ""
    if head and not rest:
        return head
    if rest < 20:
        tail = _UNITS[rest]
    else:
        tens, unit = divmod(rest, 10)
        tail = _TENS[tens] + (f"-{_UNITS[unit]}" if unit else "")
    return f"{head} and {tail}" if head else tail


def spell_ordinal(number: int) -> str:
    """Spell the ordinal of 1 to 99.

    >>> spell_ordinal(3), spell_ordinal(21), spell_ordinal(30)
    ('third', 'twenty-first', 'thirtieth')
    """
    head, dash, last = spell_cardinal(number).rpartition("-")
    if last in _ORDINALS:
        ordinal = _ORDINALS[last]
    elif last == "twelve":
        ordinal = "twelfth"
    elif last.endswith("y"):
        ordinal = last[:-1] + "ieth"
    else:
        ordinal = last.removesuffix("t") + "th"
    return head + dash + ordinal


def spell_time(hour: int, minute: int) -> str:
    """Spell a time of day on the twelve-hour clock in steps of five minutes.

    >>> spell_time(2, 30), spell_time(1, 0), spell_time(4, 45)
    ('half past two', "one o'clock", 'a quarter to five')
    """
    following = _UNITS[hour % 12 + 1]
    if minute == 0:
        return f"{_UNITS[hour]} o'clock"
    if minute == 30:
        return f"half past {_UNITS[hour]}"
    if minute in (15, 45):
        return f"a quarter past {_UNITS[hour]}" if minute == 15 else f"a quarter to {following}"
    if minute < 30:
        return f"{spell_cardinal(minute)} past {_UNITS[hour]}"
    return f"{spell_cardinal(60 - minute)} to {following}"
