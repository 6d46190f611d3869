"""Sentence pairs for translation, whatever they come from, as one `DatasetDict`.

Every source ends up with the splits train, validation and test (those that were asked for) and one column,
`translation`: a mapping from language code to sentence, which is Hugging Face's own translation format.
"""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict

from common.processes import print_once
from hf_momo.utils.errors import UsageError
from machine_translation.arguments import DataArguments

SPLIT_FLAGS = {"train": "train_file", "validation": "validation_file", "test": "test_file"}
EMBEDDED = "embedded"
_TABLE_BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv"}


def load_corpus(arguments: DataArguments, splits: list[str]) -> DatasetDict:
    """Load the splits that a run needs and check every pair.

    Args:
        arguments: Where the data is and which languages it has.
        splits: Those of train, validation and test that the run will use.

    Returns:
        The splits, each with the one column `translation`.

    Raises:
        UsageError: Whatever is wrong with the input, named by file and line where there is one.
    """
    if not arguments.source_lang or not arguments.target_lang:
        missing = "--source_lang" if not arguments.source_lang else "--target_lang"
        raise UsageError(f"{missing} is not set; give the language code of that side, e.g. de")
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
    _check_languages(generated["train"][0], arguments, f"--dataset_name {EMBEDDED}")
    return DatasetDict({split: Dataset.from_dict({"translation": generated[split]}) for split in splits})


def _load_hub(arguments: DataArguments, splits: list[str]) -> DatasetDict:
    name = arguments.dataset_name
    try:
        loaded = datasets.load_dataset(name, arguments.dataset_config_name, revision=arguments.dataset_revision)
    except Exception as error:  # datasets raises a dozen kinds here, from ConnectionError to its own
        raise UsageError(
            f"--dataset_name {name} could not be loaded ({_root_cause(error)}). A Hub dataset needs the network or a "
            f"copy in the cache; without either use --train_file or --dataset_name {EMBEDDED}"
        ) from error
    if missing := [split for split in splits if split not in loaded]:
        raise UsageError(f"--dataset_name {name} has no split {missing[0]}; it has {', '.join(loaded)}")
    corpus = DatasetDict()
    for split in splits:
        pairs = _to_translation(loaded[split], arguments, f"--dataset_name {name}, split {split}")
        # Nobody can mend a Hub dataset from here, and the large ones do have such lines.
        corpus[split] = pairs.filter(lambda row: all(text and text.strip() for text in row["translation"].values()))
        if dropped := len(pairs) - len(corpus[split]):
            print_once(f"{name}, split {split}: left out {dropped} of {len(pairs)} pairs with an empty side")
    return corpus


def _load_file(name: str | None, split: str, arguments: DataArguments) -> Dataset:
    flag = f"--{SPLIT_FLAGS[split]}"
    if name is None:
        raise UsageError(
            f"{flag} is not set and the run needs {split} data; give a file, a --dataset_name, or "
            f"`--dataset_name {EMBEDDED}` for the built-in set"
        )
    path = Path(name)
    builder = _TABLE_BUILDERS.get(Path(name.removesuffix(".gz")).suffix)
    if builder is None:
        return _load_parallel_text(path, flag, arguments)
    _check_exists(path, f"{flag} {path}")
    pairs = _to_translation(_load_table(builder, path, flag), arguments, f"{flag} {path}")
    for number, row in enumerate(pairs["translation"], start=1):
        for language, text in row.items():
            if not text or not text.strip():
                raise UsageError(f"{flag} {path}: the {language} side of pair {number} is empty; remove the pair")
    return pairs


def _load_table(builder: str, path: Path, flag: str) -> Dataset:
    # pandas, under the CSV builder, would turn sentences such as "NA" or "None" into missing values.
    options: dict[str, Any] = {"keep_default_na": False} if builder == "csv" else {}
    # What it logs before it raises would stand above the one line that matters.
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        return datasets.load_dataset(builder, data_files=str(path), split="train", **options)
    except Exception as error:  # the builders wrap what went wrong in errors of their own
        cause = _root_cause(error)
        advice = "save it as UTF-8" if isinstance(cause, UnicodeDecodeError) else "mend the file"
        raise UsageError(f"{flag} {path} is not readable as UTF-8 {builder.upper()}: {cause}; {advice}") from error


