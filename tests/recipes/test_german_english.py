"""Tests of the German-English data set: the morphology by known forms, the grammar by the sentences it yields."""

from __future__ import annotations

import doctest
import importlib
import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import german_english
from german_english import clauses, english, german, grammar, nouns, phrases, verbs
from german_english.grammar import TAGS, iterate_distinct
from german_english.mains import build_imperative
from german_english.notation import pairs, words

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "recipes/german_english").glob("*.py") if path.stem != "__init__")

GOLDEN = [
    (
        "Unsere Tanten schalten die Lampe ein, weil sie diesem klugen Kollegen zusehen müssen.",
        "Our aunts are switching on the lamp because they have to watch this clever colleague.",
    ),
    ("Deine Tante wurde am zwanzigsten April geboren.", "Your aunt was born on the twentieth of April."),
    ("Obwohl sie hungrig ist, weint sie.", "Although she is hungry, she is crying."),
    ("Frau Schmidt versprach, den Koffer auszupacken.", "Mrs Schmidt promised to unpack the suitcase."),
    ("Trotz des Regens hat Peter die Flasche weggeworfen.", "Despite the rain, Peter threw away the bottle."),
    ("Das Spiel, von dem Max geträumt hat, ist schön.", "The game that Max dreamed of is nice."),
    (
        "Es ist wahr, dass deine Töchter jetzt diese müden Gänse füttern.",
        "It is true that your daughters are feeding these tired geese now.",
    ),
]
_CALL = clauses.Event(
    phrases.I_PRONOUN,
    next(verb for verb in verbs.TRANSITIVE if verb.de.infinitive == "anrufen"),
    accusative=" den Arzt",
    english=" the doctor",
)


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict[str, str]]]:
    return german_english.generate()


@pytest.fixture(scope="module")
def tagged() -> list[tuple[str, str, str]]:
    # The default train split is what follows the first 1,500 pairs.
    return list(itertools.islice(iterate_distinct(0), 1_500, 21_500))


@pytest.mark.parametrize(
    ("determiner", "row"),
    [
        ("der", "der den dem des | die die der der | das das dem des | die die den der"),
        ("ein", "ein einen einem eines | eine eine einer einer | ein ein einem eines | eine eine einen einer"),
        (
            "dieser",
            "dieser diesen diesem dieses | diese diese dieser dieser | "
            "dieses dieses diesem dieses | diese diese diesen dieser",
        ),
        (
            "unser",
            "unser unseren unserem unseres | unsere unsere unserer unserer | "
            "unser unser unserem unseres | unsere unsere unseren unserer",
        ),
        ("euer", "euer euren eurem eures | eure eure eurer eurer | euer euer eurem eures | eure eure euren eurer"),
    ],
)
def test_articles(determiner: str, row: str) -> None:
    assert german.ARTICLES[determiner] == tuple(tuple(part.split()) for part in row.split(" | "))


@pytest.mark.parametrize("determiner", ["kein", "mein", "dein", "sein", "ihr"])
def test_possessives_decline_like_ein(determiner: str) -> None:
    expected = [[determiner + form.removeprefix("ein") for form in row] for row in german.ARTICLES["ein"]]
    assert [list(row) for row in german.ARTICLES[determiner]] == expected


@pytest.mark.parametrize(
    ("determiner", "gender", "forms"),
    [
        ("der", german.MASC, "gute guten guten guten"),
        ("der", german.FEM, "gute gute guten guten"),
        ("der", german.NEUT, "gute gute guten guten"),
        ("der", german.PLURAL, "guten guten guten guten"),
        ("ein", german.MASC, "guter guten guten guten"),
        ("ein", german.FEM, "gute gute guten guten"),
        ("ein", german.NEUT, "gutes gutes guten guten"),
        ("kein", german.PLURAL, "guten guten guten guten"),
        ("", german.MASC, "guter guten gutem guten"),
        ("", german.FEM, "gute gute guter guter"),
        ("", german.NEUT, "gutes gutes gutem guten"),
        ("", german.PLURAL, "gute gute guten guter"),
        ("drei", german.PLURAL, "gute gute guten guter"),
        ("viele", german.PLURAL, "gute gute guten guter"),
    ],
)
def test_adjective_endings(determiner: str, gender: int, forms: str) -> None:
    found = [german.decline_adjective("gut", determiner, gender, case) for case in range(4)]
    assert found == forms.split()


