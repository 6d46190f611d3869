"""Random crops and mirrored images for whole batches, independent of processes, workers and restarts."""

import numpy as np
import torch
from torch import Tensor


class Augmentation:
    """Random crops of images padded with black, and random mirroring.

    The augmentation of an image depends only on the seed, the epoch and the index of the image. Therefore a resumed
    run continues with the crops of the uninterrupted run, and process, worker and batch of an image do not matter.

    Args:
        count: Number of images.
        crop_padding: Number of black pixels on each side, at least 0.
        horizontal_flip: Whether half of the images are mirrored.
        seed: Seed of the random numbers, at least 0.
    """

    def __init__(self, count: int, crop_padding: int, horizontal_flip: bool, seed: int) -> None:
        self.count, self.crop_padding, self.horizontal_flip, self.seed = count, crop_padding, horizontal_flip, seed
        # In shared memory, so that persistent workers see the next epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._drawn: tuple[int, Tensor, Tensor] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0."""
        self._epoch.fill_(epoch)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return the augmentation of every image in this epoch.

        Returns:
            Row and column of the crop in the padded image, of shape (images, 2), and whether the image is mirrored, of
            shape (images,).
        """
        epoch = int(self._epoch)
        if self._drawn is None or self._drawn[0] != epoch:
            generator = np.random.default_rng([self.seed, epoch])
            corners = generator.integers(0, 2 * self.crop_padding + 1, (self.count, 2), dtype=np.int16)
            mirrored = generator.random(self.count, dtype=np.float32) < (0.5 if self.horizontal_flip else 0.0)
            self._drawn = epoch, torch.from_numpy(corners), torch.from_numpy(mirrored)
        return self._drawn[1:]

    def __call__(self, images: Tensor, chosen: Tensor) -> Tensor:
        """Return augmented images.

        Args:
            images: All images, a ``uint8`` tensor of shape (images, height, width, channels).
            chosen: Indices of the images to augment, of shape (batch,).

        Returns:
            A tensor of shape (batch, height, width, channels).
        """
        corners, mirrored = (drawn.index_select(0, chosen) for drawn in self.draw())
        height, width = images.shape[1:3]
        rows = corners[:, :1].long() + torch.arange(height) - self.crop_padding
        columns = corners[:, 1:].long() + torch.arange(width) - self.crop_padding
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        inside = _within(rows, height)[:, :, None] & _within(columns, width)[:, None, :]
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        cut = images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
        return cut * inside[..., None]


def _within(positions: Tensor, size: int) -> Tensor:
    return (positions >= 0) & (positions < size)