def _load_parallel_text(path: Path, flag: str, arguments: DataArguments) -> Dataset:
    sides = _sides_of(path, flag, arguments)
    for language, side in sides.items():
        _check_exists(side, f"{flag} {path}: the {language} side, {side},")
    lines = {language: _read_lines(side, flag) for language, side in sides.items()}
    (source, target), (source_file, target_file) = lines.values(), sides.values()
    for file, side_lines in zip(sides.values(), lines.values(), strict=True):
        if not side_lines:
            raise UsageError(f"{flag}: {file} is empty; it must hold one sentence a line")
    if len(source) != len(target):
        raise UsageError(
            f"{flag}: {source_file} has {len(source)} lines and {target_file} has {len(target)}; "
            "line n of one must be the translation of line n of the other"
        )
    for language, side_lines in lines.items():
        for number, line in enumerate(side_lines, start=1):
            if not line:
                raise UsageError(f"{flag}: line {number} of {sides[language]} is empty; remove it from both files")
    pairs = [dict(zip(lines, pair, strict=True)) for pair in zip(source, target, strict=True)]
    return Dataset.from_dict({"translation": pairs})


def _sides_of(path: Path, flag: str, arguments: DataArguments) -> dict[str, Path]:
    """Both files of a parallel text, from the name of either: data/train.de.gz gives data/train.en.gz too."""
    languages = (str(arguments.source_lang), str(arguments.target_lang))
    packed = ".gz" if path.name.endswith(".gz") else ""
    stem = path.name.removesuffix(".gz")
    for language in languages:
        if stem.endswith(f".{language}"):
            base = stem.removesuffix(language)
            return {each: path.with_name(f"{base}{each}{packed}") for each in languages}
    raise UsageError(
        f"{flag} {path}: a text file must end in the code of its language, .{languages[0]} or .{languages[1]} "
        f"(--source_lang, --target_lang), optionally .gz; tables must end in {', '.join(_TABLE_BUILDERS)}"
    )


def _read_lines(path: Path, flag: str) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    lines: list[str] = []
    try:
        # Only a line feed ends a line: str.splitlines would also cut at characters such as U+2028 inside a sentence.
        with opener(path, "rb") as file:
            for raw in file:
                lines.append(raw.decode("utf-8-sig" if not lines else "utf-8").strip())
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{flag}: line {len(lines) + 1} of {path} is not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error
    except (OSError, EOFError) as error:
        raise UsageError(f"{flag}: {path} cannot be read: {error}") from error
    return lines


def _check_exists(path: Path, what: str) -> None:
    if not path.is_file():
        raise UsageError(f"{what} does not exist; looked for it from {Path.cwd().name}/ as {path}")


def _to_translation(table: Dataset, arguments: DataArguments, where: str) -> Dataset:
    """Accept the column `translation`, or one column a language."""
    languages = [str(arguments.source_lang), str(arguments.target_lang)]
    columns = table.column_names
    if "translation" in columns:
        first = table[0]["translation"] if len(table) else {}
        if not isinstance(first, Mapping):
            raise UsageError(f'{where}: column "translation" must hold {{"{languages[0]}": ..., ...}}, not {first!r}')
        _check_languages(first, arguments, where)
        rows = [{language: row[language] for language in languages} for row in table["translation"]]
    elif any(language in columns for language in languages):
        _check_languages(dict.fromkeys(columns), arguments, where)
        sides = [table[language] for language in languages]
        rows = [dict(zip(languages, row, strict=True)) for row in zip(*sides, strict=True)]
    else:
        raise UsageError(
            f'{where} has no column "translation", nor "{languages[0]}" and "{languages[1]}"; '
            f"its columns are {', '.join(columns)}"
        )
    return Dataset.from_dict({"translation": rows})


def _check_languages(present: Mapping[str, Any], arguments: DataArguments, where: str) -> None:
    for flag in ("source_lang", "target_lang"):
        language = getattr(arguments, flag)
        if language not in present:
            raise UsageError(f"{where} has no language {language!r} (--{flag}); it has {', '.join(present)}")


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