@pytest.mark.parametrize(
    ("adjective", "form"),
    [("hoch", "hohe"), ("teuer", "teure"), ("dunkel", "dunkle"), ("müde", "müde"), ("leer", "leere")],
)
def test_adjective_stems(adjective: str, form: str) -> None:
    assert german.decline_adjective(adjective, "der", german.MASC, german.NOM) == form


@pytest.mark.parametrize(
    ("noun", "singular", "plural"),
    [
        ("Student", "Student Studenten Studenten Studenten", "Studenten Studenten Studenten Studenten"),
        ("Junge", "Junge Jungen Jungen Jungen", "Jungen Jungen Jungen Jungen"),
        ("Mann", "Mann Mann Mann Mannes", "Männer Männer Männern Männer"),
        ("Kind", "Kind Kind Kind Kindes", "Kinder Kinder Kindern Kinder"),
        ("Auto", "Auto Auto Auto Autos", "Autos Autos Autos Autos"),
        ("Lehrerin", "Lehrerin Lehrerin Lehrerin Lehrerin", "Lehrerinnen Lehrerinnen Lehrerinnen Lehrerinnen"),
    ],
)
def test_noun_forms(noun: str, singular: str, plural: str) -> None:
    assert nouns.NOUNS[noun].german == (tuple(singular.split()), tuple(plural.split()))


@pytest.mark.parametrize(
    ("arguments", "forms"),
    [
        (("Hund", "der", False, ("groß", "big")), ("der große Hund", "den großen Hund", "dem großen Hund")),
        (("Katze", "ein", False, ("alt", "old")), ("eine alte Katze", "eine alte Katze", "einer alten Katze")),
        (("Wasser", "", False, ("kalt", "cold")), ("kaltes Wasser", "kaltes Wasser", "kaltem Wasser")),
        (("Buch", "drei", True, ("neu", "new")), ("drei neue Bücher", "drei neue Bücher", "drei neuen Büchern")),
        (("Bruder", "unser", True, None), ("unsere Brüder", "unsere Brüder", "unseren Brüdern")),
    ],
)
def test_noun_phrases(arguments: tuple[str, str, bool, tuple[str, str] | None], forms: tuple[str, ...]) -> None:
    noun, determiner, plural, adjective = arguments
    assert phrases.build(nouns.NOUNS[noun], determiner, plural, adjective).german == forms


@pytest.mark.parametrize(
    "row",
    """
an+rufen | ruft rief gerufen | rufe rufst ruft rufen ruft rufen | rief | angerufen | anzurufen
auf+stehen | steht stand gestanden | stehe stehst steht stehen steht stehen | stand | aufgestanden | aufzustehen
zu+machen | | mache machst macht machen macht machen | machte | zugemacht | zuzumachen
fahren | fährt fuhr gefahren | fahre fährst fährt fahren fahrt fahren | fuhr | gefahren | zu fahren
lesen | liest las gelesen | lese liest liest lesen lest lesen | las | gelesen | zu lesen
geben | gibt gab gegeben | gebe gibst gibt geben gebt geben | gab | gegeben | zu geben
ein+laden | lädt lud geladen | lade lädst lädt laden ladet laden | lud | eingeladen | einzuladen
arbeiten | | arbeite arbeitest arbeitet arbeiten arbeitet arbeiten | arbeitete | gearbeitet | zu arbeiten
öffnen | | öffne öffnest öffnet öffnen öffnet öffnen | öffnete | geöffnet | zu öffnen
zeichnen | | zeichne zeichnest zeichnet zeichnen zeichnet zeichnen | zeichnete | gezeichnet | zu zeichnen
füttern | | füttere fütterst füttert füttern füttert füttern | fütterte | gefüttert | zu füttern
streicheln | | streichle streichelst streichelt streicheln streichelt streicheln | streichelte | gestreichelt | \
zu streicheln
besuchen | | besuche besuchst besucht besuchen besucht besuchen | besuchte | besucht | zu besuchen
bellen | | belle bellst bellt bellen bellt bellen | bellte | gebellt | zu bellen
reparieren | | repariere reparierst repariert reparieren repariert reparieren | reparierte | repariert | zu reparieren
beißen | beißt biss gebissen | beiße beißt beißt beißen beißt beißen | biss | gebissen | zu beißen
""".strip().splitlines(),
)
def test_german_verbs(row: str) -> None:
    verb, parts, present, past, participle, infinitive = (field.strip() for field in row.split("|"))
    found = german.conjugate(verb, parts)
    assert found.present == tuple(present.split())
    assert (found.past[2], found.participle, found.zu_infinitive) == (past, participle, infinitive)


