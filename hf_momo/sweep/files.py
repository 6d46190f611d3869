"""JSON files of a sweep: written whole or not at all, read with an error that names them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from hf_momo.utils.errors import UsageError
from hf_momo.utils.files import write_whole


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON: what is not finite is written as ``null``."""
    write_whole(path, json.dumps(_strict(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a file of the sweep.

    Raises:
        UsageError: If it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}); it was changed by hand, or is no file of a sweep") from None


def _strict(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _strict(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_strict(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
