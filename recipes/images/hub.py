"""Images that `datasets` reads: folders with one folder a class, and data sets of the Hub."""

import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from hf_momo.utils.errors import UsageError
from images.arguments import DataArguments
from images.data import ImageCorpus, ImageSplit

_TEST_NAMES = ("test", "validation", "valid", "val")


def read_folders(folder: Path, data: DataArguments) -> ImageCorpus:
    """Read train/CLASS/*.png, test/CLASS/*.png and their like.

    Raises:
        UsageError: There are no such images, or they differ in size and `--image_size` is not given.
    """
    try:
        loaded = datasets.load_dataset("imagefolder", data_dir=str(folder))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UsageError(
            f"--data_dir {folder} holds no images that can be read ({_first_line(error)}); give a folder with "
            "train/CLASS/*.png and test/CLASS/*.png, MNIST's idx files or the batches of CIFAR or ImageNet32, or an "
            ".npz file"
        ) from error
    return _corpus(loaded, data, f"--data_dir {folder}")


def read_hub(data: DataArguments) -> ImageCorpus:
    """Read a data set of the Hub.

    Raises:
        UsageError: It does not exist, or has no images with classes.
    """
    name = f"--dataset_name {data.dataset_name}"
    try:
        loaded = datasets.load_dataset(str(data.dataset_name), data.dataset_config_name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UsageError(f"{name} could not be loaded: {_first_line(error)}") from error
    return _corpus(loaded, data, name)


def _corpus(loaded: Any, data: DataArguments, name: str) -> ImageCorpus:
    test = data.eval_split_name or next((each for each in _TEST_NAMES if each in loaded), "test")
    found = {split: each for split, each in (("train", "train"), ("test", test)) if each in loaded}
    if "test" not in found:
        raise UsageError(f"{name} has the splits {', '.join(loaded)}, but not {test}; see --eval_split_name")
    features = loaded[found["test"]].features
    image = _column(data.image_column_name, features, datasets.Image, "image", name)
    label = _column(data.label_column_name, features, datasets.ClassLabel, "label", name)
    classes = features[label].names
    splits = {}
    for split, each in found.items():
        chosen = loaded[each].select_columns([image, label])
        limit = data.max_train_samples if split == "train" else data.max_eval_samples
        chosen = chosen if limit is None else chosen.select(range(min(limit, len(chosen))))
        images = _tensor(chosen, image, data.image_size, f"{name} ({each})")
        splits[split] = ImageSplit(images, torch.tensor(chosen[label][:], dtype=torch.int64))
    return ImageCorpus(splits, list(classes))


def _column(given: str | None, features: Any, kind: type, what: str, name: str) -> str:
    found = [column for column, feature in features.items() if isinstance(feature, kind)]
    if given is not None and given not in found:
        raise UsageError(f"--{what}_column_name {given}: {name} has {', '.join(found) or 'none'} of that kind")
    if given is None and len(found) != 1:
        raise UsageError(
            f"{name} has {len(found)} columns of that kind ({', '.join(found)}); give --{what}_column_name"
        )
    return given or found[0]


def _tensor(images: Any, column: str, size: int | None, name: str) -> Tensor:
    first = images[0][column]
    mode = "L" if first.mode in ("1", "L", "I;16") else "RGB"
    width, height = (size, size) if size is not None else first.size
    shape = (len(images), height, width, 1 if mode == "L" else 3)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if np.prod(shape, dtype=float) > memory:
        raise UsageError(
            f"{name}: {len(images)} images of {width} x {height} do not fit in memory; give a smaller --image_size"
        )
    pixels = np.empty(shape, np.uint8)
    for number, row in enumerate(images):
        picture = row[column].convert(mode)
        if size is not None and picture.size != (width, height):
            picture = picture.resize((width, height))
        if picture.size != (width, height):
            raise UsageError(
                f"{name}: image {number} has {picture.width} x {picture.height} pixels, the first {width} x {height}; "
                "give --image_size"
            )
        pixels[number] = np.asarray(picture).reshape(shape[1:])
    return torch.from_numpy(pixels)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