@pytest.mark.parametrize(
    ("infinitive", "forms"),
    [
        ("lesen", "lies lest lesen Sie"),
        ("geben", "gib gebt geben Sie"),
        ("tragen", "trag tragt tragen Sie"),
        ("öffnen", "öffne öffnet öffnen Sie"),
        ("einladen", "lad ladet laden Sie"),
        ("teilnehmen", "nimm nehmt nehmen Sie"),
        ("streicheln", "streichle streichelt streicheln Sie"),
        ("vergessen", "vergiss vergesst vergessen Sie"),
        ("reparieren", "repariere repariert reparieren Sie"),
    ],
)
def test_imperatives(infinitive: str, forms: str) -> None:
    tables = verbs.TRANSITIVE + verbs.DITRANSITIVE + verbs.PREPOSITIONAL
    verb = next(verb for verb in tables if verb.de.infinitive == infinitive)
    found = [build_imperative(verb, person) for person in (phrases.DU, phrases.IHR, phrases.SIE_PLURAL)]
    assert " ".join(found) == forms


@pytest.mark.parametrize(
    ("tense", "order", "text"),
    [
        (clauses.PRESENT, "main", "ich rufe den Arzt an"),
        (clauses.PRESENT, "question", "rufe ich den Arzt an"),
        (clauses.PRESENT, "final", "ich den Arzt anrufe"),
        (clauses.PRESENT, "zu", "den Arzt anzurufen"),
        (clauses.PERFECT, "main", "ich habe den Arzt angerufen"),
        (clauses.PLUPERFECT, "final", "ich den Arzt angerufen hatte"),
        (clauses.MODALS[0], "main", "ich kann den Arzt anrufen"),
        (clauses.FUTURE, "final", "ich den Arzt anrufen werde"),
        (clauses.PRESENT, "english", "I call the doctor"),
        (clauses.PRESENT, "asked", "do I call the doctor"),
        (clauses.PRESENT, "bare", "call the doctor"),
    ],
)
def test_word_order_of_a_separable_verb(tense: clauses.Tense, order: str, text: str) -> None:
    assert getattr(clauses.Clause(_CALL, tense, "simple"), order) == text


def test_word_order_with_an_object_in_front_and_with_nicht() -> None:
    assert clauses.Clause(_CALL, clauses.PRESENT, "simple").begin_with("accusative") == "den Arzt rufe ich an"
    assert clauses.Clause(_CALL, clauses.PRESENT, "simple", None, True).both == (
        "ich rufe den Arzt nicht an",
        "I do not call the doctor",
    )


def _count_in_german() -> Iterator[str]:
    units = words("null ein zwei drei vier fünf sechs sieben acht neun")
    yield from words("null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn")
    yield from words("fünfzehn sechzehn siebzehn achtzehn neunzehn")
    for ten in words("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig"):
        yield ten
        yield from (f"{unit}und{ten}" for unit in units[1:])


def test_german_numbers() -> None:
    assert [german.spell_cardinal(number) for number in range(100)] == list(_count_in_german())
    assert german.spell_cardinal(235) == "zweihundertfünfunddreißig"


def test_english_numbers() -> None:
    found = [english.spell_cardinal(number) for number in (0, 8, 12, 15, 20, 23, 40, 48, 90, 99, 100, 235)]
    assert ", ".join(found) == (
        "zero, eight, twelve, fifteen, twenty, twenty-three, forty, forty-eight, ninety, ninety-nine, one hundred, "
        "two hundred and thirty-five"
    )


