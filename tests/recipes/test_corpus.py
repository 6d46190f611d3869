"""Sentence pairs from every kind of source, and errors of one line for bad input."""

import bz2
import csv
import gzip
import json
import lzma
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from recipe_runs import DEMO_CONFIG, PAIRS, ROOT, TINY, write_json_lines, write_sides, write_text
from recipes.image_data import write_folders

from hf_momo.utils.errors import UsageError
from machine_translation.arguments import DataArguments
from machine_translation.corpus import load_corpus


def write_csv(folder: Path) -> Path:
    path = folder / "train.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("de", "en"), *PAIRS])
    return path


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_sides(folder, "train"),
        lambda folder: write_sides(folder, "train", ".gz"),
        lambda folder: write_sides(folder, "train").with_suffix(".en"),
        lambda folder: write_json_lines(folder, "train.jsonl"),
        lambda folder: write_json_lines(folder, "train.json.gz"),
        write_csv,
    ],
    ids=["text", "gzip", "the other side's name", "jsonl", "json.gz", "csv"],
)
def test_every_format_gives_the_same_pairs(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    arguments = DataArguments(source_lang="de", target_lang="en", train_file=str(write(tmp_path)))
    corpus = load_corpus(arguments, ["train"])
    assert corpus["train"]["translation"][:] == [{"de": german, "en": english} for german, english in PAIRS]


@pytest.mark.parametrize("suffix", [".bz2", ".xz"])
@pytest.mark.parametrize("folder", ["[a-b]*", "x?y", "plain"])
@pytest.mark.parametrize("name", ["train.de", "train.jsonl", "train.csv"])
def test_compressed_files_in_folders_of_any_name(tmp_path: Path, folder: str, suffix: str, name: str) -> None:
    """A table in a folder with brackets in its name was not found, because its path was taken for a pattern."""
    (tmp_path / folder).mkdir()
    write_sides(tmp_path / folder, "train")
    write_json_lines(tmp_path / folder, "train.jsonl")
    write_csv(tmp_path / folder)
    compress = {".bz2": bz2.compress, ".xz": lzma.compress}[suffix]
    for path in list((tmp_path / folder).iterdir()):
        path.with_name(path.name + suffix).write_bytes(compress(path.read_bytes()))
        path.unlink()
    arguments = DataArguments(source_lang="de", target_lang="en", train_file=str(tmp_path / folder / (name + suffix)))
    corpus = load_corpus(arguments, ["train"])
    assert corpus["train"]["translation"][:] == [{"de": german, "en": english} for german, english in PAIRS]


def test_sentences_that_look_like_values_stay_text(tmp_path: Path) -> None:
    """``0,zero`` was "empty", ``007`` lost its zeros and ``None`` was refused, because types were guessed."""
    words = ["0", "007", "None", "NA", "true", "2020-01-01", "1.50"]
    write_text(tmp_path, "a.csv", ["de,en", *(f"{word},word" for word in words)])
    write_text(tmp_path, "a.jsonl", [json.dumps({"de": word, "en": "word"}) for word in words])
    write_text(tmp_path, "a.json", [json.dumps({"translation": {"de": word, "en": "word"}}) for word in words])
    for name in ("a.csv", "a.jsonl", "a.json"):
        arguments = DataArguments(source_lang="de", target_lang="en", train_file=str(tmp_path / name))
        pairs = load_corpus(arguments, ["train"])["train"]["translation"]
        assert [pair["de"] for pair in pairs] == words


def test_carriage_returns_alone_end_lines(tmp_path: Path) -> None:
    """A file whose lines end in a carriage return alone was read as a single sentence."""
    (tmp_path / "a.de").write_bytes(b"eins\rzwei\r")
    (tmp_path / "a.en").write_bytes(b"one\ntwo\n")
    arguments = DataArguments(source_lang="de", target_lang="en", train_file=str(tmp_path / "a.de"))
    pairs = load_corpus(arguments, ["train"])["train"]["translation"][:]
    assert pairs == [{"de": "eins", "en": "one"}, {"de": "zwei", "en": "two"}]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    write_text(tmp_path, "x.de", ["eins\u2028zwei", "drei\x0bvier"])
    source = write_text(tmp_path, "x.en", ["one two", "three four"])
    arguments = DataArguments(source_lang="de", target_lang="en", train_file=str(source))
    assert load_corpus(arguments, ["train"])["train"].num_rows == 2


def test_limits_take_the_first_pairs(tmp_path: Path) -> None:
    file = str(write_sides(tmp_path, "train"))
    arguments = DataArguments(
        source_lang="en", target_lang="de", train_file=file, test_file=file, max_train_samples=1, max_predict_samples=9
    )
    corpus = load_corpus(arguments, ["train", "test"])
    assert {split: len(pairs) for split, pairs in corpus.items()} == {"train": 1, "test": len(PAIRS)}


def test_embedded_splits_are_disjoint() -> None:
    arguments = DataArguments(source_lang="de", target_lang="en", dataset_name="embedded")
    corpus = load_corpus(arguments, ["train", "validation", "test"])
    german = {split: {pair["de"] for pair in pairs["translation"]} for split, pairs in corpus.items()}
    assert len(german["train"]) > 15_000
    assert not german["test"] & german["train"]
    assert not german["test"] & german["validation"]


def finished_run(folder: Path) -> list[str]:
    (folder / "finished").mkdir()
    (folder / "finished" / "record.json").write_text("{}")
    return ["--dataset_name", "embedded", "--output_dir", str(folder / "finished")]


def unequal(folder: Path) -> list[str]:
    write_text(folder, "bad.en", ["one"])
    return ["--train_file", str(write_text(folder, "bad.de", ["eins", "zwei"]))]


def empty_side(folder: Path) -> list[str]:
    write_text(folder, "bad.en", [])
    return ["--train_file", str(write_text(folder, "bad.de", ["eins"]))]


def empty_line(folder: Path) -> list[str]:
    write_text(folder, "bad.en", ["one", "  ", "three"])
    return ["--train_file", str(write_text(folder, "bad.de", ["eins", "zwei", "drei"]))]


def not_utf8(folder: Path) -> list[str]:
    write_text(folder, "bad.en", ["one", "two"])
    (folder / "bad.de").write_bytes("eins\nzw\xf6lf\n".encode("latin-1"))
    return ["--train_file", str(folder / "bad.de")]


def csv_not_utf8(folder: Path) -> list[str]:
    (folder / "bad.csv").write_bytes("de,en\nzw\xf6lf,twelve\n".encode("latin-1"))
    return ["--train_file", str(folder / "bad.csv")]


def not_packed(folder: Path) -> list[str]:
    write_text(folder, "bad.en.gz", ["one"])
    (folder / "bad.de.gz").write_bytes(b"eins\n")
    return ["--train_file", str(folder / "bad.de.gz")]


def broken(suffix: str, content: bytes) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        write_text(folder, f"bad.en{suffix}", ["one"])
        (folder / f"bad.de{suffix}").write_bytes(content)
        return ["--train_file", str(folder / f"bad.de{suffix}")]

    return write


def folder_for_file(folder: Path) -> list[str]:
    (folder / "bad.de").mkdir()
    return ["--train_file", str(folder / "bad.de")]


def lines_of(name: str, *lines: str) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        write_text(folder, "bad.en", ["one"])
        return ["--train_file", str(write_text(folder, name, list(lines)))]

    return write


def other_columns(folder: Path) -> list[str]:
    return ["--train_file", str(write_text(folder, "bad.csv", ["german,english", "eins,one"]))]


def no_json(folder: Path) -> list[str]:
    return ["--train_file", str(write_text(folder, "bad.jsonl", ["{eins: one"]))]


def empty_json_side(folder: Path) -> list[str]:
    lines = ['{"translation": {"de": "eins", "en": "one"}}', '{"translation": {"de": "zwei", "en": ""}}']
    return ["--train_file", str(write_text(folder, "bad.jsonl", lines))]


def flat_translation(folder: Path) -> list[str]:
    return ["--train_file", str(write_text(folder, "bad.jsonl", ['{"translation": "eins"}']))]


BAD_INPUT: list[tuple[str, Callable[[Path], list[str]], list[str]]] = [
    ("unequal", unequal, ["bad.de has 2 lines", "bad.en has 1"]),
    ("empty side", empty_side, ["bad.en is empty"]),
    ("empty line", empty_line, ["line 2", "bad.en is empty"]),
    ("missing file", lambda _: ["--train_file", "no.de"], ["--train_file no.de", "does not exist"]),
    (
        "missing side",
        lambda folder: ["--train_file", str(write_text(folder, "lone.de", ["eins"]))],
        ["lone.en", "does not exist"],
    ),
    ("missing table", lambda _: ["--train_file", "no.jsonl"], ["--train_file no.jsonl", "does not exist"]),
    ("no file", lambda _: [], ["--train_file is not set"]),
    ("not UTF-8", not_utf8, ["line 2", "bad.de is not UTF-8"]),
    ("CSV not UTF-8", csv_not_utf8, ["bad.csv", "UTF-8"]),
    ("not gzip", not_packed, ["bad.de.gz cannot be read"]),
    (
        "broken gzip",
        broken(".gz", gzip.compress(b"eins")[:10] + b"\xff" * 20),
        ["bad.de.gz cannot be read", "damaged"],
    ),
    ("cut gzip", broken(".gz", gzip.compress(b"eins")[:-4]), ["bad.de.gz cannot be read", "damaged"]),
    ("broken xz", broken(".xz", lzma.compress(b"eins")[:20] + b"\xff" * 20), ["bad.de.xz cannot be read", "damaged"]),
    ("cut bz2", broken(".bz2", bz2.compress(b"eins")[:-4]), ["bad.de.bz2 cannot be read", "damaged"]),
    ("blank lines", lines_of("bad.de", "", " ", ""), ["bad.de is empty"]),
    ("blank lines of CSV", lines_of("bad.csv", "", "", ""), ["the train data has no sentence pairs"]),
    ("blank lines of JSON", lines_of("bad.jsonl", "", " ", ""), ["the train data has no sentence pairs"]),
    ("a folder", folder_for_file, ["bad.de is a folder; give a file"]),
    (
        "a row without a language",
        lines_of("bad.jsonl", '{"translation": {"de": "eins", "en": "one"}}', '{"translation": {"de": "zwei"}}'),
        ["bad.jsonl, row 2", "has no 'en'; it has de"],
    ),
    (
        "a flat row without a language",
        lines_of("bad.jsonl", '{"de": "eins", "en": "one"}', '{"en": "two"}'),
        ["bad.jsonl, row 2", "has no 'de'; it has en"],
    ),
    (
        "a row without a translation",
        lines_of("bad.jsonl", '{"translation": {"de": "eins", "en": "one"}}', '{"id": "2"}'),
        ["bad.jsonl, row 2", '"translation" must hold', "not None"],
    ),
    ("a null", lines_of("bad.jsonl", '{"de": "eins", "en": null}'), ["bad.jsonl", "the en side of row 1 is empty"]),
    (
        "a boolean",
        lines_of("bad.jsonl", '{"de": true, "en": "yes"}'),
        ["bad.jsonl, row 1", "'de' is True; it must be"],
    ),
    ("a list", lines_of("bad.jsonl", '{"de": ["a"], "en": "yes"}'), ["bad.jsonl, row 1", "'de' is ['a']; it must be"]),
    ("too few cells", lines_of("bad.csv", "de,en", "eins"), ["bad.csv", "line 2 has 1 cells, but the header has 2"]),
    ("an open quote", lines_of("bad.csv", "de,en", 'eins,"one', "zwei,two"), ["bad.csv", "is not CSV"]),
    (
        "no checkpoint",
        lambda _: ["--dataset_name", "embedded", "--resume_from_checkpoint", "no"],
        ["no is not a folder"],
    ),
    ("not JSON", no_json, ["bad.jsonl", "JSON"]),
    ("missing column", other_columns, ["bad.csv", '"translation"', "german, english"]),
    ("flat column", flat_translation, ["bad.jsonl", '"translation" must hold']),
    ("empty JSON side", empty_json_side, ["bad.jsonl", "the en side of row 2 is empty"]),
    (
        "wrong language",
        lambda folder: ["--train_file", str(write_json_lines(folder, "x.jsonl")), "--target_lang", "fr"],
        ["'fr'", "--target_lang", "de, en"],
    ),
    (
        "wrong language of text",
        lambda folder: ["--train_file", str(write_sides(folder, "x")), "--source_lang", "fr", "--target_lang", "es"],
        [".fr or .es"],
    ),
    ("same language", lambda _: ["--target_lang", "de"], ["are both de"]),
    (
        "two sources of data",
        lambda _: ["--dataset_name", "embedded", "--train_file", "mine.de"],
        ["both --dataset_name embedded and --train_file mine.de", "give one"],
    ),
    ("embedded has no fr", lambda _: ["--dataset_name", "embedded", "--source_lang", "fr"], ["embedded", "'fr'"]),
    (
        "no network",
        lambda _: ["--dataset_name", "some/where"],
        ["--dataset_name some/where could not be loaded", "network"],
    ),
    ("a typo", lambda _: ["--learning_rat", "1"], ["--learning_rat is not a setting", "--learning_rate"]),
    ("an optimizer that is none", lambda _: ["--optim", "momoo"], ["momoo", "momo_adam"]),
    ("no such model", lambda _: ["--dataset_name", "embedded", "--model_name_or_path", "no/model"], ["no/model"]),
    ("no such architecture", lambda _: ["--dataset_name", "embedded", "--model_type", "marain"], ["marain", "marian"]),
    (
        "a size the architecture lacks",
        lambda _: ["--dataset_name", "embedded", "--model_type", "t5", "--encoder_ffn_dim", "8"],
        ["--encoder_ffn_dim", "t5"],
    ),
    ("a finished run", finished_run, ["finished holds a finished run", "--overwrite"]),
    ("BLEU without translations", lambda _: ["--metric_for_best_model", "bleu"], ["--predict_with_generate"]),
    ("early stopping without a score", lambda _: ["--early_stopping_patience", "1"], ["--metric_for_best_model"]),
]


@pytest.mark.parametrize(("write", "named"), [case[1:] for case in BAD_INPUT], ids=[case[0] for case in BAD_INPUT])
def test_bad_input_gets_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    write: Callable[[Path], list[str]],
    named: list[str],
) -> None:
    output = tmp_path / "out"
    common = ["--do_train", "--output_dir", str(output), "--source_lang", "de", "--target_lang", "en", "--use_cpu"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(sys, "argv", ["recipes/translation.py", *common, *write(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "recipes" / "translation.py"), run_name="__main__")
    assert ended.value.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip() and "examples/s" not in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert "Traceback" not in lines[0]
    assert all(each in lines[0] for each in named), lines[0]
    assert not output.exists()


@pytest.mark.parametrize("recipe", ["translation.py", "image_classification.py"])
def test_caches_that_cannot_be_written(tmp_path: Path, recipe: str) -> None:
    """Reading a CSV file with an unwritable cache ended in the advice to "mend the file".

    The files of a user need no cache, and a data set of the Hub names it.
    """
    pairs = write_text(tmp_path, "pairs.csv", ["de,en", *["007,None"] * 8])
    (tmp_path / "hub").mkdir()
    write_json_lines(tmp_path / "hub", "train.jsonl")
    environment = {**os.environ, "HF_HOME": os.devnull + "/cache", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, ROOT / "recipes" / recipe, "--use_cpu", "--output_dir", "run", *arguments]
        return subprocess.run(
            [str(word) for word in command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    languages = ["--source_lang", "de", "--target_lang", "en"] if recipe == "translation.py" else []
    done = run("--do_train", "--do_eval", *languages, "--dataset_name", tmp_path / "hub")
    assert done.returncode == 2, done.stderr
    assert "/cache'); if this is the cache, set HF_HOME to a folder" in done.stderr, done.stderr
    if recipe == "translation.py":
        files = [
            "--config",
            DEMO_CONFIG,
            *TINY,
            "--train_file",
            pairs,
            "--validation_file",
            pairs,
            "--test_file",
            pairs,
        ]
        done = run(*files, "--max_steps", "1", "--eval_strategy", "no", "--vocab_size", "300")
    else:
        files = ["--data_dir", write_folders(tmp_path / "data"), "--do_train", "--model_type", "image_mlp"]
        done = run(*files, "--max_steps", "1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "record.json").exists()


def test_a_hub_dataset_without_a_split_is_named(tmp_path: Path) -> None:
    write_json_lines(tmp_path, "train.jsonl")
    arguments = DataArguments(source_lang="de", target_lang="en", dataset_name=str(tmp_path))
    assert load_corpus(arguments, ["train"])["train"].num_rows == len(PAIRS)
    with pytest.raises(UsageError, match="has no split test; it has train"):
        load_corpus(arguments, ["test"])
