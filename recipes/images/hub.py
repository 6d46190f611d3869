"""Images of data sets of the Hub."""

from functools import partial
from typing import Any

import datasets
import torch

from common.hub_data import load_from_hub
from hf_momo.utils.errors import UsageError
from images.arguments import DataArguments
from images.data import ImageCorpus, ImageSplit
from images.decoding import ImageFile, decode_splits

_TEST_NAMES = ("test", "validation", "valid", "val")


def read_hub(data: DataArguments) -> ImageCorpus:
    """Read the splits ``train`` and ``test`` (or ``validation``) of a data set of the Hub.

    Raises:
        UsageError: If the data set cannot be loaded, or has no images with classes.
    """
    name = f"--dataset_name {data.dataset_name}"
    loaded = load_from_hub(str(data.dataset_name), data.dataset_config_name, instead="--data_dir")
    test = data.eval_split_name or next((each for each in _TEST_NAMES if each in loaded), "test")
    found = {split: each for split, each in (("train", "train"), ("test", test)) if each in loaded}
    if "test" not in found:
        raise UsageError(f"{name} has the splits {', '.join(loaded)}, but not {test}; see --eval_split_name")
    features = loaded[found["test"]].features
    image = _column(data.image_column_name, features, datasets.Image, "image", name)
    label = _column(data.label_column_name, features, datasets.ClassLabel, "label", name)
    files, labels = {}, {}
    for split, each in found.items():
        chosen = loaded[each].select_columns([image, label])
        limit = data.max_train_samples if split == "train" else data.max_eval_samples
        chosen = chosen if limit is None else chosen.select(range(min(limit, len(chosen))))
        files[split] = _image_files(chosen.cast_column(image, datasets.Image(decode=False)), image, f"{name} ({each})")
        labels[split] = torch.tensor(chosen[label][:], dtype=torch.int64)
    pixels = decode_splits(files, data.image_size)
    return ImageCorpus({split: ImageSplit(pixels[split], labels[split]) for split in found}, features[label].names)


def _column(given: str | None, features: Any, kind: type, what: str, name: str) -> str:
    found = [column for column, feature in features.items() if isinstance(feature, kind)]
    if given is not None and given not in found:
        columns = ", ".join(found) or "none"
        raise UsageError(f"--{what}_column_name {given} is not a column of {what}s of {name}; those are {columns}")
    if given is None and len(found) != 1:
        raise UsageError(f"{name} has {len(found)} columns of {what}s ({', '.join(found)}); give --{what}_column_name")
    return given or found[0]


def _image_files(rows: Any, column: str, name: str) -> list[ImageFile]:
    return [ImageFile(f"{name}, row {number}", partial(_encoded, rows, column, number)) for number in range(len(rows))]


def _encoded(rows: Any, column: str, number: int) -> bytes:
    image = rows[number][column]
    if image is None:
        raise ValueError("the row has no image")
    if image["bytes"] is None:
        with open(image["path"], "rb") as file:
            return file.read()
    content: bytes = image["bytes"]
    return content
