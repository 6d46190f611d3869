"""Files of text and tables, read in the same way by every recipe.

Files may end in ``.gz``, ``.bz2`` or ``.xz``. Text is UTF-8. Every value of a table is the text that stands in the
file: ``007``, ``None``, ``NA`` and ``2020-01-01`` are neither numbers nor missing values nor dates.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from hf_momo.utils.errors import UsageError

COMPRESSIONS = (".gz", ".bz2", ".xz")
TABLES = (".json", ".jsonl", ".csv")
# The exceptions of a file that is damaged, cut short or not what its name says.
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
_OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
# The largest that the csv module takes on every platform; its default is less than a long document.
_LONGEST_FIELD = 2**31 - 1


def format_suffix(path: Path) -> str:
    """Return the suffix that tells the format of a file, without that of a compression: ``.csv`` for ``a.csv.gz``."""
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


@contextmanager
def open_file(path: Path, name: str | None = None) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, decompressed where its name ends in one of ``COMPRESSIONS``.

    Args:
        path: The file.
        name: How error messages call it, e.g. ``--train_file data/train.de``; the path if ``None``.

    Raises:
        UsageError: If the file does not exist, or cannot be read here or inside the ``with`` block.
    """
    name = name or str(path)
    if path.is_dir():
        raise UsageError(f"{name} is a folder; give a file")
    try:
        with _OPENERS.get(path.suffix, _open_plain)(path) as file:
            yield file
    except FileNotFoundError as error:
        raise UsageError(f"{name} does not exist; relative paths start at {Path.cwd().name}/") from error
    except READ_ERRORS as error:
        reason = getattr(error, "strerror", None) or error
        damaged = f"; is the {path.suffix} file damaged or incomplete?" if path.suffix in COMPRESSIONS else ""
        raise UsageError(f"{name} cannot be read: {reason}{damaged}") from error


def read_bytes(path: Path, name: str | None = None) -> bytes:
    """Return the decompressed content of a file.

    Raises:
        UsageError: If the file does not exist or cannot be read.
    """
    with open_file(path, name) as file:
        return file.read()


def read_lines(path: Path, name: str | None = None) -> list[str]:
    """Return the lines of a text file without their ends.

    Only a line feed ends a line, since ``str.splitlines`` would also cut at characters such as U+2028 inside of a
    sentence. In a file without any line feed, a carriage return ends a line.

    Raises:
        UsageError: If the file does not exist, cannot be read or is not UTF-8.
    """
    name = name or str(path)
    lines: list[str] = []
    with open_file(path, name) as file:
        for raw in file:
            lines.append(_decode(raw, name, first_line=len(lines) + 1))
    if len(lines) == 1 and not lines[0].endswith("\n"):
        lines = lines[0].removesuffix("\r").split("\r")
    return [line.removesuffix("\n").removesuffix("\r") for line in lines]


def read_table(path: Path, name: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of a file whose format is one of ``TABLES``: JSON lines, a JSON list of objects, or CSV.

    Numbers of JSON become the text that stands in the file.

    Raises:
        UsageError: If the file does not exist, cannot be read or is malformed, with the number of the line.
    """
    name = name or str(path)
    text = _decode(read_bytes(path, name), name, first_line=1)
    return list(_csv_rows(text, name)) if format_suffix(path) == ".csv" else _json_rows(text, name)


def _decode(raw: bytes, name: str, first_line: int) -> str:
    try:
        return raw.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw[: error.start].count(b"\n")
        raise UsageError(f"line {line} of {name} is not UTF-8 ({error.reason}); save the file as UTF-8") from error


def _json_rows(text: str, name: str) -> list[dict[str, Any]]:
    if text.lstrip().startswith("["):
        rows: list[Any] = _parse_json(text, name, first_line=1)
    else:
        lines = text.split("\n" if "\n" in text else "\r")
        rows = [_parse_json(line, name, number) for number, line in enumerate(lines, start=1) if line.strip()]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UsageError(f'{name}: row {number} is {row!r:.60}; it must be a JSON object, e.g. {{"text": "..."}}')
    return rows


def _parse_json(text: str, name: str, first_line: int) -> Any:
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        message = f"{name}: line {first_line + error.lineno - 1} is not JSON: {error.msg} at column {error.colno}"
        raise UsageError(f"{message}; give one JSON object per line, or one list of objects") from error
    except RecursionError as error:
        raise UsageError(f"{name}: line {first_line} is not JSON: it is nested too deeply") from error


def _csv_rows(text: str, name: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_LONGEST_FIELD)
    # Strict, because otherwise a quote that is never closed would swallow the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next((cells for cells in reader if cells), [])
        for cells in reader:
            if cells and len(cells) != len(header):
                raise UsageError(
                    f"{name}: the row that ends in line {reader.line_num} has {len(cells)} cells, but the header has "
                    f"{len(header)}; put text that contains a comma or a line break in double quotes"
                )
            if cells:
                yield dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UsageError(f"{name}: line {reader.line_num} is not CSV: {error}") from error


def _open_plain(path: Path) -> IO[bytes]:
    return path.open("rb")
