"""Data sets in one ``.npz`` file: x_train, y_train, x_test, y_test (or x_val, y_val) and the names of the classes."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from hf_momo.utils.errors import UsageError
from images.data import ImageCorpus, ImageSplit

_TEST_NAMES = ("test", "val", "valid", "validation")
_READ_ERRORS = (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error)
_CONTENT = "x_train, y_train, x_test, y_test (or x_val, y_val), and optionally classes, their names"


def read_npz(path: Path) -> ImageCorpus:
    """Read ``uint8`` images of shape (images, height, width) or (images, height, width, channels) and integer labels.

    Raises:
        UsageError: If the file cannot be read, lacks an array, or an array has another type or shape.
    """
    arrays = _read_arrays(path)
    test = next((name for name in _TEST_NAMES if f"x_{name}" in arrays), None)
    found = {"train": "train"} if "x_train" in arrays else {}
    if test is not None:
        found["test"] = test
    if not found:
        raise UsageError(f"--data_dir {path} holds {', '.join(arrays) or 'nothing'}; it must hold {_CONTENT}")
    splits = {split: _split(path, arrays, name) for split, name in found.items()}
    if "classes" in arrays:
        return ImageCorpus(splits, [str(name) for name in arrays["classes"]])
    return ImageCorpus.with_numbered_classes(splits)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here, because np.load leaves the file open where it is not an archive.
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                raise ValueError("it holds a single array, as .npy files do")
            return {name: content[name] for name in content.files}
    except _READ_ERRORS as error:
        raise UsageError(f"--data_dir {path} cannot be read as an .npz file of arrays: {error}") from error


def _split(path: Path, arrays: dict[str, np.ndarray], name: str) -> ImageSplit:
    if f"y_{name}" not in arrays:
        raise UsageError(f"--data_dir {path} holds x_{name} without y_{name}; it must hold {_CONTENT}")
    images, labels = arrays[f"x_{name}"], arrays[f"y_{name}"].squeeze()
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not len(images):
        raise UsageError(
            f"--data_dir {path}: x_{name} is {images.dtype} of shape {images.shape}; it must be uint8 of shape "
            "(images, height, width) or (images, height, width, channels)"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise UsageError(
            f"--data_dir {path}: y_{name} is {labels.dtype} of shape {labels.shape}; it must hold an integer for "
            f"each of the {len(images)} images"
        )
    tensor = torch.from_numpy(images if images.ndim == 4 else images[..., None])
    return ImageSplit(tensor, torch.from_numpy(labels.astype(np.int64)))
