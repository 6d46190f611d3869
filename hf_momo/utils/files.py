"""Files that are written whole or not at all, and the check that a file is whole."""

import json
import os
import zipfile
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file such that a kill during the write leaves the old content.

    Args:
        path: The file; its folder is created if necessary.
        content: Bytes, or text that is written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def file_problem(path: Path) -> str | None:
    """Return what is wrong with a JSON, safetensors or PyTorch file.

    Args:
        path: The file. Except for JSON only its beginning and its end are read.

    Returns:
        A short description such as ``"is cut short"``; ``None`` if the file is whole or of another format.
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
        # Data after a whole document does not mean a truncated file, but a file with one document per line.
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
    # torch.save writes a zip archive, whose table of contents is at its end. Older formats are not checked.
    if b"PK\x03\x04".startswith(magic):
        try:
            zipfile.ZipFile(path).close()
        except zipfile.BadZipFile:
            return "is cut short"
    return None
