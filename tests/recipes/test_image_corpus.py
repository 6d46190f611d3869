"""Pixels and classes of every format of image data, and errors that name what is wrong."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from real_data import real_data
from recipes.image_data import (
    flat,
    images,
    write_cifar10,
    write_idx,
    write_mnist,
    write_npz,
    write_pickle,
)

from hf_momo.utils.errors import UsageError
from images.arguments import DataArguments
from images.corpus import describe, load_corpus
from images.data import ImageCorpus, Normalization

BOTH = ["train", "test"]


def load(path: Path, **settings: Any) -> ImageCorpus:
    return load_corpus(DataArguments(data_dir=str(path), **settings), BOTH)


def check(corpus: ImageCorpus, split: str, pixels: np.ndarray, labels: np.ndarray) -> None:
    found = corpus.splits[split]
    assert found.images.dtype == torch.uint8 and found.labels.dtype == torch.int64
    assert np.array_equal(found.images.numpy(), pixels) and np.array_equal(found.labels.numpy(), labels)


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_idx(tmp_path: Path, suffix: str) -> None:
    corpus = load(write_mnist(tmp_path, suffix=suffix), max_train_samples=10)
    pixels, labels = images(24, size=28, channels=1)
    check(corpus, "train", pixels[:10], labels[:10])
    check(corpus, "test", *images(9, size=28, channels=1, seed=1))
    assert corpus.classes == ["0", "1", "2"]
    assert describe(corpus, DataArguments(data_dir=str(tmp_path))) == {
        "name": tmp_path.name,
        "splits": {"train": 10, "test": 9},
        "image": [28, 28, 1],
        "classes": 3,
    }


def test_npz(tmp_path: Path) -> None:
    classes = np.array(["dark", "grey", "light"])
    corpus = load(write_npz(tmp_path / "a.npz", classes=classes))
    check(corpus, "train", *images(24))
    check(corpus, "test", *images(9, seed=1))
    assert corpus.classes == ["dark", "grey", "light"]
    x_val, y_val = images(9, seed=1)
    path = write_npz(tmp_path / "b.npz", x_test=None, y_test=None, x_val=x_val[..., 0], y_val=y_val[:, None])
    check(load(path), "test", x_val[..., :1], y_val)


@pytest.mark.parametrize("below", [".", "cifar-10-batches-py"])
def test_cifar10(tmp_path: Path, below: str) -> None:
    pixels, labels = write_cifar10(tmp_path / below)
    corpus = load(tmp_path)
    check(corpus, "train", pixels, labels)
    check(corpus, "test", *images(6, seed=1))
    assert corpus.classes == ["dark", "grey", "light"]


def test_cifar100(tmp_path: Path) -> None:
    for name, seed in (("train", 0), ("test", 1)):
        pixels, labels = images(6, seed=seed)
        batch = {"data": flat(pixels), "fine_labels": labels.tolist(), "coarse_labels": [0] * 6}
        write_pickle(tmp_path / name, batch)
    corpus = load(tmp_path)
    check(corpus, "train", *images(6))
    check(corpus, "test", *images(6, seed=1))
    assert corpus.classes == ["0", "1", "2"]


def test_imagenet32_counts_its_classes_from_one(tmp_path: Path) -> None:
    pixels, labels = images(10)
    for number in range(10):
        batch = {
            "data": flat(pixels[number : number + 1]),
            "labels": [int(labels[number]) + 1],
            "mean": np.zeros(3072),
        }
        write_pickle(tmp_path / "train" / f"train_data_batch_{number + 1}", batch)
    x_test, y_test = images(6, seed=1)
    write_pickle(tmp_path / "val" / "val_data", {"data": flat(x_test), "labels": (y_test + 1).tolist()})
    corpus = load(tmp_path)
    check(corpus, "train", pixels, labels)
    check(corpus, "test", x_test, y_test)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --data_dir FOLDER_OR_NPZ or --dataset_name HUB_ID, and not both"):
        load_corpus(DataArguments(), BOTH)
    with pytest.raises(UsageError, match=r"nowhere does not exist; give a folder or an \.npz file"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"has no folder test .*give a folder with train/CLASS"):
        load(tmp_path / "empty")
    (tmp_path / "text.npz").write_text("x")
    with pytest.raises(UsageError, match=r"cannot be read as an \.npz file of arrays"):
        load(tmp_path / "text.npz")
    with pytest.raises(UsageError, match=r"--image_size 64: the images of .* have 32 x 32 pixels, and only those of"):
        load(write_npz(tmp_path / "a.npz"), image_size=64)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": None, "x_test": None}, "holds y_train, y_test; it must hold x_train, y_train"),
        ({"y_test": None}, "holds x_test without y_test"),
        ({"x_test": None}, "has no test images"),
        ({"x_train": np.zeros((24, 32, 32, 3))}, r"x_train is float64 of shape \(24, 32, 32, 3\); it must be uint8"),
        (
            {"y_train": np.zeros(23, int)},
            r"y_train is int64 of shape \(23,\); it must hold an integer for each of the 24",
        ),
        ({"y_train": np.full(24, -1)}, r"the labels of train run from -1 to -1, but must be from 0 to 2"),
        ({"classes": np.array(["dark"])}, r"from 0 to 2, but must be from 0 to 0, for 1 classes"),
    ],
)
def test_wrong_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(write_npz(tmp_path / "a.npz", **arrays))


def test_wrong_idx_files(tmp_path: Path) -> None:
    write_mnist(tmp_path, suffix="")
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1])
    with pytest.raises(UsageError, match="should hold 24 bytes after its header and holds 23"):
        load(tmp_path)
    write_idx(labels, np.zeros(23))
    with pytest.raises(UsageError, match="24 train images, but 23 labels"):
        load(tmp_path)
    write_idx(labels, np.zeros((24, 2, 2)))
    with pytest.raises(UsageError, match="is not an idx file of bytes in 1 dimensions"):
        load(tmp_path)
    labels.unlink()
    with pytest.raises(UsageError, match=r"lacks train-labels-idx1-ubyte \(or \.gz\)"):
        load(tmp_path)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harmed"),))


def test_wrong_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path)
    batch = tmp_path / "data_batch_3"
    batch.write_bytes(pickle.dumps({"data": Harmful(), "labels": []}))
    with pytest.raises(UsageError, match=r"data_batch_3 cannot be read as a batch with data: .*it holds pathlib"):
        load(tmp_path)
    assert not (tmp_path / "harmed").exists()
    write_pickle(batch, {"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]})
    with pytest.raises(UsageError, match=r"uint8 images of shape \(2, 5\) and int64 labels of shape \(2,\)"):
        load(tmp_path)
    batch.unlink()
    with pytest.raises(UsageError, match="looks like CIFAR10, but lacks data_batch_3"):
        load(tmp_path)


def broken_gzip(folder: Path) -> Path:
    path = write_mnist(folder) / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[:30] + b"\xff" * (len(content) - 30))
    return path


def cut_gzip(folder: Path) -> Path:
    path = write_mnist(folder) / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    return path


def no_values(folder: Path) -> Path:
    path = write_mnist(folder, suffix="") / "train-images-idx3-ubyte"
    write_idx(path, np.zeros((0, 28, 28)))
    write_idx(folder / "train-labels-idx1-ubyte", np.zeros(0))
    return path


def empty_npz(folder: Path) -> Path:
    (folder / "a.npz").touch()
    return folder / "a.npz"


def single_array(folder: Path) -> Path:
    with (folder / "a.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    return folder / "a.npz"


def cut_npz(folder: Path) -> Path:
    path = write_npz(folder / "a.npz")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def damaged_npz(folder: Path) -> Path:
    x_train, _ = images(24)
    path = folder / "a.npz"
    np.savez_compressed(path, x_train=x_train)
    content = bytearray(path.read_bytes())
    content[60:200] = bytes(140)
    path.write_bytes(content)
    return path


def damaged_batch(folder: Path) -> Path:
    write_cifar10(folder)
    path = folder / "data_batch_2"
    path.write_bytes(b"\x80\x02" + path.read_bytes()[40:])
    return path


def empty_batch(folder: Path) -> Path:
    write_cifar10(folder)
    (folder / "test_batch").write_bytes(b"")
    return folder / "test_batch"


@pytest.mark.parametrize(
    "damage",
    [broken_gzip, cut_gzip, no_values, empty_npz, single_array, cut_npz, damaged_npz, damaged_batch, empty_batch],
    ids=lambda damage: damage.__name__,
)
def test_damaged_files_are_named(tmp_path: Path, damage: Callable[[Path], Path]) -> None:
    """A damaged ``.gz`` file of MNIST ended in the traceback of a ``zlib.error``, which did not name the file."""
    path = damage(tmp_path)
    with pytest.raises(UsageError, match=re.escape(str(path))):
        load(path if path.suffix == ".npz" else tmp_path)


def test_normalization_is_that_of_the_pixels() -> None:
    pixels = torch.from_numpy(images(7)[0])
    found = Normalization.of(pixels)
    values = pixels.double() / 255
    assert found.mean == pytest.approx(values.mean(dim=(0, 1, 2)).tolist(), abs=1e-4)
    assert found.std == pytest.approx(values.std(dim=(0, 1, 2), correction=0).tolist(), abs=1e-4)
    pixels[..., 1] = 51
    constant = Normalization.of(pixels)
    assert (constant.mean[1], constant.std[1]) == (0.2, 1.0) and constant.mean[0] == found.mean[0]


def test_the_real_sets_have_the_known_mean_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST has the mean 0.1307 and the deviation 0.3081, with which it is usually normalised."""
    corpus = load(real_data("mnist"))
    assert [len(corpus.splits[split].labels) for split in BOTH] == [60_000, 10_000]
    assert Normalization.of(corpus.splits["train"].images) == Normalization((0.1307,), (0.3081,))
    assert torch.bincount(corpus.splits["test"].labels).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]


@pytest.mark.parametrize(
    ("name", "counts", "classes", "mean"),
    [
        ("cifar10/cifar10_13k.npz", [13_000, 3_000], 10, (0.4914, 0.4822, 0.4465)),
        ("cifar100/cifar100_10k.npz", [10_000, 2_000], 100, (0.5071, 0.4866, 0.4409)),
        ("imagenet32/tinyimagenet32_200c_4k.npz", [4_000, 1_000], 200, (0.485, 0.456, 0.406)),
    ],
)
def test_the_real_subsets(name: str, counts: list[int], classes: int, mean: tuple[float, ...]) -> None:
    corpus = load(real_data(name))
    assert [len(corpus.splits[split].labels) for split in BOTH] == counts
    assert len(corpus.classes) == classes
    # Of the channels in their order: red is the brightest in all three.
    assert Normalization.of(corpus.splits["train"].images).mean == pytest.approx(mean, abs=0.02)
