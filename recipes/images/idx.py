"""MNIST's idx files: a header with type and shape, then the values, big-endian; often compressed by gzip."""

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import torch

from hf_momo.utils.errors import UsageError
from images.data import ImageCorpus, ImageSplit

_PREFIXES = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTES = 0x08


def holds_idx(folder: Path) -> bool:
    """Whether there are idx files of training images in a folder."""
    return _find(folder, "train-images") is not None


def read_idx_folder(folder: Path) -> ImageCorpus:
    """Read train-images-idx3-ubyte, train-labels-idx1-ubyte, and t10k-... for the test, each with or without .gz.

    Raises:
        UsageError: A file is missing, or is not what it should be.
    """
    splits = {}
    for split, prefix in _PREFIXES.items():
        arrays = []
        for kind, dimensions in (("images", 3), ("labels", 1)):
            path = _find(folder, f"{prefix}-{kind}")
            if path is None:
                raise UsageError(f"--data_dir {folder} lacks {prefix}-{kind}-idx{dimensions}-ubyte (or .gz)")
            arrays.append(_read(path, dimensions))
        images, labels = arrays
        if len(images) != len(labels):
            raise UsageError(f"--data_dir {folder}: {len(images)} {split} images, but {len(labels)} labels")
        splits[split] = ImageSplit(torch.from_numpy(images)[..., None], torch.from_numpy(labels).long())
    count = 1 + max(int(split.labels.max()) for split in splits.values())
    return ImageCorpus(splits, [str(label) for label in range(count)])


def _find(folder: Path, start: str) -> Path | None:
    # Some copies have a dot where the original has a dash: train-images.idx3-ubyte.
    return next(iter(sorted(folder.glob(f"{start}[-.]idx?-ubyte*"))), None)


def _read(path: Path, dimensions: int) -> np.ndarray:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if (
        len(content) < 4 + 4 * dimensions
        or content[:2] != b"\0\0"
        or tuple(content[2:4])
        != (
            _UNSIGNED_BYTES,
            dimensions,
        )
    ):
        raise UsageError(f"{path} is no idx file of bytes in {dimensions} dimensions")
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise UsageError(
            f"{path} should hold {math.prod(shape)} bytes after its header and holds {len(content) - start}"
        )
    return np.frombuffer(bytearray(content[start:]), np.uint8).reshape(shape)
