"""Images in folders: which split and class they belong to, their pixels, and damaged files."""

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image
from recipes.image_data import images, write_folders

from hf_momo.utils.errors import UsageError
from images.arguments import DataArguments
from images.corpus import load_corpus
from images.data import ImageCorpus


def load(path: Path, **settings: Any) -> ImageCorpus:
    return load_corpus(DataArguments(data_dir=str(path), **settings), ["train", "test"])


def write_image(path: Path, pixels: np.ndarray | None = None) -> Path:
    """Write an image, white by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), 255, np.uint8) if pixels is None else pixels).save(path)
    return path


def test_pixels_and_labels(tmp_path: Path) -> None:
    corpus = load(write_folders(tmp_path / "a"))
    assert corpus.classes == ["dark", "grey", "light"]
    found = corpus.splits["train"]
    # Sorted by class: 0 and 3 are dark, 1 and 4 grey.
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.array_equal(found.images[2].numpy(), images(3)[0][1])
    assert corpus.splits["test"].labels.tolist() == [0, 1, 2]
    assert load(tmp_path / "a", max_train_samples=2).splits["train"].labels.tolist() == [0, 0]
    gray = load(write_folders(tmp_path / "b", sizes=(20, 30), mode="L"), image_size=16)
    assert gray.splits["train"].images.shape == (6, 16, 16, 1)
    with pytest.raises(UsageError, match=r"train/dark/3\.png has 30 x 30 pixels, but the first image 20 x 20; give"):
        load(tmp_path / "b")


# Folders with images to what is found: images per split, and the classes.
TREES: list[tuple[str, list[str], dict[str, Any], dict[str, int], list[str]]] = [
    (
        "a class with the word train",
        ["train/bullet_train", "train/car", "test/bullet_train", "test/car"],
        {},
        {"train": 2, "test": 2},
        ["bullet_train", "car"],
    ),
    (
        "classes named like splits",
        ["train/test", "train/val", "test/train", "test/test"],
        {},
        {"train": 2, "test": 2},
        ["test", "train", "val"],
    ),
    ("validation", ["train/a", "validation/a"], {}, {"train": 1, "test": 1}, ["a"]),
    ("valid", ["train/a", "valid/a"], {}, {"train": 1, "test": 1}, ["a"]),
    ("val", ["train/a", "val/a"], {}, {"train": 1, "test": 1}, ["a"]),
    ("dev", ["train/a", "dev/a"], {}, {"train": 1, "test": 1}, ["a"]),
    ("other case", ["Train/a", "TEST/b"], {}, {"train": 1, "test": 1}, ["a", "b"]),
    ("test wins over validation", ["train/a", "test/a", "test/b", "val/a"], {}, {"train": 1, "test": 2}, ["a", "b"]),
    (
        "the folder asked for",
        ["train/a", "test/a", "test/b", "val/a"],
        {"eval_split_name": "val"},
        {"train": 1, "test": 1},
        ["a"],
    ),
    ("folders below a class", ["train/a/test", "train/a/2020", "test/a"], {}, {"train": 2, "test": 1}, ["a"]),
]


@pytest.mark.parametrize(
    ("folders", "settings", "counts", "classes"), [tree[1:] for tree in TREES], ids=[tree[0] for tree in TREES]
)
@pytest.mark.parametrize("top", ["data", "test of [a-b]*", "my_train_data/testing"])
def test_the_folder_at_the_top_decides_the_split(
    tmp_path: Path, top: str, folders: list[str], settings: dict[str, Any], counts: dict[str, int], classes: list[str]
) -> None:
    """The test images of a class ``bullet_train`` were trained on, because any part of a path decided the split.

    A folder whose name held brackets was taken for a pattern, and "did not contain any data files".
    """
    for folder in folders:
        write_image(tmp_path / top / folder / "0.png")
    corpus = load(tmp_path / top, **settings)
    assert {name: len(split.labels) for name, split in corpus.splits.items()} == counts
    assert corpus.classes == classes


def test_other_files_are_ignored_and_links_followed(tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere" / "0.JPG")
    for name in ("data/train/a/0.png", "data/train/a/._0.png", "data/test/a/0.png"):
        write_image(tmp_path / name)
    (tmp_path / "data" / "train" / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data" / "train" / "a" / "Thumbs.db").write_text("x")
    (tmp_path / "data" / "labels.csv").write_text("x")
    assert load(tmp_path / "data").splits["train"].labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["cats/0.png", "dogs/0.png"],
            "has no folder test .* of images, only cats, dogs; give a folder with train/CL",
        ),
        (["train/a/0.png", "test/0.png"], r"test/0\.png lies in no folder of a class"),
        (["train/a/0.png", "test/a/0.txt"], r"test/ holds no images"),
    ],
)
def test_what_the_folders_lack_is_named(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        write_image((tmp_path / name).with_suffix(".png")).rename(tmp_path / name)
    with pytest.raises(UsageError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bits_are_scaled_to_8(tmp_path: Path, suffix: str) -> None:
    """Images of 16 bits per pixel were clipped: every value above 255 became 255, and nearly all images white."""
    levels = np.arange(0, 65536, 4096, dtype=np.uint16).reshape(4, 4)
    for name in ("train/a/0", "test/a/0"):
        write_image(tmp_path / f"{name}{suffix}", levels)
    pixels = load(tmp_path).splits["train"].images
    assert pixels.shape == (1, 4, 4, 1)
    assert np.abs(pixels.numpy()[0, ..., 0] - levels / 257).max() <= 0.5


@pytest.mark.parametrize("first", ["gray", "colour", "16 bits", "alpha", "palette"])
def test_the_first_image_does_not_decide_the_channels(tmp_path: Path, first: str) -> None:
    """One gray image, the first of its split, turned all the others gray."""
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 200
    same = {
        "gray": Image.fromarray(np.full((4, 4), 90, np.uint8)),
        "16 bits": Image.fromarray(np.full((4, 4), 90 * 257, np.uint16)),
        "colour": Image.fromarray(np.full((4, 4, 3), 90, np.uint8)),
        "alpha": Image.fromarray(np.full((4, 4, 4), 90, np.uint8)),
        "palette": Image.fromarray(np.full((4, 4, 3), 90, np.uint8)).quantize(),
    }
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        same[first].save(tmp_path / split / "a" / "0.png")
    write_image(tmp_path / "train" / "a" / "1.png", red)
    corpus = load(tmp_path)
    assert np.array_equal(corpus.splits["train"].images[1].numpy(), red)
    for split in corpus.splits.values():
        assert np.abs(split.images[0].numpy().astype(int) - 90).max() <= 0


def encoded(kind: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def zeroed(content: bytes) -> bytes:
    return content[:60] + bytes(len(content) - 60)


DAMAGED: list[tuple[str, str, Callable[[], bytes]]] = [
    ("empty", "png", lambda: b""),
    ("text", "png", lambda: b"not an image"),
    ("cut png", "png", lambda: encoded("png")[:900]),
    ("png cut in its header", "png", lambda: encoded("png")[:20]),
    ("zeroed png", "png", lambda: zeroed(encoded("png"))),
    ("png without pixels", "png", lambda: encoded("png")[:45] + encoded("png")[-12:]),
    ("cut jpeg", "jpg", lambda: encoded("jpeg")[:400]),
    ("cut gif", "gif", lambda: encoded("gif")[:300]),
    ("cut bmp", "bmp", lambda: encoded("bmp")[:300]),
    ("cut tiff", "tif", lambda: encoded("tiff")[:300]),
    ("cut webp", "webp", lambda: encoded("webp")[:100]),
]


@pytest.mark.parametrize(("suffix", "content"), [case[1:] for case in DAMAGED], ids=[case[0] for case in DAMAGED])
@pytest.mark.parametrize("source", ["folder", "hub"])
def test_damaged_images_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, suffix: str, content: Callable[[], bytes]
) -> None:
    """An image that was empty or cut short ended the run with a traceback that did not name the file."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    good, bad = write_image(tmp_path / "data" / "test" / "a" / "0.png", np.zeros((40, 40, 3), np.uint8)), content()
    if source == "folder":
        path = tmp_path / "data" / "train" / "a" / f"0.{suffix}"
        path.parent.mkdir(parents=True)
        path.write_bytes(bad)
        arguments, name = DataArguments(data_dir=str(tmp_path / "data")), str(path)
    else:
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a"])})
        encoded_images = [{"bytes": each, "path": None} for each in (good.read_bytes(), bad)]
        rows = datasets.Dataset.from_dict({"image": encoded_images, "label": [0, 0]}, features=features)
        for split in ("train", "test"):
            (tmp_path / "hub").mkdir(exist_ok=True)
            rows.to_parquet(tmp_path / "hub" / f"{split}-00000-of-00001.parquet")
        arguments = DataArguments(dataset_name=str(tmp_path / "hub"))
        name = f"--dataset_name {tmp_path / 'hub'} (train), row 1"
    with pytest.raises(UsageError, match=f"{re.escape(name)} cannot be read as an image"):
        load_corpus(arguments, ["train", "test"])


@pytest.mark.parametrize(("dtype", "value"), [(np.float32, 0.5), (np.int32, 100_000), (np.int32, -1)])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, dtype: Any, value: float) -> None:
    write_image(tmp_path / "train" / "a" / "0.tif", np.full((4, 4), value, dtype))
    write_image(tmp_path / "test" / "a" / "0.png")
    with pytest.raises(UsageError, match=r"train/a/0\.tif holds .* values .*; save images with 8 or 16 bits"):
        load(tmp_path)
