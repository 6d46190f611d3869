"""The Python versions of CIFAR10, CIFAR100 and ImageNet32: pickled dictionaries of flat images and labels."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_momo.utils.errors import UsageError
from images.data import ImageCorpus, ImageSplit

_SIZE, _CHANNELS = 32, 3
_NUMPY_NAMES = {"_reconstruct", "_frombuffer", "scalar", "ndarray", "dtype"}


@dataclass(frozen=True)
class Layout:
    """The files of a data set.

    Attributes:
        name: Name of the data set, for error messages.
        files: The files of each split.
        folders: The folders in which the files of each split may lie, below the one that the user gives.
        labels: Key of the labels in a file.
        first_label: Label of the first class.
        meta: Name of the file with the names of the classes, and their key in it.
    """

    name: str
    files: dict[str, tuple[str, ...]]
    folders: dict[str, tuple[str, ...]]
    labels: str
    first_label: int = 0
    meta: tuple[str, str] | None = None


_LAYOUTS = (
    Layout(
        "CIFAR10",
        {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
        {"train": (".", "cifar-10-batches-py"), "test": (".", "cifar-10-batches-py")},
        "labels",
        meta=("batches.meta", "label_names"),
    ),
    Layout(
        "CIFAR100",
        {"train": ("train",), "test": ("test",)},
        {"train": (".", "cifar-100-python"), "test": (".", "cifar-100-python")},
        "fine_labels",
        meta=("meta", "fine_label_names"),
    ),
    Layout(
        "ImageNet32",
        {"train": tuple(f"train_data_batch_{number}" for number in range(1, 11)), "test": ("val_data",)},
        {"train": (".", "train"), "test": (".", "val")},
        "labels",
        first_label=1,
    ),
)


def find_layout(folder: Path) -> Layout | None:
    """Return the layout whose first training file lies in a folder, or ``None``."""
    return next((each for each in _LAYOUTS if _find(folder, each, "train", each.files["train"][0])), None)


def read_batches(folder: Path, layout: Layout) -> ImageCorpus:
    """Read all files of a data set.

    Raises:
        UsageError: If a file is missing, damaged or holds something else.
    """
    splits = {split: _read_split(folder, layout, split) for split in layout.files}
    if layout.meta is not None and (path := _find(folder, layout, "train", layout.meta[0])) is not None:
        return ImageCorpus(splits, [str(name) for name in _unpickle(path, layout.meta[1])])
    return ImageCorpus.with_numbered_classes(splits)


def _read_split(folder: Path, layout: Layout, split: str) -> ImageSplit:
    images, labels = [], []
    for name in layout.files[split]:
        path = _find(folder, layout, split, name)
        if path is None:
            raise UsageError(f"--data_dir {folder} looks like {layout.name}, but lacks {name}")
        batch = np.asarray(_unpickle(path, "data"))
        targets = np.asarray(_unpickle(path, layout.labels))
        integers = targets.ndim == 1 and targets.size > 0 and np.issubdtype(targets.dtype, np.integer)
        if batch.dtype != np.uint8 or not integers or batch.shape != (len(targets), _CHANNELS * _SIZE**2):
            raise UsageError(
                f"{path} holds {batch.dtype} images of shape {batch.shape} and {targets.dtype} labels of shape "
                f"{targets.shape}; it must hold an integer and {_CHANNELS * _SIZE**2} bytes for each image"
            )
        images.append(batch.reshape(-1, _CHANNELS, _SIZE, _SIZE).transpose(0, 2, 3, 1))
        labels.append(targets.astype(np.int64) - layout.first_label)
    return ImageSplit(torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels)))


def _find(folder: Path, layout: Layout, split: str, name: str) -> Path | None:
    paths = (folder / sub / name for sub in layout.folders[split])
    return next((path for path in paths if path.is_file()), None)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler of arrays and plain values only, because other pickles may run any code."""

    def find_class(self, module: str, name: str) -> Any:
        is_array = module.partition(".")[0] == "numpy" and name in _NUMPY_NAMES
        if is_array or (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not an array")


def _unpickle(path: Path, key: str) -> Any:
    try:
        with path.open("rb") as file:
            # The files were written by Python 2, whose strings were bytes.
            return _ArrayUnpickler(file, encoding="latin1").load()[key]
    except Exception as error:  # a damaged pickle may raise anything
        raise UsageError(f"{path} cannot be read as a batch with {key}: {error!r}") from error
