"""Files of text and tables: compressed or not, every value as it was written, and damage by name."""

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.reading import open_file, read_bytes, read_lines, read_table
from hf_momo.utils.errors import UsageError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
# Sentences that readers take for numbers, booleans, dates, missing values, formulas, comments or structure.
SENTENCES = [
    *("0", "007", "1e5", "-3.50", "1,234", "0x1F", "nan", "inf", "NaN", "-0", "12345678901234567890"),
    *("true", "False", "yes", "None", "NA", "N/A", "null", "NULL", "<NA>", "#N/A", "n/a"),
    *("2020-01-01", "2020-01-01 00:00:00", "2020-01-01T00:00:00Z", "12:30", "1/2"),
    *(
        " two  spaces ",
        "#comment",
        "=1+1",
        'He said "no".',
        "a,b;c\td",
        "one\u2028two",
        "Ünï 日本 🙂",
        "[1]",
        "{}",
        "\\n",
    ),
]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(COMPRESS[path.suffix if path.suffix in COMPRESS else ""](raw))
    return path


def as_csv(sentences: list[str]) -> str:
    cells = ('"' + sentence.replace('"', '""') + '"' for sentence in sentences)
    return "text,n\n" + "".join(f"{cell},zero\n" for cell in cells)


def as_json_lines(sentences: list[str]) -> str:
    return "".join(json.dumps({"text": sentence, "n": "zero"}) + "\n" for sentence in sentences)


def as_json_list(sentences: list[str]) -> str:
    return json.dumps([{"text": sentence, "n": "zero"} for sentence in sentences], indent=1)


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", as_csv), ("a.jsonl", as_json_lines), ("a.json", as_json_lines), ("b.json", as_json_list)],
)
def test_text_stays_text(tmp_path: Path, name: str, content: Callable[[list[str]], str], suffix: str) -> None:
    """A row ``0,zero`` was "empty", ``007`` lost its zeros, and ``None`` was refused: types were guessed."""
    rows = read_table(write(tmp_path, name + suffix, content(SENTENCES)))
    assert rows == [{"text": sentence, "n": "zero"} for sentence in SENTENCES]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4))
def test_any_text_stays_text(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name, content in (("a.csv", as_csv), ("a.jsonl", as_json_lines), ("a.json", as_json_list)):
        assert [row["text"] for row in read_table(write(folder, name, content(sentences)))] == sentences


def test_numbers_of_json_are_the_text_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"a": 1.50, "b": -7, "c": 1e400, "d": true, "e": null}\n')
    assert read_table(path) == [{"a": "1.50", "b": "-7", "c": "1e400", "d": True, "e": None}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CR LF", "CR"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends(tmp_path: Path, end: str, last: bool) -> None:
    """A file whose lines end in a carriage return was one long sentence."""
    lines = ["eins\u2028zwei", "", "drei\x0b vier", " fünf"]
    path = write(tmp_path, "a.txt", "\ufeff" + end.join(lines) + end * last)
    assert read_lines(path) == lines
    table = write(tmp_path, "a.csv", end.join(["de,en", "", '1,"one"', "2,two"]) + end * last)
    assert read_table(table) == [{"de": "1", "en": "one"}, {"de": "2", "en": "two"}]
    table = write(tmp_path, "a.jsonl", end.join(['{"de": "1"}', "", '{"de": "2"}']) + end * last)
    assert read_table(table) == [{"de": "1"}, {"de": "2"}]


def test_a_carriage_return_inside_of_a_line_ends_none(tmp_path: Path) -> None:
    assert read_lines(write(tmp_path, "a.txt", "a\rb\nc\n")) == ["a\rb", "c"]


def test_nothing_and_long_fields(tmp_path: Path) -> None:
    assert read_lines(write(tmp_path, "a.txt", "")) == []
    for name in ("a.csv", "a.jsonl", "a.json"):
        assert read_table(write(tmp_path, name, "")) == read_table(write(tmp_path, name, "\n\n\r\n")) == []
    long = "word " * 100_000
    assert read_table(write(tmp_path, "a.csv", f"text\n{long}\n")) == [{"text": long}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "de,en\n1,2\n1,2,3\n", r"the row that ends in line 3 has 3 cells, but the header has 2"),
        ("a.csv", "de,en\n1\n", r"the row that ends in line 2 has 1 cells"),
        ("a.csv", 'de,en\n"1,2\n3,4\n', r"line 3 is not CSV"),
        ("a.csv", b"de,en\n1,\xf6\n", r"line 2 of .*a\.csv is not UTF-8"),
        (
            "a.jsonl",
            '{"de": "1"}\n{"de": }\n',
            r"line 2 is not JSON: Expecting value at column 8; give one JSON object",
        ),
        ("a.jsonl", '{"de": "1"}\n\n"2"\n', r"row 2 is '2'; it must be a JSON object"),
        ("a.json", '[{"de": "1"},\n{"de": ]', r"line 2 is not JSON"),
        ("a.json", "[" * 100_000, r"line 1 is not JSON: it is nested too deeply"),
        ("a.jsonl", b'{"de": "1"}\n{"de": "\xff"}\n', r"line 2 of .*a\.jsonl is not UTF-8"),
        ("a.jsonl", "\ufeff\ufeff{}", r"line 1 is not JSON"),
    ],
)
def test_malformed_tables_name_the_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_table(write(tmp_path, name, content))


def broken(compressed: bytes) -> bytes:
    return compressed[:24] + b"\xff" * (len(compressed) - 24)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "not compressed": lambda _: b"eins\nzwei\n",
    "cut": lambda compressed: compressed[:-9],
    "broken": broken,
    "one bit": lambda compressed: compressed[:40] + bytes([compressed[40] ^ 16]) + compressed[41:],
}


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("read", [read_bytes, read_lines, read_table])
def test_damaged_compression_is_named(
    tmp_path: Path, suffix: str, damage: str, read: Callable[[Path, str], Any]
) -> None:
    """Damaged ``.gz`` and ``.xz`` files ended in the tracebacks of ``zlib.error`` and ``LZMAError``."""
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(DAMAGE[damage](COMPRESS[suffix](os.urandom(500).hex().encode())))
    if damage == "empty" and suffix == ".gz":  # an archive of no members
        assert not read(path, "--train_file")
        return
    with pytest.raises(UsageError, match=rf"--train_file cannot be read: .*; is the {suffix} file damaged"):
        read(path, "--train_file")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.txt does not exist; relative paths start at"):
        read_lines(tmp_path / "a.txt")
    with pytest.raises(UsageError, match=r"is a folder; give a file"):
        read_lines(tmp_path)
    write(tmp_path, "a.txt", "x")
    with pytest.raises(UsageError, match=r"cannot be read: Not a directory"), open_file(tmp_path / "a.txt" / "b"):
        pass
