"""The data set that the user named, whatever its format."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hf_momo.utils.errors import UsageError
from images.arguments import DataArguments
from images.batches import find_layout, read_batches
from images.data import ImageCorpus
from images.idx import holds_idx, read_idx_folder
from images.npz import read_npz


def load_corpus(data: DataArguments, needed: list[str]) -> ImageCorpus:
    """Read the images of ``--data_dir`` or ``--dataset_name``.

    Args:
        data: Where the images are, and how many of them are used.
        needed: The splits that the run will use, ``train`` or ``test`` or both.

    Raises:
        UsageError: If neither or both were given, the images cannot be read, or a needed split is missing.
    """
    if (data.data_dir is None) == (data.dataset_name is None):
        raise UsageError("give --data_dir FOLDER_OR_NPZ or --dataset_name HUB_ID, and not both")
    corpus = _read(data)
    limits = {"train": data.max_train_samples, "test": data.max_eval_samples}
    splits = {name: split.first(limits[name]) for name, split in corpus.splits.items()}
    for name in needed:
        if name not in splits or not len(splits[name].labels):
            raise UsageError(f"{_name(data)} has no {name} images")
    for name, split in splits.items():
        low, high = (int(each) for each in split.labels.aminmax())
        if low < 0 or high >= len(corpus.classes):
            raise UsageError(
                f"{_name(data)}: the labels of {name} run from {low} to {high}, but must be from 0 to "
                f"{len(corpus.classes) - 1}, for {len(corpus.classes)} classes"
            )
    return ImageCorpus(splits, corpus.classes)


def describe(corpus: ImageCorpus, data: DataArguments) -> dict[str, Any]:
    """Return the description of the data for the record of the run."""
    first = next(iter(corpus.splits.values()))
    return {
        "name": _name(data),
        "splits": {name: len(split.labels) for name, split in corpus.splits.items()},
        "image": list(first.images.shape[1:]),
        "classes": len(corpus.classes),
    }


def _name(data: DataArguments) -> str:
    return data.dataset_name or Path(str(data.data_dir)).name


def _read(data: DataArguments) -> ImageCorpus:
    # Imported here, since loading `datasets` takes longer than reading the other formats.
    if data.data_dir is None:
        from images.hub import read_hub

        return read_hub(data)
    path = Path(data.data_dir).expanduser()
    read_arrays = _array_reader(path)
    if read_arrays is None:
        from images.folders import read_folders

        return read_folders(path, data)
    corpus = read_arrays()
    height, width = next(iter(corpus.splits.values())).images.shape[1:3]
    if data.image_size not in (None, height):
        raise UsageError(
            f"--image_size {data.image_size}: the images of {data.data_dir} have {width} x {height} pixels, and only "
            "those of folders and of the Hub are resized"
        )
    return corpus


def _array_reader(path: Path) -> Callable[[], ImageCorpus] | None:
    if path.is_file():
        return partial(read_npz, path)
    if not path.is_dir():
        raise UsageError(f"--data_dir {path} does not exist; give a folder or an .npz file")
    if holds_idx(path):
        return partial(read_idx_folder, path)
    layout = find_layout(path)
    return None if layout is None else partial(read_batches, path, layout)
