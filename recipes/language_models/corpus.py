"""Text for training and evaluation, from a file or the Hub, and the blocks that a model is trained on."""

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, disable_progress_bars
from transformers import PreTrainedTokenizerBase

from common.hub_data import load_from_hub
from common.reading import COMPRESSIONS, TABLES, format_suffix, read_table, read_text
from hf_momo.utils.errors import UsageError
from language_models.arguments import DataArguments


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
        texts = _load_hub(args)
    else:
        files = {"train": args.train_file, "validation": args.validation_file}
        texts = {split: _load_file(file, split, args) for split, file in files.items() if file is not None}
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


def _load_hub(args: DataArguments) -> dict[str, Dataset]:
    name, column = f"--dataset_name {args.dataset_name}", args.text_column_name
    loaded = load_from_hub(str(args.dataset_name), args.dataset_config_name, instead="--train_file")
    if "train" not in loaded:
        raise UsageError(f"{name} has no split train, only {', '.join(loaded)}")
    texts = {}
    for split in ("train", "validation"):
        if split in loaded:
            _check_column(loaded[split].column_names, name, column)
            # Still memory-mapped: a data set of the Hub may be larger than the memory.
            chosen = loaded[split].select_columns([column]).rename_columns({column: "text"})
            _check_documents(chosen["text"], name, column)
            texts[split] = chosen.add_column("is_document", [True] * len(chosen))
    return texts


def _load_file(file: str, split: str, args: DataArguments) -> Dataset:
    path, name, column = Path(file), f"--{split}_file {file}", args.text_column_name
    suffix = format_suffix(path)
    if suffix == ".txt":
        # Line ends of every kind become line feeds, here and in the cells of CSV.
        lines = io.StringIO(read_text(path, name), newline=None).readlines()
        return Dataset.from_dict({"text": lines, "is_document": [False] * len(lines)})
    if suffix not in TABLES:
        formats, compressions = ", ".join((".txt", *TABLES)), ", ".join(COMPRESSIONS)
        raise UsageError(f"{name}: its name must end in {formats}, or one of these and {compressions}")
    rows = read_table(path, name)
    if rows:
        _check_column(list(rows[0]), name, column)
    documents = [row.get(column) for row in rows]
    _check_documents(documents, name, column)
    if suffix == ".csv":
        documents = [io.StringIO(document, newline=None).read() for document in documents]
    return Dataset.from_dict({"text": documents, "is_document": [True] * len(documents)})


def _check_column(columns: list[str], name: str, column: str) -> None:
    if column not in columns:
        raise UsageError(f"{name} has no column {column}; give --text_column_name, one of {', '.join(columns)}")


def _check_documents(documents: Iterable[Any], name: str, column: str) -> None:
    for number, document in enumerate(documents, start=1):
        if not isinstance(document, str):
            raise UsageError(
                f"{name}, row {number}: column {column} does not hold text, but "
                f"{json.dumps(document, default=str)[:80]}; every row needs a string"
            )


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
