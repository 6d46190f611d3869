"""Random crops and mirrored images, on whole batches, alike however the run is split over processes and restarts."""

import numpy as np
import torch
from torch import Tensor


class Augmentation:
    """Pads images with black, crops them back at a random place, and mirrors every other one.

    What happens to an image in an epoch depends on the seed, the epoch and the image's number alone. So a resumed run
    goes on with the crops that the unbroken one would have taken, and it makes no difference to which process, worker
    or batch an image falls.

    Args:
        count: Number of images.
        crop_padding: Black pixels on each side, from 0 on.
        horizontal_flip: Whether to mirror.
        seed: From 0 on.
    """

    def __init__(self, count: int, crop_padding: int, horizontal_flip: bool, seed: int) -> None:
        self.count, self.crop_padding, self.horizontal_flip, self.seed = count, crop_padding, horizontal_flip, seed
        # Shared, so that workers that outlive an epoch hear of the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._drawn: tuple[int, Tensor, Tensor] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for this epoch, counted from 0."""
        self._epoch.fill_(epoch)

    def draw(self) -> tuple[Tensor, Tensor]:
        """What happens to every image in this epoch.

        Returns:
            Row and column of the crop in the padded image, of shape (images, 2); whether it is mirrored, (images,).
        """
        epoch = int(self._epoch)
        if self._drawn is None or self._drawn[0] != epoch:
            generator = np.random.default_rng([self.seed, epoch])
            corners = generator.integers(0, 2 * self.crop_padding + 1, (self.count, 2), dtype=np.int16)
            mirrored = generator.random(self.count, dtype=np.float32) < (0.5 if self.horizontal_flip else 0.0)
            self._drawn = epoch, torch.from_numpy(corners), torch.from_numpy(mirrored)
        return self._drawn[1:]

    def __call__(self, images: Tensor, chosen: Tensor) -> Tensor:
        """Augment some images.

        Args:
            images: All images, uint8 of shape (images, height, width, channels).
            chosen: The numbers of those wanted, of shape (batch,).

        Returns:
            Them, of shape (batch, height, width, channels).
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
