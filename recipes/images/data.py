"""Images held in memory as one tensor per split, and data sets that return whole batches of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from images.augmentation import Augmentation


@dataclass(frozen=True)
class ImageSplit:
    """The images and labels of one split.

    Attributes:
        images: ``uint8`` tensor of shape (images, height, width, channels).
        labels: ``int64`` tensor of shape (images,).
    """

    images: Tensor
    labels: Tensor

    def first(self, count: int | None) -> "ImageSplit":
        """Return the first ``count`` images, or all if it is ``None``."""
        return ImageSplit(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class ImageCorpus:
    """The splits of a data set and its classes.

    Attributes:
        splits: The splits by name: ``train``, ``test`` or both.
        classes: The names of the classes; a label is an index into them.
    """

    splits: dict[str, ImageSplit]
    classes: list[str]

    @classmethod
    def with_numbered_classes(cls, splits: dict[str, ImageSplit]) -> "ImageCorpus":
        """Return a data set whose classes are called by their labels, from 0 to the highest."""
        highest = max(int(split.labels.max()) for split in splits.values())
        return cls(splits, [str(label) for label in range(highest + 1)])


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each channel, for pixel values from 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: Tensor) -> "Normalization":
        """Return mean and standard deviation of ``uint8`` images of shape (images, height, width, channels)."""
        # By histogram, in parts: exact, without a copy of all images in a larger type.
        values = torch.arange(256, dtype=torch.float64) / 255
        counts = torch.zeros(images.shape[3], 256, dtype=torch.float64)
        for part in images.split(10_000):
            counts += torch.stack([torch.bincount(pixels, minlength=256) for pixels in part.flatten(0, 2).T])
        shares = counts / counts.sum(1, keepdim=True)
        mean = shares @ values
        # A constant channel would be divided by 0.
        variance = shares @ values**2 - mean**2
        std = torch.where(variance > 1e-8, variance.clamp(min=0).sqrt(), 1.0)
        return cls(tuple(round(each, 4) for each in mean.tolist()), tuple(round(each, 4) for each in std.tolist()))


class ImageDataset(Dataset):
    """Data set that returns whole batches of augmented and normalised images.

    ``pixel_values`` is a ``float32`` tensor of shape (batch, channels, height, width), ``labels`` an ``int64`` tensor
    of shape (batch,). The images stay bytes in memory. A batch is indexed, augmented and normalised by a few tensor
    operations.

    Args:
        split: The images and labels.
        normalization: Mean and standard deviation by which the images are normalised.
        augmentation: Random crops and mirrored images; ``None`` for the images as they are.
    """

    def __init__(
        self, split: ImageSplit, normalization: Normalization, augmentation: Augmentation | None = None
    ) -> None:
        self.split = split
        self.augmentation = augmentation
        # One multiplication and one addition turn bytes into normalised values.
        mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (normalization.mean, normalization.std))
        self._scale, self._shift = 1 / (255 * std), -mean / std

    def __len__(self) -> int:
        return len(self.split.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return a batch; the ``DataLoader`` calls this method in place of ``__getitem__``."""
        chosen = torch.as_tensor(indices)
        if self.augmentation is None:
            images = self.split.images.index_select(0, chosen)
        else:
            images = self.augmentation(self.split.images, chosen)
        pixel_values = torch.addcmul(self._shift, images.permute(0, 3, 1, 2).float(), self._scale)
        return {"pixel_values": pixel_values, "labels": self.split.labels.index_select(0, chosen)}


def collate(batch: Any) -> dict[str, Tensor]:
    """Return a batch of ``ImageDataset`` as it is, or stack images that were fetched one by one."""
    if isinstance(batch, dict):
        return batch
    return {name: torch.stack([image[name] for image in batch]) for name in batch[0]}
