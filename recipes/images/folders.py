"""Images in folders: ``train/CLASS/*.png``, ``test/CLASS/*.png`` and their like."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

from hf_momo.utils.errors import UsageError
from images.arguments import DataArguments
from images.data import ImageCorpus, ImageSplit
from images.decoding import ImageFile, decode_splits

_SYNONYMS = {
    "train": ("training",),
    "test": ("testing", "eval", "evaluation"),
    "validation": ("valid", "val", "dev"),
}
_LAYOUT = (
    "give a folder with train/CLASS/*.png and test/CLASS/*.png, MNIST's idx files or the batches of CIFAR or "
    "ImageNet32, or an .npz file"
)


def read_folders(folder: Path, data: DataArguments) -> ImageCorpus:
    """Read the images below ``train`` and below ``test`` or ``validation``.

    The name of the folder at the top decides to which split an image belongs, and that of the folder in it to which
    class. Files whose names do not end like those of images are ignored.

    Raises:
        UsageError: If there is no such folder or no image in it, or an image is damaged or differs in size and
            ``--image_size`` is not given.
    """
    folders = find_splits(folder, data.eval_split_name)
    paths = {split: list(_images(folder / name)) for split, name in folders.items()}
    for split, found in paths.items():
        if not found:
            raise UsageError(f"--data_dir {folder}: {folders[split]}/ holds no images; {_LAYOUT}")
    classes = sorted({_class_of(path, folder) for found in paths.values() for path in found})
    limits = {"train": data.max_train_samples, "test": data.max_eval_samples}
    used = {split: found[: limits[split]] for split, found in paths.items()}
    pixels = decode_splits(
        {split: [ImageFile(str(path), path) for path in found] for split, found in used.items()}, data.image_size
    )
    labels = {split: [classes.index(_class_of(path, folder)) for path in found] for split, found in used.items()}
    splits = {split: ImageSplit(pixels[split], torch.tensor(labels[split], dtype=torch.int64)) for split in used}
    return ImageCorpus(splits, classes)


def find_splits(folder: Path, eval_split: str | None = None) -> dict[str, str]:
    """Return the name of the folder of each split.

    Args:
        folder: The folder in which they lie.
        eval_split: Name of the folder to evaluate on; if ``None``, test or else validation.

    Raises:
        UsageError: If there is none for the test.
    """
    present = sorted(child.name for child in folder.iterdir() if child.is_dir())
    wanted = {"train": ["train"], "test": [eval_split] if eval_split is not None else ["test", "validation"]}
    found = {}
    for split, kinds in wanted.items():
        names = [name for kind in kinds for name in (kind, *_SYNONYMS.get(kind, ()))]
        matches = (each for name in names for each in present if name in (each, each.lower()))
        if (match := next(matches, None)) is not None:
            found[split] = match
    if "test" not in found:
        expected = eval_split or "test (or validation)"
        raise UsageError(
            f"--data_dir {folder} has no folder {expected} of images, only {', '.join(present) or 'no folders'}; "
            f"{_LAYOUT}"
        )
    return found


def _class_of(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).parts
    if len(parts) < 3:
        raise UsageError(f"{path} lies in no folder of a class; {_LAYOUT}")
    return parts[1]


def _images(folder: Path) -> Iterator[Path]:
    Image.init()
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    files = [Path(parent, name) for parent, _, names in os.walk(folder, followlinks=True) for name in names]
    for file in sorted(files, key=str):
        if file.suffix.lower() in suffixes and not file.name.startswith("."):
            yield file
