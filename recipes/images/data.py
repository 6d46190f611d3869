"""Images in memory as one tensor, from which whole batches are taken at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from images.augmentation import Augmentation


@dataclass(frozen=True)
class ImageSplit:
    """One split as it was read.

    Attributes:
        images: uint8, of shape (images, height, width, channels).
        labels: int64, of shape (images,).
    """

    images: Tensor
    labels: Tensor

    def first(self, count: int | None) -> "ImageSplit":
        """The first `count` images, or all."""
        return ImageSplit(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class ImageCorpus:
    """A data set.

    Attributes:
        splits: `train`, `test` or both.
        classes: Names of the classes, by label.
    """

    splits: dict[str, ImageSplit]
    classes: list[str]


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each channel, of values from 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: Tensor) -> "Normalization":
        """Measure them on images of shape (images, height, width, channels)."""
        # By histogram, some images at a time: exact, and no copy of all of them as larger numbers.
        values = torch.arange(256, dtype=torch.float64) / 255
        counts = torch.zeros(images.shape[3], 256, dtype=torch.float64)
        for part in images.split(10_000):
            counts += torch.stack([torch.bincount(pixels, minlength=256) for pixels in part.flatten(0, 2).T])
        shares = counts / counts.sum(1, keepdim=True)
        mean = shares @ values
        # A channel with one value only is left as it is but for its mean.
        variance = shares @ values**2 - mean**2
        std = torch.where(variance > 1e-8, variance.clamp(min=0).sqrt(), 1.0)
        return cls(tuple(round(each, 4) for each in mean.tolist()), tuple(round(each, 4) for each in std.tolist()))


class ImageDataset(Dataset):
    """Gives batches as the model takes them.

    `pixel_values` is float32 of shape (batch, channels, height, width), `labels` int64 of shape (batch,). The images
    stay bytes in memory; a batch is cut out, augmented and normalised by a handful of operations on tensors.
    """

    def __init__(
        self, split: ImageSplit, normalization: Normalization, augmentation: Augmentation | None = None
    ) -> None:
        self.split = split
        self.augmentation = augmentation
        # Bytes to normalised values in one multiplication and one addition.
        mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (normalization.mean, normalization.std))
        self._scale, self._shift = 1 / (255 * std), -mean / std

    def __len__(self) -> int:
        return len(self.split.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A batch, for DataLoaders that fetch one at once."""
        chosen = torch.as_tensor(indices)
        if self.augmentation is None:
            images = self.split.images.index_select(0, chosen)
        else:
            images = self.augmentation(self.split.images, chosen)
        pixel_values = torch.addcmul(self._shift, images.permute(0, 3, 1, 2).float(), self._scale)
        return {"pixel_values": pixel_values, "labels": self.split.labels.index_select(0, chosen)}


def collate(batch: Any) -> dict[str, Tensor]:
    """Take a batch of `ImageDataset` as it is; one that was fetched image by image is put together."""
    if isinstance(batch, dict):
        return batch
    return {name: torch.stack([image[name] for image in batch]) for name in batch[0]}
