"""Functions that write small image data sets in the formats that the recipe reads."""

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def images(count: int, size: int = 32, channels: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return noise around one grey level per class, of shape (count, size, size, channels), and alternating labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    noise = generator.integers(0, 40, (count, size, size, channels))
    return (noise + 100 * labels[:, None, None, None]).clip(0, 255).astype(np.uint8), labels


def write_idx(path: Path, array: np.ndarray) -> None:
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder: Path, train: int = 24, test: int = 9, suffix: str = ".gz") -> Path:
    """Write the four idx files of MNIST."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count, seed in (("train", train, 0), ("t10k", test, 1)):
        pixels, labels = images(count, size=28, channels=1, seed=seed)
        write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", pixels[..., 0])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels)
    return folder


def write_npz(path: Path, train: int = 24, test: int = 9, **more: Any) -> Path:
    """Write one file of arrays."""
    (x_train, y_train), (x_test, y_test) = images(train), images(test, seed=1)
    arrays: dict[str, Any] = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, **more}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def write_pickle(path: Path, content: Any) -> None:
    """Write a pickle as Python 2 with its version of numpy did."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


def flat(pixels: np.ndarray) -> np.ndarray:
    """Return images as rows: first all red values, then all green, then all blue ones."""
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)


def write_cifar10(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write five training batches of 4 images and a test batch of 6; return the training images and labels."""
    pixels, labels = images(20)
    for number in range(5):
        part = slice(4 * number, 4 * number + 4)
        batch = {"data": flat(pixels[part]), "labels": labels[part].tolist(), "batch_label": "part"}
        write_pickle(folder / f"data_batch_{number + 1}", batch)
    x_test, y_test = images(6, seed=1)
    write_pickle(folder / "test_batch", {"data": flat(x_test), "labels": y_test.tolist()})
    write_pickle(folder / "batches.meta", {"label_names": ["dark", "grey", "light"], "num_vis": 3072})
    return pixels, labels


def write_folders(folder: Path, sizes: tuple[int, ...] = (32,), mode: str = "RGB") -> Path:
    """Write folder/train/CLASS/N.png and folder/test/CLASS/N.png with alternating sizes."""
    for split, count in (("train", 6), ("test", 3)):
        for number in range(count):
            size = sizes[number % len(sizes)]
            pixels, _ = images(3, size=size)
            path = folder / split / ("dark", "grey", "light")[number % 3] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[number % 3]).convert(mode).save(path)
    return folder
