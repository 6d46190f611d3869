"""Settings in YAML files, read with errors that name the file and the nearest known key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hf_momo.utils.errors import UsageError


def read_yaml(path: Path, *, typed: bool = True) -> dict[str, Any]:
    """Read the ``name: value`` lines of a YAML file.

    Args:
        path: The file.
        typed: Whether values get YAML's types. Otherwise every scalar is text as written, since YAML itself reads
            ``1e-3`` as text, ``1:10:5`` as a number to the base 60 and ``no`` as false.

    Raises:
        UsageError: If PyYAML is missing, or the file cannot be read or holds something else.
    """
    try:
        import yaml
    except ImportError:
        raise UsageError("--config needs PyYAML; install it with: pip install 'hf_momo[recipes]'") from None
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader if typed else yaml.BaseLoader)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror or error}; give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path} is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"--config {path} must hold `name: value` lines, not a {type(content).__name__}")
    return content


def nearest(name: str, known: Iterable[str]) -> str:
    """``" (did you mean NAME?)"`` with the nearest of ``known``, or nothing where none is near."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""
