"""Image files decoded into one tensor per split."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from hf_momo.utils.errors import UsageError

_GRAY_MODES = ("1", "L", "I", "F")
_LARGEST_16_BIT = 65535


@dataclass(frozen=True)
class ImageFile:
    """One encoded image.

    Attributes:
        name: How error messages call it.
        content: The path of the file, or a function that returns its bytes.
    """

    name: str
    content: Path | Callable[[], bytes]

    @contextmanager
    def opened(self) -> Iterator[Image.Image]:
        """Open the image; its pixels are decoded when they are used.

        Raises:
            UsageError: If the image is damaged, here or inside the ``with`` block.
        """
        try:
            with Image.open(self.content if isinstance(self.content, Path) else BytesIO(self.content())) as image:
                yield image
        except UsageError:
            raise
        except Exception as error:  # Pillow raises a dozen kinds for damaged files, SyntaxError among them
            raise UsageError(
                f"{self.name} cannot be read as an image ({str(error) or type(error).__name__}); replace or remove it"
            ) from error


def decode_splits(splits: Mapping[str, Sequence[ImageFile]], size: int | None) -> dict[str, Tensor]:
    """Decode all images to the same shape.

    Images have one channel if all images of all splits are gray, and three otherwise. Those of 16 bits per channel are
    reduced to 8 bits.

    Args:
        splits: The images of each split.
        size: Height and width to which images are resized; if ``None``, all must have the same size.

    Returns:
        For each split a ``uint8`` tensor of shape (images, height, width, channels).

    Raises:
        UsageError: If an image is damaged or has another size than the first, or the images do not fit in memory.
    """
    files = [file for split in splits.values() for file in split]
    if not files:
        raise UsageError("there are no images; give a data set with images, and limits of at least 1")
    mode = "L" if all(_is_gray(file) for file in files) else "RGB"
    width, height = (size, size) if size is not None else _size(files[0])
    shape = (height, width, 1 if mode == "L" else 3)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if np.prod((len(files), *shape), dtype=float) > memory:
        raise UsageError(
            f"{len(files)} images of {width} x {height} pixels do not fit in memory; give a smaller --image_size"
        )
    return {split: _decode(images, mode, shape, size) for split, images in splits.items()}


def _decode(files: Sequence[ImageFile], mode: str, shape: tuple[int, int, int], size: int | None) -> Tensor:
    pixels = np.empty((len(files), *shape), np.uint8)
    height, width, _ = shape
    for number, file in enumerate(files):
        with file.opened() as opened:
            image = _to_8_bit(ImageOps.exif_transpose(opened), file.name).convert(mode)
        if size is not None and image.size != (width, height):
            image = image.resize((width, height))
        if image.size != (width, height):
            raise UsageError(
                f"{file.name} has {image.width} x {image.height} pixels, but the first image {width} x {height}; give "
                "--image_size"
            )
        pixels[number] = np.asarray(image).reshape(shape)
    return torch.from_numpy(pixels)


def _is_gray(file: ImageFile) -> bool:
    with file.opened() as image:
        return image.mode in _GRAY_MODES or image.mode.startswith("I;16")


def _size(file: ImageFile) -> tuple[int, int]:
    with file.opened() as image:
        width, height = ImageOps.exif_transpose(image).size
    return width, height


def _to_8_bit(image: Image.Image, name: str) -> Image.Image:
    """Scale 16 bits to 8, which ``Image.convert`` would clip: nearly every pixel would be 0 or 255."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    if image.mode == "F" or not 0 <= values.min() <= values.max() <= _LARGEST_16_BIT:
        raise UsageError(
            f"{name} holds {values.dtype} values from {values.min():g} to {values.max():g}; save images with 8 or 16 "
            "bits per channel"
        )
    return Image.fromarray(np.round(values / (_LARGEST_16_BIT / 255)).astype(np.uint8))
