"""Files written whole or not at all, and files that are not whole."""

import json
import os
import zipfile
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file such that a kill in the middle leaves what stood there before.

    Args:
        path: Its folder is made where it does not exist.
        content: Text is written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def file_problem(path: Path) -> str | None:
    """What is wrong with a file whose format tells where it ends.

    Args:
        path: The file. Only its beginning and its end are read, except of JSON.

    Returns:
        A short description, or ``None`` if nothing is wrong or the format is not known.
    """
    if path.suffix == ".json":
        return _json_problem(path)
    if path.suffix == ".safetensors":
        return _safetensors_problem(path)
    if path.suffix in (".pt", ".pth", ".bin"):
        return _torch_file_problem(path)
    return None


def _json_problem(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return "is cut short"
    except json.JSONDecodeError as error:
        # More behind a whole document is no file cut short, but one document a line.
        return None if error.msg == "Extra data" else "is cut short"
    if path.name.endswith(".index.json") and isinstance(content, dict):
        shards = sorted(set(content.get("weight_map", {}).values()))
        missing = [shard for shard in shards if not (path.parent / shard).is_file()]
        return f"names {missing[0]}, which is missing" if missing else None
    return None


def _safetensors_problem(path: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    try:
        safe_open(path, framework="pt").__exit__(None, None, None)
    except SafetensorError:
        return "is cut short"
    return None


def _torch_file_problem(path: Path) -> str | None:
    with path.open("rb") as file:
        magic = file.read(4)
    # torch.save writes a zip archive, whose table of contents stands at the end. Older formats are not looked into.
    if b"PK\x03\x04".startswith(magic):
        try:
            zipfile.ZipFile(path).close()
        except zipfile.BadZipFile:
            return "is cut short"
    return None
