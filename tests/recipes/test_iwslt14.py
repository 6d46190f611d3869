"""IWSLT14 from the official archive: the rules on a small one, and the lines of the literature from the real files."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import prepare_iwslt14
import pytest
from real_data import real_data
from recipes.damage import corrupt
from recipes.iwslt14_archive import TEST, TRAIN, VALID, write_archive, write_folder, write_lines
from transformers import AutoTokenizer

from hf_momo.utils.errors import UsageError
from machine_translation.iwslt14 import LANGUAGES, Pair, prepare_test, read_files, xml_files
from machine_translation.tokenizer import END_OF_WORD, token_tokenizer


def prepare(source: Path, output: Path, *more: str) -> None:
    prepare_iwslt14.main(["--archive", str(source), "--output_dir", str(output), "--quiet", *more])


def read_lines(path: Path) -> list[str]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return data.decode("utf-8").removesuffix("\n").split("\n")


def read_pairs(folder: Path, split: str, suffix: str = "") -> list[Pair]:
    german, english = (read_lines(folder / f"{split}.{language}{suffix}") for language in LANGUAGES)
    return list(zip(german, english, strict=True))


@pytest.mark.parametrize("write", [write_archive, write_folder, lambda folder: write_folder(folder) / "de-en"])
def test_splits_are_those_worked_out_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write: Callable[[Path], Path]
) -> None:
    prepare(write(tmp_path / "source" if write is not write_archive else tmp_path), tmp_path / "out")
    assert read_pairs(tmp_path / "out", "train") == TRAIN
    assert read_pairs(tmp_path / "out", "valid") == VALID
    assert read_pairs(tmp_path / "out", "test") == TEST
    said = capsys.readouterr().out
    assert "train: 46 pairs, not the 160,239 of the standard preparation" in said
    assert "cannot be compared with the literature's" in said
    summary = json.loads((tmp_path / "out" / "preparation.json").read_text())
    assert summary["pairs"] == {"train": 46, "valid": 2, "test": 6}
    assert summary["standard"] is False


def test_pieces_are_learned_from_train_alone(tmp_path: Path) -> None:
    prepare(write_folder(tmp_path / "source"), tmp_path / "out", "--bpe_merges", "40")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    summary = json.loads((tmp_path / "out" / "preparation.json").read_text())
    assert summary["bpe"] == {"merges": 40, "vocabulary": len(tokenizer)}
    for german, english in TRAIN:
        for sentence in (german, english):
            ids = tokenizer(sentence)["input_ids"]
            assert ids[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(ids, skip_special_tokens=True) == sentence
    # These pieces occur in test only.
    assert tokenizer.unk_token_id in tokenizer("&#91;")["input_ids"]


def test_merges_of_an_earlier_preparation(tmp_path: Path) -> None:
    codes = tmp_path / "code"
    write_lines(codes, ["#version: 0.2", "t z</w>", "a tz</w>", "s atz</w>"])
    prepare(write_folder(tmp_path / "source"), tmp_path / "out", "--bpe_codes", str(codes))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    assert tokenizer.tokenize("satz nummer") == ["satz</w>", *"numme", "r</w>"]


def test_a_second_run_replaces_the_first_and_one_cut_off_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = write_folder(tmp_path / "source"), tmp_path / "out"
    prepare(source, output)
    (output / "train.de").write_text("older\n")
    write = prepare_iwslt14.write_whole

    def write_until_killed(path: Path, text: str) -> None:
        if path.name == "test.en":
            raise KeyboardInterrupt
        write(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_iwslt14, "write_whole", write_until_killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, output)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tmp_path / "new")
    assert (output / "train.de").read_text() == "older\n"
    assert not (tmp_path / "new").exists()
    prepare(source, output)
    assert read_pairs(output, "train") == TRAIN
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".out")} == set()


def not_utf8(source: Path) -> None:
    (source / "de-en" / "train.tags.de-en.de").write_bytes(b"eins\nzw\xf6lf\n")


def unequal(source: Path) -> None:
    write_lines(source / "de-en" / "train.tags.de-en.de", ["eins", "zwei"])
    write_lines(source / "de-en" / "train.tags.de-en.en", ["one", "two", "three"])


def unequal_test(source: Path) -> None:
    write_lines(source / "de-en" / "IWSLT14.TED.tst2011.de-en.en.xml", ['<seg id="1"> one </seg>'])


def nothing_clean(source: Path) -> None:
    write_lines(source / "de-en" / "train.tags.de-en.de", ["<title></title>"])
    write_lines(source / "de-en" / "train.tags.de-en.en", ["<title></title>"])


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (not_utf8, r"train\.tags\.de-en\.de, line 2 is not UTF-8"),
    (unequal, r"train: 2 German and 3 English sentences"),
    (unequal_test, r"IWSLT14\.TED\.tst2011\.de-en: 2 German and 1 English sentences"),
    (lambda source: (source / "de-en" / "train.tags.de-en.en").unlink(), r"has no train\.tags\.de-en\.en"),
    (shutil.rmtree, r"source does not exist; give de-en\.tgz"),
    (nothing_clean, r"no pair of train"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_archives_are_named(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    source = write_folder(tmp_path / "source")
    damage(source)
    with pytest.raises(UsageError, match=message):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("pack", "damage"),
    [
        (gzip.compress, lambda packed: packed[:-400]),
        (gzip.compress, corrupt),
        (lzma.compress, corrupt),
        (lzma.compress, lambda packed: packed[: len(packed) // 2]),
        (lambda data: b"<html>not found</html>", lambda packed: packed),
    ],
    ids=["cut .tgz", "corrupt .tgz", "corrupt .tar.xz", "cut .tar.xz", "a page of a web server"],
)
def test_damaged_archives_are_refused_with_their_name(
    tmp_path: Path, pack: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]
) -> None:
    """A corrupt archive ended in zlib.error or LZMAError without the name of the file."""
    archive = write_archive(tmp_path)
    archive.write_bytes(damage(pack(gzip.decompress(archive.read_bytes()))))
    with pytest.raises(UsageError, match=r"de-en\.tgz cannot be read"):
        prepare(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bpe_merges", "0"], "--bpe_merges 0 must be at least 1"),
        (["--bpe_codes", "nowhere"], "--bpe_codes nowhere cannot be read"),
        (["--output_dir", "full"], "--output_dir full holds other files"),
        (["--output_dir", "full/of"], "--output_dir full/of is a file"),
        (["--output_dir", "full/of/it"], "--output_dir full/of/it cannot be written"),
    ],
)
def test_bad_settings_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "of").write_text("something else")
    with pytest.raises(UsageError, match=message):
        prepare(write_folder(tmp_path / "source"), tmp_path / "out", *arguments)


def test_the_test_split_is_that_of_the_literature() -> None:
    folder = real_data("iwslt14-de-en")
    files = read_files(folder / "orig", [name for language in LANGUAGES for name in xml_files(language)])
    assert prepare_test(files, lambda _, sentences: sentences) == read_pairs(folder, "test", ".gz")


@pytest.mark.parametrize(("language", "split"), [("de", "test"), ("en", "valid")])
def test_pieces_are_those_of_the_literature(language: str, split: str) -> None:
    folder = real_data("iwslt14-de-en")
    sentences = read_lines(folder / f"{split}.{language}.gz")
    merges = prepare_iwslt14.read_codes(folder / "bpe" / "code")
    tokenizer = token_tokenizer(merges, set("".join(sentences)) - {" "})
    expected = read_lines(folder / "bpe" / f"{split}.bpe10k.{language}.gz")
    for sentence, ids, pieces in zip(sentences, tokenizer(sentences)["input_ids"], expected, strict=True):
        names = tokenizer.convert_ids_to_tokens(ids[:-1])
        written = [name.removesuffix(END_OF_WORD) if name.endswith(END_OF_WORD) else f"{name}@@" for name in names]
        assert " ".join(written) == pieces
        assert tokenizer.decode(ids, skip_special_tokens=True) == sentence
