"""Text for training and evaluation, from a file or the Hub, and the blocks that a model is trained on."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, disable_progress_bars, load_dataset
from transformers import PreTrainedTokenizerBase

from hf_momo.utils.errors import UsageError
from language_models.arguments import DataArguments

# The limit of 131,072 characters a field is too low for documents.
csv.field_size_limit(2**31 - 1)
_SUFFIXES = (".txt", ".json", ".jsonl", ".csv")


@dataclass(frozen=True)
class Blocks:
    """Text as blocks of equal length.

    Attributes:
        dataset: ``input_ids`` and, with the same values, ``labels``; models shift the labels themselves.
        num_tokens: The number of tokens of the whole text, including those after the last whole block.
        num_bytes: The number of bytes of the whole text in UTF-8.
    """

    dataset: Dataset
    num_tokens: int
    num_bytes: int


def load_texts(args: DataArguments) -> DatasetDict:
    """Return the text to train on and to evaluate on.

    Returns:
        ``train`` and ``validation``, each with the column ``text``. Rows are lines with their line ends where the
        column ``is_document`` is False, and whole documents where it is True.

    Raises:
        UsageError: If the settings contradict each other, or a text is missing, damaged or empty.
    """
    disable_progress_bars()
    if (args.dataset_name is None) == (args.train_file is None):
        raise UsageError("give one of --train_file and --dataset_name")
    if not 0 < args.validation_split_percentage < 100:
        raise UsageError(
            f"--validation_split_percentage {args.validation_split_percentage}: must be between 0 and 100"
        )
    if args.dataset_name is not None:
        texts = _load_from_hub(args)
    else:
        files = {"train": args.train_file, "validation": args.validation_file}
        texts = {split: _load_file(file, args) for split, file in files.items() if file is not None}
    for split, dataset in texts.items():
        _check_not_blank(dataset, split)
    if "validation" not in texts:
        texts["train"], texts["validation"] = _hold_out(texts["train"], args.validation_split_percentage / 100)
        _check_not_blank(texts["validation"], "validation")
    return DatasetDict(texts)


def cut_into_blocks(
    texts: Dataset, tokenizer: PreTrainedTokenizerBase, block_size: int, max_blocks: int | None, split: str
) -> Blocks:
    """Return the text as blocks of tokens; a block may contain the end of a document and the start of the next.

    Args:
        texts: A split of ``load_texts``.
        tokenizer: The tokenizer of the model.
        block_size: The number of tokens of a block. Tokens after the last whole block are not used.
        max_blocks: The number of blocks to keep, from the start; ``None`` for all.
        split: The name of the split, for errors.

    Raises:
        UsageError: If the text is shorter than a block.
    """
    end: Any = tokenizer.eos_token_id
    pieces: list[np.ndarray] = []
    for start in range(0, len(texts), 1000):
        rows: Any = texts[start : start + 1000]
        encoded: Any = tokenizer(rows["text"], add_special_tokens=False, return_attention_mask=False)
        for ids, is_document in zip(encoded["input_ids"], rows["is_document"], strict=True):
            pieces.append(np.array([*ids, end] if is_document and end is not None else ids, dtype=np.int32))
    tokens = np.concatenate(pieces)
    number = len(tokens) // block_size
    if number == 0:
        raise UsageError(f"the text for {split} has {len(tokens)} tokens, less than --block_size {block_size}")
    blocks = tokens[: number * block_size].reshape(number, block_size)[:max_blocks]
    dataset = Dataset.from_dict({"input_ids": blocks, "labels": blocks})
    return Blocks(dataset, len(tokens), sum(len(text.encode()) for text in texts["text"]))


def describe(args: DataArguments, blocks: dict[str, Blocks]) -> dict[str, Any]:
    """Return the description of the data for ``record.json``."""
    files = {"train": args.train_file, "validation": args.validation_file}
    return {
        "name": args.dataset_name,
        "files": {split: Path(file).name for split, file in files.items() if file is not None},
        "blocks": {split: len(each.dataset) for split, each in blocks.items()},
        "tokens": {split: each.num_tokens for split, each in blocks.items()},
        "bytes": {split: each.num_bytes for split, each in blocks.items()},
    }


def _load_from_hub(args: DataArguments) -> dict[str, Dataset]:
    try:
        loaded = load_dataset(str(args.dataset_name), args.dataset_config_name)
    except Exception as error:  # datasets raises many kinds
        raise UsageError(f"--dataset_name {args.dataset_name} cannot be loaded ({error})") from error
    if "train" not in loaded:
        raise UsageError(f"--dataset_name {args.dataset_name} has no split train, only {', '.join(loaded)}")
    splits = [split for split in ("train", "validation") if split in loaded]
    return {split: _documents(loaded[split], f"--dataset_name {args.dataset_name}", args) for split in splits}


def _load_file(file: str, args: DataArguments) -> Dataset:
    suffix = Path(file.removesuffix(".gz")).suffix
    if suffix not in _SUFFIXES:
        raise UsageError(f"{file}: its name must end in {', '.join(_SUFFIXES)}, or one of these and .gz")
    text = _read_text(file)
    if suffix == ".txt":
        lines = text.readlines()
        return Dataset.from_dict({"text": lines, "is_document": [False] * len(lines)})
    rows = list(_read_csv(text, file) if suffix == ".csv" else _read_json(text, file))
    if rows and args.text_column_name not in rows[0][1]:
        raise UsageError(_describe_missing_column(file, args.text_column_name, list(rows[0][1])))
    documents = []
    for number, row in rows:
        document = row.get(args.text_column_name)
        if not isinstance(document, str):
            raise UsageError(
                f"{file}, row {number}: column {args.text_column_name} does not hold text, but "
                f"{json.dumps(document)[:80]}; every row needs a string"
            )
        documents.append(document)
    return Dataset.from_dict({"text": documents, "is_document": [True] * len(documents)})


def _read_text(file: str) -> io.StringIO:
    """Return the content of a file, with its line ends, of whatever kind, as line feeds."""
    try:
        data = Path(file).read_bytes()
        data = gzip.decompress(data) if file.endswith(".gz") else data
        return io.StringIO(data.decode("utf-8-sig"), newline=None)
    except FileNotFoundError as error:
        raise UsageError(f"{file} does not exist; give a file of text") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{file}, line {line}: not UTF-8 ({error.reason}); convert the file to UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{file} cannot be read ({error}); give a complete file of text") from error


def _read_csv(text: io.StringIO, file: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(text, strict=True)
    try:
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                raise UsageError(f"{file}, row {number}: has not as many fields as the first line")
            yield number, row
    except csv.Error as error:
        raise UsageError(f"{file}, line {reader.reader.line_num}: not CSV ({error})") from error


def _read_json(text: io.StringIO, file: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON list, or of a file with one object a line, with their numbers."""
    is_list = text.getvalue().lstrip().startswith("[")
    documents = [text.getvalue()] if is_list else [line for line in text if line.strip()]
    for number, document in enumerate(documents, start=1):
        try:
            parsed = json.loads(document)
        except json.JSONDecodeError as error:
            raise UsageError(f"{file}, row {number}: not JSON ({error})") from error
        for row_number, row in enumerate(parsed, start=1) if is_list else [(number, parsed)]:
            if not isinstance(row, dict):
                raise UsageError(f"{file}, row {row_number}: must be a JSON object, not {json.dumps(row)[:80]}")
            yield row_number, row