@pytest.mark.parametrize("module", [german, english])
@pytest.mark.parametrize("number", [-1, 1000])
def test_numbers_out_of_range(module: object, number: int) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 999 but is {number}"):
        module.spell_cardinal(number)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("number", "ordinal", "english_ordinal"),
    [
        (1, "erst", "first"),
        (2, "zweit", "second"),
        (3, "dritt", "third"),
        (5, "fünft", "fifth"),
        (7, "siebt", "seventh"),
        (8, "acht", "eighth"),
        (9, "neunt", "ninth"),
        (12, "zwölft", "twelfth"),
        (19, "neunzehnt", "nineteenth"),
        (20, "zwanzigst", "twentieth"),
        (21, "einundzwanzigst", "twenty-first"),
        (28, "achtundzwanzigst", "twenty-eighth"),
    ],
)
def test_ordinals(number: int, ordinal: str, english_ordinal: str) -> None:
    assert (german.spell_ordinal(number), english.spell_ordinal(number)) == (ordinal, english_ordinal)


@pytest.mark.parametrize(
    ("time_of_day", "german_text", "english_text"),
    [
        ((2, 30), "halb drei", "half past two"),
        ((12, 30), "halb eins", "half past twelve"),
        ((1, 0), "ein Uhr", "one o'clock"),
        ((4, 45), "Viertel vor fünf", "a quarter to five"),
        ((12, 15), "Viertel nach zwölf", "a quarter past twelve"),
        ((7, 20), "zwanzig nach sieben", "twenty past seven"),
        ((7, 50), "zehn vor acht", "ten to eight"),
    ],
)
def test_times(time_of_day: tuple[int, int], german_text: str, english_text: str) -> None:
    assert (german.spell_time(*time_of_day), english.spell_time(*time_of_day)) == (german_text, english_text)


@pytest.mark.parametrize(
    ("principal", "forms"),
    [
        (("work",), "works worked worked working"),
        (("try",), "tries tried tried trying"),
        (("play",), "plays played played playing"),
        (("stop",), "stops stopped stopped stopping"),
        (("travel",), "travels travelled travelled travelling"),
        (("put", "put"), "puts put put putting"),
        (("wash",), "washes washed washed washing"),
        (("go", "went", "gone"), "goes went gone going"),
        (("lie", "lay", "lain"), "lies lay lain lying"),
        (("write", "wrote", "written"), "writes wrote written writing"),
        (("see", "saw", "seen"), "sees saw seen seeing"),
        (("have",), "has had had having"),
    ],
)
def test_english_verbs(principal: tuple[str, ...], forms: str) -> None:
    verb = english.conjugate(*principal)
    assert f"{verb.third} {verb.past} {verb.participle} {verb.ing}" == forms


@pytest.mark.parametrize(
    ("singular", "plural"),
    pairs(
        "Mann = men; Kind = children; Maus = mice; Gans = geese; Schaf = sheep; Wolf = wolves; "
        "Messer = knives; Kirsche = cherries; Kiste = boxes; Kartoffel = potatoes; Klavier = pianos"
    ),
)
def test_english_plurals(singular: str, plural: str) -> None:
    assert nouns.NOUNS[singular].english[1] == plural


@pytest.mark.parametrize(
    "phrase", ["an apple", "a university", "an hour", "a used car", "an old house", "an umbrella", "a European"]
)
def test_indefinite_article(phrase: str) -> None:
    assert english.add_indefinite(phrase.split(" ", 1)[1]) == phrase


@pytest.mark.parametrize(
    ("preposition", "phrase", "joined"),
    [
        ("in", "dem Park", "im Park"),
        ("in", "das Haus", "ins Haus"),
        ("in", "der Schule", "in der Schule"),
        ("zu", "der alten Universität", "zur alten Universität"),
        ("an", "dem See", "am See"),
        ("auf", "das Bett", "auf das Bett"),
        ("von", "Anna", "von Anna"),
    ],
)
def test_contractions(preposition: str, phrase: str, joined: str) -> None:
    assert german.contract(preposition, phrase) == joined


def test_sizes_and_keys(splits: dict[str, list[dict[str, str]]]) -> None:
    assert {name: len(pairs) for name, pairs in splits.items()} == {"train": 20_000, "validation": 500, "test": 1_000}
    assert all(list(pair) == ["de", "en"] for pairs in splits.values() for pair in pairs)


