"""Reading record.json, the record of a run, and writing files whole."""

import json
from pathlib import Path
from typing import Any

from hf_momo.utils.errors import UsageError

RECORD_NAME = "record.json"


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: a kill in the middle leaves what stood there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a finished run.

    Raises:
        UsageError: The folder holds none.
    """
    path = folder / RECORD_NAME
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; give the output folder of a run that has ended") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    return record
