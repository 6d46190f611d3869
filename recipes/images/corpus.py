"""Finds out what kind of data set the user named, and reads it."""

from pathlib import Path
from typing import Any

from common.errors import RecipeError
from images.arguments import DataArguments
from images.data import ImageCorpus
from images.idx import read_idx_folder


def load_corpus(data: DataArguments) -> ImageCorpus:
    """Read the images of `--data_dir` or `--dataset_name`.

    Raises:
        RecipeError: Neither or both were given, or there are no images.
    """
    if (data.data_dir is None) == (data.dataset_name is None):
        raise RecipeError("no images: give --data_dir FOLDER_OR_NPZ or --dataset_name HUB_ID, and not both")
    folder = Path(str(data.data_dir))
    return read_idx_folder(folder)


def describe(corpus: ImageCorpus, data: DataArguments) -> dict[str, Any]:
    """What was trained on and tested on, for the record."""
    limits = {"train": data.max_train_samples, "test": data.max_eval_samples}
    first = next(iter(corpus.splits.values()))
    return {
        "name": data.dataset_name or Path(str(data.data_dir)).name,
        "splits": {name: len(split.first(limits[name]).labels) for name, split in corpus.splits.items()},
        "image": list(first.images.shape[1:]),
        "classes": len(corpus.classes),
    }