@pytest.mark.parametrize("side", ["de", "en"])
def test_distinct_on_each_side(splits: dict[str, list[dict[str, str]]], side: str) -> None:
    sentences = [pair[side] for pairs in splits.values() for pair in pairs]
    assert len(set(sentences)) == len(sentences) == 21_500


def test_default_set_is_unchanged(splits: dict[str, list[dict[str, str]]]) -> None:
    """Every pair depends on all draws before it, so these pairs show whether anything has changed for everybody."""
    assert [(pair["de"], pair["en"]) for pair in splits["train"][1_999::3_000]] == GOLDEN


def test_same_in_another_process(splits: dict[str, list[dict[str, str]]]) -> None:
    code = "import german_english, json; print(json.dumps(german_english.generate()))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT / "recipes")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == splits


def test_seeds_differ() -> None:
    assert german_english.generate(50, 0, 0, seed=1) != german_english.generate(50, 0, 0, seed=2)


def test_held_out_splits_do_not_depend_on_train_size(splits: dict[str, list[dict[str, str]]]) -> None:
    small = german_english.generate(num_train=10)
    assert (small["test"], small["validation"]) == (splits["test"], splits["validation"])
    assert small["train"] == splits["train"][:10]


def test_maximum_is_reached_with_bounded_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rejected and repeated sentences must stay rare: the last of the largest set cost as little as the first."""
    draws = 0

    class CountingRandom(random.Random):
        def random(self) -> float:
            nonlocal draws
            draws += 1
            return super().random()

    monkeypatch.setattr(grammar.random, "Random", CountingRandom)
    found = german_english.generate(german_english.MAX_PAIRS, 0, 0)
    assert len({pair["de"] for pair in found["train"]}) == german_english.MAX_PAIRS
    assert draws < 20 * german_english.MAX_PAIRS


def test_nothing_asked_for() -> None:
    assert german_english.generate(0, 0, 0) == {"train": [], "validation": [], "test": []}


@pytest.mark.parametrize("name", ["num_train", "num_validation", "num_test"])
def test_negative_count(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be between 0 and 100000 but is -1; pass 0"):
        german_english.generate(**{name: -1})


def test_too_many_pairs() -> None:
    with pytest.raises(
        ValueError, match=r"must be between 0 and 100000 but is 101500 .*num_train=100000.*ask for fewer"
    ):
        german_english.generate(num_train=100_000)


@pytest.mark.parametrize("tag", TAGS)
def test_every_template_is_used(tagged: list[tuple[str, str, str]], tag: str) -> None:
    assert Counter(name for name, _, _ in tagged)[tag] >= 100


@pytest.mark.parametrize(
    ("phenomenon", "pattern", "least"),
    [
        ("dass", r", dass .* \w+\.$", 500),
        ("weil", r", weil ", 500),
        ("wenn", r"[Ww]enn ", 500),
        ("ob", r", ob ", 200),
        ("obwohl", r"[Oo]bwohl ", 300),
        ("relative pronoun", r"\w+, (der|die|das|den|dem|denen|dessen|deren) ", 1000),
        ("perfect with sein", r"\b(bin|bist|ist|sind|seid) .*ge\w+(en|t)\b", 500),
        ("separable participle", r"\b(an|auf|aus|ein|zu|zurück|mit|ab)ge\w+(t|en)\b", 500),
        ("separable prefix at the end", r" (an|auf|aus|ein|zu|zurück|mit|ab|statt|teil|fern|vor)[.?!]$", 500),
        ("separable infinitive with zu", r"\b(an|auf|aus|ein|zu|zurück|mit|ab)zu\w+en\b", 50),
        ("infinitive with zu", r", .*\bzu \w+n\.$", 300),
        ("kein", r"\bkein(e|en|em|er)?\b", 150),
        ("nicht", r"\bnicht\b", 500),
        ("contraction", r"\b(im|ins|am|ans|zum|zur|vom|beim)\b", 2000),
        ("n-declension", r"\b(den|dem|einen|einem) (\w+ )?(Studenten|Jungen|Kunden|Nachbarn|Kollegen)\b", 100),
        ("plural dative", r"\b(den|meinen|unseren|deinen) \w+ern\b", 50),
        ("genitive", r"\b(des|meines|deines|unseres) \w+s\b", 100),
        ("unit before ten", r"und(zwanzig|dreißig|vierzig|fünfzig|sechzig|siebzig|achtzig|neunzig)\b", 500),
        ("date", r"\bam \w+(ten|sten) (Januar|Mai|Juni|Oktober|Dezember)\b", 200),
        ("half hours", r"\bhalb \w+", 100),
        ("question", r"\?$", 1500),
        ("question word", r"^(Wer|Wen|Wem|Was|Wo|Wohin|Wann|Warum) ", 1000),
        ("request", r"!$", 200),
        ("passive", r"\b(wird|werden|wurde|wurden|worden)\b", 300),
        ("comparative", r"\w+er als ", 100),
        ("conditional", r"\bwürde", 100),
        ("pluperfect", r"^Nachdem .*\b(hatte|hatten|war|waren)\b", 100),
        ("reflexive", r"\b(sich|mich|uns) .*(freu|erinner|kümmer|ausruh|ausgeruht)", 50),
        ("polite address", r"\w+ Sie\b", 200),
    ],
)
def test_phenomena(tagged: list[tuple[str, str, str]], phenomenon: str, pattern: str, least: int) -> None:
    found = sum(bool(re.search(pattern, text)) for _, text, _ in tagged)
    assert found >= least, phenomenon


@pytest.mark.parametrize(
    ("word", "one", "other"),
    [
        ("Schloss", "castle", "lock"),
        ("Bank", "bench", "bank"),
        ("Gericht", "dish", "court"),
        ("Schlange", "queue", "snake"),
        ("Birne", "pear", "bulb"),
        ("Ton", "sound", "clay"),
        ("Leiter", "ladder", "manager"),
        ("Hahn", "tap", "rooster"),
    ],
)
def test_ambiguous_words(tagged: list[tuple[str, str, str]], word: str, one: str, other: str) -> None:
    found = [text for tag, source, text in tagged if tag == "ambiguous_word" and re.search(rf"\b{word}\b", source)]
    assert all((one in text) != (other in text) for text in found)
    assert sum(one in text for text in found) >= 5
    assert sum(other in text for text in found) >= 5


def test_gender_and_number_of_pronouns(tagged: list[tuple[str, str, str]]) -> None:
    for tag, source, text in tagged:
        if tag == "owner":
            assert re.search(r"\b(ihr|ihre|ihren)\b", source.lower()) is None or re.search(r"\b(her|their)\b", text)
            assert re.search(r"\b(sein|seine|seinen)\b", source) is None or "his" in text


def test_sentences_are_well_formed(tagged: list[tuple[str, str, str]]) -> None:
    for tag, *pair in tagged:
        for text in pair:
            assert re.fullmatch(r"[A-ZÄÖÜ][^.?!|~+_=]*[.?!]", text), (tag, text)
            assert "  " not in text and " ," not in text and "None" not in text, (tag, text)
        assert pair[0][-1] == pair[1][-1], (tag, pair)


def test_nouns_are_capitalized(tagged: list[tuple[str, str, str]]) -> None:
    lemmas = {form.lower() for noun in nouns.NOUNS.values() for forms in noun.german for form in forms}
    # In lower case these are other words.
    lemmas -= {
        *words("arm orange orangen regeln fragen frage geschenk spiele spielen bauer junge jungen kochen malen")
    }
    for tag, source, _ in tagged:
        small = [word for word in re.findall(r"\w+", source)[1:] if word in lemmas]
        assert not small, (tag, source)


def test_english_articles_fit(tagged: list[tuple[str, str, str]]) -> None:
    for tag, _, text in tagged:
        assert not re.search(r"\b[Aa] [aeioAEIO](?!ne\b)\w*", text), (tag, text)
        assert not re.search(r"\b[Aa]n [^aeiouhAEIOUH\s]", text), (tag, text)


def test_lengths_vary(tagged: list[tuple[str, str, str]]) -> None:
    lengths = [len(source.split()) for _, source, _ in tagged]
    assert min(lengths) >= 3
    assert max(lengths) >= 18
    assert 7 < sum(lengths) / len(lengths) < 12


@pytest.mark.parametrize("name", ["german_english", *(f"german_english.{module}" for module in MODULES)])
def test_doctests(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
