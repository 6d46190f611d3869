"""Sentence pairs for translation from files, the Hub or the built-in set, as one ``DatasetDict``.

It has the splits that were asked for, of train, validation and test, with one column, ``translation``: a mapping from
language to sentence, which is Hugging Face's own format for translation.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from common.hub_data import load_from_hub
from common.processes import print_once
from common.reading import COMPRESSIONS, TABLES, format_suffix, read_lines, read_table
from hf_momo.utils.errors import UsageError
from machine_translation.arguments import DataArguments
from machine_translation.languages import language_of

Pair = dict[str, Any]
SPLIT_FLAGS = {"train": "train_file", "validation": "validation_file", "test": "test_file"}
EMBEDDED = "embedded"


def load_corpus(arguments: DataArguments, splits: list[str]) -> DatasetDict:
    """Load the splits that a run needs and check every pair.

    Args:
        arguments: Where the data is and which languages it has.
        splits: The splits that the run will use.

    Returns:
        The splits, each with the column ``translation``.

    Raises:
        UsageError: If the data cannot be read or is malformed, with the file and the line or row.
    """
    if not arguments.source_lang or not arguments.target_lang:
        missing = "--source_lang" if not arguments.source_lang else "--target_lang"
        raise UsageError(f"{missing} is not set; give the language of that side of the data, e.g. de")
    if arguments.source_lang == arguments.target_lang:
        raise UsageError(f"--source_lang and --target_lang are both {arguments.source_lang}; they must differ")
    files = {split: getattr(arguments, SPLIT_FLAGS[split]) for split in splits}
    given = [f"--{flag} {name}" for flag in SPLIT_FLAGS.values() if (name := getattr(arguments, flag)) is not None]
    if arguments.dataset_name is not None and given:
        raise UsageError(
            f"both --dataset_name {arguments.dataset_name} and {', '.join(given)} say where the data is; give one"
        )
    if arguments.dataset_name == EMBEDDED:
        corpus = _load_embedded(arguments, splits)
    elif arguments.dataset_name is not None:
        corpus = _load_hub(arguments, splits)
    else:
        corpus = DatasetDict({split: _load_file(files[split], split, arguments) for split in splits})
    limits = {
        "train": arguments.max_train_samples,
        "validation": arguments.max_eval_samples,
        "test": arguments.max_predict_samples,
    }
    for split, pairs in corpus.items():
        if (limit := limits[split]) is not None:
            corpus[split] = pairs.select(range(min(len(pairs), limit)))
        if len(corpus[split]) == 0:
            raise UsageError(f"the {split} data has no sentence pairs; give at least one")
    return corpus


def _load_embedded(arguments: DataArguments, splits: list[str]) -> DatasetDict:
    from german_english import generate

    generated = generate()
    name = f"--dataset_name {EMBEDDED}"
    return DatasetDict({split: _dataset(_pairs(generated[split], arguments, name)) for split in splits})


def _load_hub(arguments: DataArguments, splits: list[str]) -> DatasetDict:
    name = str(arguments.dataset_name)
    instead = f"--train_file or --dataset_name {EMBEDDED}"
    loaded = load_from_hub(name, arguments.dataset_config_name, arguments.dataset_revision, instead)
    if missing := [split for split in splits if split not in loaded]:
        raise UsageError(f"--dataset_name {name} has no split {missing[0]}; it has {', '.join(loaded)}")
    corpus = DatasetDict()
    for split in splits:
        pairs = list(_pairs(loaded[split], arguments, f"--dataset_name {name}, split {split}"))
        # A user cannot repair a data set of the Hub, and the large ones do have empty sentences.
        complete = [pair for pair in pairs if not any(_is_empty(sentence) for sentence in pair.values())]
        if dropped := len(pairs) - len(complete):
            print_once(f"{name}, split {split}: left out {dropped} of {len(pairs)} pairs with an empty side")
        corpus[split] = _dataset(complete)
    return corpus


def _load_file(name: str | None, split: str, arguments: DataArguments) -> Dataset:
    flag = f"--{SPLIT_FLAGS[split]}"
    if name is None:
        raise UsageError(
            f"{flag} is not set and the run needs {split} data; give a file, a --dataset_name, or "
            f"`--dataset_name {EMBEDDED}` for the built-in set"
        )
    path = Path(name)
    if format_suffix(path) not in TABLES:
        return _load_parallel_text(path, flag, arguments)
    pairs = list(_pairs(read_table(path, f"{flag} {path}"), arguments, f"{flag} {path}"))
    for number, pair in enumerate(pairs, start=1):
        for language, sentence in pair.items():
            if _is_empty(sentence):
                raise UsageError(f"{flag} {path}: the {language} side of row {number} is empty; remove the row")
    return _dataset(pairs)


def _load_parallel_text(path: Path, flag: str, arguments: DataArguments) -> Dataset:
    sides = _sides_of(path, flag, arguments)
    lines = {}
    for language, file in sides.items():
        name = f"{flag} {file}" if file == path else f"{flag} {path}: the {language} side, {file},"
        lines[language] = [line.strip() for line in read_lines(file, name)]
        if not any(lines[language]):
            raise UsageError(f"{flag}: {file} is empty; it must hold one sentence per line")
    (source, target), (source_file, target_file) = lines.values(), sides.values()
    if len(source) != len(target):
        raise UsageError(
            f"{flag}: {source_file} has {len(source)} lines and {target_file} has {len(target)}; "
            "line n of one must be the translation of line n of the other"
        )
    for language, side in lines.items():
        if "" in side:
            number = side.index("") + 1
            raise UsageError(f"{flag}: line {number} of {sides[language]} is empty; remove it from both files")
    return _dataset(dict(zip(lines, pair, strict=True)) for pair in zip(source, target, strict=True))


def _sides_of(path: Path, flag: str, arguments: DataArguments) -> dict[str, Path]:
    """Return both files of a parallel text by language: data/train.de.gz gives data/train.en.gz, too."""
    languages = (str(arguments.source_lang), str(arguments.target_lang))
    compression = path.suffix if path.suffix in COMPRESSIONS else ""
    stem = path.name.removesuffix(compression)
    for endings in (languages, tuple(map(language_of, languages))):
        for ending in endings:
            if stem.endswith(f".{ending}"):
                base = stem.removesuffix(ending)
                files = [path.with_name(f"{base}{each}{compression}") for each in endings]
                return dict(zip(languages, files, strict=True))
    raise UsageError(
        f"{flag} {path}: a text file must end in its language, .{languages[0]} or .{languages[1]} (--source_lang, "
        f"--target_lang), and a table in {', '.join(TABLES)}; each optionally followed by {', '.join(COMPRESSIONS)}"
    )


def _pairs(rows: Any, arguments: DataArguments, where: str) -> Iterable[Pair]:
    """Take the sentences of both languages from rows with the column ``translation`` or one column per language."""
    iterator = iter(rows)
    if (first := next(iterator, None)) is None:
        return
    languages = [str(arguments.source_lang), str(arguments.target_lang)]
    is_nested = "translation" in first
    if not is_nested and not any(language in first or language_of(language) in first for language in languages):
        raise UsageError(
            f'{where} has no column "translation", nor "{languages[0]}" and "{languages[1]}"; its columns are '
            f"{', '.join(map(str, first))}"
        )
    keys: list[str] = []
    for number, row in enumerate((first, *iterator), start=1):
        sentences = row.get("translation") if is_nested else row
        if not isinstance(sentences, Mapping):
            example = f'{{"{languages[0]}": ..., ...}}'
            raise UsageError(f'{where}, row {number}: "translation" must hold {example}, not {sentences!r:.60}')
        keys = keys or _keys(sentences, arguments, where)
        yield {
            language: _sentence(sentences, key, f"{where}, row {number}")
            for language, key in zip(languages, keys, strict=True)
        }


def _keys(present: Mapping[str, Any], arguments: DataArguments, where: str) -> list[str]:
    """Return the keys of both languages; as in run_translation.py, de_DE stands for the key de, too."""
    keys = []
    for flag in ("source_lang", "target_lang"):
        language = str(getattr(arguments, flag))
        key = next((each for each in (language, language_of(language)) if each in present), None)
        if key is None:
            raise UsageError(f"{where} has no language {language!r} (--{flag}); it has {', '.join(present)}")
        keys.append(key)
    if keys[0] == keys[1]:
        raise UsageError(f"{where} has only {keys[0]!r} for both --source_lang and --target_lang; they must differ")
    return keys


def _sentence(sentences: Mapping[str, Any], language: str, where: str) -> str | None:
    if language not in sentences:
        raise UsageError(f"{where} has no {language!r}; it has {', '.join(sentences) or 'nothing'}")
    sentence = sentences[language]
    if sentence is not None and not isinstance(sentence, str):
        raise UsageError(f"{where}: {language!r} is {sentence!r:.60}; it must be text")
    return sentence


def _is_empty(sentence: str | None) -> bool:
    return sentence is None or not sentence.strip()


def _dataset(pairs: Iterable[Pair]) -> Dataset:
    return Dataset.from_dict({"translation": list(pairs)})
