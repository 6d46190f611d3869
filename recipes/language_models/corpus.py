"""Text for training and evaluation, from a file or the Hub, and the blocks that a model is trained on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, disable_progress_bars, load_dataset
from transformers import PreTrainedTokenizerBase

from hf_momo.utils.errors import UsageError
from language_models.arguments import DataArguments

_FORMATS = {".txt": "text", ".json": "json", ".jsonl": "json", ".csv": "csv"}


@dataclass(frozen=True)
class Blocks:
    """Text as blocks of equal length.

    Attributes:
        dataset: `input_ids` and `labels`, the same; a model shifts them itself.
        num_tokens: Of the whole text, what is left over of the last block included.
        num_bytes: Of the whole text in UTF-8.
    """

    dataset: Dataset
    num_tokens: int
    num_bytes: int


def load_texts(args: DataArguments) -> DatasetDict:
    """Load the text.

    Returns:
        `train` and `validation`, each with the column `text`: lines with their ends, where `is_document` is False, or
        whole documents.

    Raises:
        UsageError: There is no text, or not what was asked for.
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
    if "validation" not in texts:
        texts["train"], texts["validation"] = _hold_out(texts["train"], args.validation_split_percentage / 100)
    for split, dataset in texts.items():
        if not any(dataset["text"]):
            raise UsageError(f"there is no text for {split}; give a longer one")
    return DatasetDict(texts)


def cut_into_blocks(
    texts: Dataset, tokenizer: PreTrainedTokenizerBase, block_size: int, max_blocks: int | None, split: str
) -> Blocks:
    """Tokenize text and cut it into blocks, from one document right into the next.

    Args:
        texts: Of `load_texts`.
        tokenizer: Of the model.
        block_size: Tokens of a block. What is left over at the end of the text is left out.
        max_blocks: Keep only the first ones.
        split: For errors.

    Raises:
        UsageError: The text is shorter than a block.
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
    """The data as record.json has it."""
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
        raise UsageError(f"--dataset_name {args.dataset_name} cannot be loaded: {error}") from error
    if "train" not in loaded:
        raise UsageError(f"--dataset_name {args.dataset_name} has no split train, only {', '.join(loaded)}")
    splits = [split for split in ("train", "validation") if split in loaded]
    return {split: _documents(loaded[split], f"--dataset_name {args.dataset_name}", args) for split in splits}


def _load_file(file: str, args: DataArguments) -> Dataset:
    suffix = Path(file.removesuffix(".gz")).suffix
    if suffix not in _FORMATS:
        raise UsageError(f"{file}: its name must end in {', '.join(_FORMATS)}, or these with .gz")
    if not Path(file).is_file():
        raise UsageError(f"{file} does not exist; give a file of text")
    options = {"keep_linebreaks": True} if suffix == ".txt" else {}
    try:
        loaded = load_dataset(_FORMATS[suffix], data_files=[file], split="train", **options)
    except Exception as error:  # datasets raises many kinds, and the cause says more
        raise UsageError(f"{file} cannot be read: {error.__cause__ or error}") from error
    if suffix == ".txt":
        return loaded.add_column("is_document", [False] * len(loaded))
    return _documents(loaded, file, args)


def _documents(dataset: Dataset, name: str, args: DataArguments) -> Dataset:
    column = args.text_column_name
    if column not in dataset.column_names:
        raise UsageError(
            f"{name} has no column {column}; give --text_column_name, one of {', '.join(dataset.column_names)}"
        )
    texts = dataset.select_columns([column])
    texts = texts if column == "text" else texts.rename_column(column, "text")
    if not all(isinstance(text, str) for text in texts["text"]):
        raise UsageError(f"{name}: column {column} does not hold text alone, but {json.dumps(texts[0]['text'])[:80]}")
    return texts.add_column("is_document", [True] * len(texts))


def _hold_out(dataset: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """The end of the text is held out: lines out of its middle would be half known from their neighbours."""
    characters = np.cumsum([len(text) for text in dataset["text"]])
    first = int(np.searchsorted(characters, (1 - share) * characters[-1])) if len(characters) else 0
    if not 0 < first < len(dataset):
        raise UsageError(
            f"the training text has {len(dataset)} lines or documents, of which none can be held out; give "
            "--validation_file"
        )
    return dataset.select(range(first)), dataset.select(range(first, len(dataset)))