def _describe_missing_column(name: str, column: str, columns: list[str]) -> str:
    return f"{name} has no column {column}; give --text_column_name, one of {', '.join(columns)}"


def _documents(dataset: Dataset, name: str, args: DataArguments) -> Dataset:
    column = args.text_column_name
    if column not in dataset.column_names:
        raise UsageError(_describe_missing_column(name, column, dataset.column_names))
    texts = dataset.select_columns([column])
    texts = texts if column == "text" else texts.rename_column(column, "text")
    for number, text in enumerate(texts["text"], start=1):
        if not isinstance(text, str):
            raise UsageError(f"{name}, row {number}: column {column} does not hold text, but {json.dumps(text)[:80]}")
    return texts.add_column("is_document", [True] * len(texts))


def _check_not_blank(dataset: Dataset, split: str) -> None:
    if not any(text.strip() for text in dataset["text"]):
        raise UsageError(f"the text for {split} is empty or blank; give a text with words")


def _hold_out(dataset: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """Return the text without its end, and its end: lines from the middle are too similar to their neighbours."""
    characters = np.cumsum([len(text) for text in dataset["text"]])
    first = int(np.searchsorted(characters, (1 - share) * characters[-1]))
    if not 0 < first < len(dataset):
        raise UsageError(
            f"the training text has {len(dataset)} lines or documents, of which none can be held out; give "
            "--validation_file"
        )
    return dataset.select(range(first)), dataset.select(range(first, len(dataset)))
