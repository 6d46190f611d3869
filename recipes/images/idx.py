"""MNIST's idx files: a header with type and shape, then the values, big-endian; often compressed by gzip."""

import math
import struct
from pathlib import Path

import numpy as np
import torch

from common.reading import read_bytes
from hf_momo.utils.errors import UsageError
from images.data import ImageCorpus, ImageSplit

_PREFIXES = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTES = 0x08


def holds_idx(folder: Path) -> bool:
    """Return whether a folder holds an idx file of training images."""
    return _find(folder, "train-images") is not None


def read_idx_folder(folder: Path) -> ImageCorpus:
    """Read ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the test's ``t10k-...``, plain or ``.gz``.

    Raises:
        UsageError: If a file is missing, cannot be read or holds something else.
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
    return ImageCorpus.with_numbered_classes(splits)


def _find(folder: Path, start: str) -> Path | None:
    # Some copies have a dot where the original has a dash: train-images.idx3-ubyte.
    return next(iter(sorted(folder.glob(f"{start}[-.]idx?-ubyte*"))), None)


def _read(path: Path, dimensions: int) -> np.ndarray:
    content = read_bytes(path)
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes((0, 0, _UNSIGNED_BYTES, dimensions)):
        raise UsageError(f"{path} is not an idx file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise UsageError(
            f"{path} should hold {math.prod(shape)} bytes after its header and holds {len(content) - start}"
        )
    if not shape[0]:
        raise UsageError(f"{path} holds no values; replace it")
    return np.frombuffer(bytearray(content[start:]), np.uint8).reshape(shape)
