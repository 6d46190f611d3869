"""Reading ``record.json``, the record of a run."""

import json
from pathlib import Path
from typing import Any

from hf_momo.utils.errors import UsageError

RECORD_NAME = "record.json"


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a finished run.

    Raises:
        UsageError: If the folder holds none.
    """
    path = folder / RECORD_NAME
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; give the output folder of a finished run") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}; make it anew by repeating the run") from error
    return record
