"""The raw Criteo log, read as a stream: a few thousand rows at a time, whatever the size of the log.

A line has 40 fields separated by tabs and no header: 1 for a click or 0; 13 counts, whole numbers; 26 categories,
hashed to 8 hexadecimal digits. Counts and categories may be empty. They are converted as by the authors of DLRM:

- A count becomes log(1 + count); an empty or negative one counts as 0.
- A category becomes the number that its digits stand for, an empty one 0. The model takes it modulo the size of its
  embedding table, so there is no vocabulary: no first pass over the log, and no file beside the model.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from hf_momo.utils.errors import UsageError

COUNTS, CATEGORIES = 13, 26
_LABEL = "label"
_COUNT_COLUMNS = [f"count {number}" for number in range(1, COUNTS + 1)]
_CATEGORY_COLUMNS = [f"category {number}" for number in range(1, CATEGORIES + 1)]
_COLUMNS = [_LABEL, *_COUNT_COLUMNS, *_CATEGORY_COLUMNS]
_TYPES = {
    _LABEL: pa.int8(),
    **dict.fromkeys(_COUNT_COLUMNS, pa.int64()),
    **dict.fromkeys(_CATEGORY_COLUMNS, pa.string()),
}
# About five thousand lines.
_BLOCK_BYTES = 1 << 20
_NO_DIGIT = 255
_DIGITS = np.full(256, _NO_DIGIT, dtype=np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16)
_DIGITS[np.frombuffer(b"ABCDEF", dtype=np.uint8)] = np.arange(10, 16)
_FORMAT = (
    f"a line must have {len(_COLUMNS)} fields between tabs: 0 or 1, {COUNTS} whole numbers, {CATEGORIES} categories "
    "of 8 hexadecimal digits; numbers and categories may be empty"
)


@dataclass(frozen=True)
class Rows:
    """Rows of the log.

    Attributes:
        dense: The logarithms of 1 + each count, float32, shape ``(rows, 13)``.
        categories: The codes, uint32, shape ``(rows, 26)``.
        labels: 1.0 for a click or 0.0, float32, shape ``(rows,)``.
    """

    dense: np.ndarray
    categories: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Any) -> "Rows":
        return Rows(self.dense[chosen], self.categories[chosen], self.labels[chosen])

    def replace(self, positions: np.ndarray, others: "Rows") -> None:
        """Replace the rows at ``positions`` by other rows."""
        for field in fields(self):
            getattr(self, field.name)[positions] = getattr(others, field.name)


def concatenate(parts: list[Rows]) -> Rows:
    """Return the rows of all parts in order."""
    return Rows(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Rows)))


def check_readable(files: Iterable[str]) -> None:
    """Read the beginning of every file, so that a wrong one stops the run before it trains.

    Raises:
        UsageError: If a file does not exist, is empty or does not begin like a Criteo log.
    """
    for file in files:
        next(read_rows([file]))


def read_rows(files: Iterable[str]) -> Iterator[Rows]:
    """Yield the rows of several logs, one after the other, in pieces of some thousand rows.

    Args:
        files: Paths, or addresses that fsspec knows (``hf://datasets/...``, ``https://...``); compressed files are
            recognised by their names (``.gz``, ``.xz``, ...).

    Raises:
        UsageError: If a file cannot be read or is no Criteo log; the message names the file and the row.
    """
    for file in files:
        number = 0
        try:
            for rows in _read_file(file):
                number += len(rows)
                yield rows
        except UsageError:
            raise
        except FileNotFoundError as error:
            raise UsageError(f"{file} does not exist; give a file of the Criteo log") from error
        # pyarrow, every decompressor and every file system of fsspec raise errors of their own.
        except Exception as error:
            # The message may quote a long line.
            reason = str(error)[:200] or type(error).__name__
            raise UsageError(f"{file} cannot be read as a Criteo log ({reason}); {_FORMAT}") from error
        if number == 0:
            raise UsageError(f"{file} has no rows, only blank lines; give a file of the Criteo log")


def _read_file(file: str) -> Iterator[Rows]:
    if "://" not in file and Path(file).is_dir():
        raise UsageError(f"{file} is a folder; give a file of the Criteo log")
    with fsspec.open(file, "rb", compression="infer") as stream:
        reader = csv.open_csv(
            stream,
            read_options=csv.ReadOptions(column_names=_COLUMNS, block_size=_BLOCK_BYTES, use_threads=False),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(column_types=_TYPES, null_values=[""], strings_can_be_null=True),
        )
        number = 0
        for batch in reader:
            if batch.num_rows:
                yield _convert(batch, number)
                number += batch.num_rows


def _convert(batch: Any, rows_before: int) -> Rows:
    labels = batch.column(_LABEL)
    if labels.null_count or not set(labels.unique().to_pylist()) <= {0, 1}:
        row, first = next((row, label) for row, label in enumerate(labels.to_pylist(), 1) if label not in (0, 1))
        raise ValueError(
            f"Row #{rows_before + row}: the first field is {'empty' if first is None else first}, neither 0 nor 1"
        )
    counts = np.stack([batch.column(name).fill_null(0).to_numpy() for name in _COUNT_COLUMNS], axis=1)
    return Rows(
        np.log1p(np.maximum(counts, 0)).astype(np.float32),
        np.stack([_decode(batch.column(name), name, rows_before) for name in _CATEGORY_COLUMNS], axis=1),
        labels.to_numpy().astype(np.float32),
    )


def _decode(column: Any, name: str, rows_before: int) -> np.ndarray:
    texts = column.fill_null("0" * 8).cast(pa.binary())
    try:
        digits = texts.cast(pa.binary(8))
    except pa.ArrowInvalid as error:
        row = next(row for row, text in enumerate(texts.to_pylist(), 1) if len(text) != 8)
        raise ValueError(f"Row #{rows_before + row}: {name} does not have 8 characters") from error
    characters = np.frombuffer(digits.buffers()[1], dtype=np.uint8)[8 * digits.offset :][: 8 * len(digits)]
    values = _DIGITS[characters.reshape(-1, 8)]
    if (values == _NO_DIGIT).any():
        row = int((values == _NO_DIGIT).any(axis=1).argmax())
        text = column[row].as_py()
        raise ValueError(f"Row #{rows_before + row + 1}: {name} is {text!r}, which is not a hexadecimal number")
    # Two digits make a byte and four bytes a number, most significant first.
    codes: np.ndarray = (values[:, 0::2] << 4 | values[:, 1::2]).view(">u4")[:, 0].astype(np.uint32)
    return codes
