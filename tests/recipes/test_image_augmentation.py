"""Random crops and mirrored images, and their independence of batches."""

import numpy as np
import torch
from recipes.image_data import images

from images.augmentation import Augmentation
from images.data import ImageDataset, ImageSplit, Normalization, collate

COUNT, PADDING = 300, 4


def corpus() -> ImageSplit:
    pixels, labels = images(COUNT, size=8)
    # No pixel of an image is black, so that padding can be recognised.
    return ImageSplit(torch.from_numpy(pixels.clip(1)), torch.from_numpy(labels))


def augmentation(seed: int = 3, padding: int = PADDING, flip: bool = True) -> Augmentation:
    return Augmentation(COUNT, padding, flip, seed)


def test_crops_are_those_of_the_padded_image() -> None:
    split, augment = corpus(), augmentation()
    augment.set_epoch(2)
    chosen = torch.tensor([5, 0, 299, 5])
    found = augment(split.images, chosen)
    corners, mirrored = augment.draw()
    for number, image in zip(chosen.tolist(), found, strict=True):
        padded = np.pad(split.images[number].numpy(), ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
        top, left = corners[number].tolist()
        expected = padded[top : top + 8, left : left + 8]
        assert np.array_equal(image.numpy(), expected[:, ::-1] if mirrored[number] else expected)


def test_every_place_and_both_directions_come_up() -> None:
    corners, mirrored = augmentation().draw()
    for axis in (0, 1):
        # 33 of 300 draws are expected for each of 9 positions; fewer than 12 occur once in a hundred thousand runs.
        assert torch.bincount(corners[:, axis].long(), minlength=9).min() >= 12
    assert 0.38 < mirrored.float().mean() < 0.62


def test_epochs_and_seeds_differ_and_come_again() -> None:
    split, chosen = corpus(), torch.arange(COUNT)
    augment = augmentation()
    seen = []
    for epoch in (0, 1, 0):
        augment.set_epoch(epoch)
        seen.append(augment(split.images, chosen))
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[0], augmentation()(split.images, chosen))
    assert not torch.equal(seen[0], augmentation(seed=4)(split.images, chosen))


def test_an_image_is_the_same_in_any_batch() -> None:
    dataset = ImageDataset(corpus(), Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), augmentation())
    whole = dataset.__getitems__(range(COUNT))
    some = collate(dataset.__getitems__([7, 2]))
    alone = collate([dataset[7], dataset[2]])
    for batch in (some, alone):
        assert torch.equal(batch["pixel_values"], whole["pixel_values"][[7, 2]])
        assert batch["labels"].tolist() == whole["labels"][[7, 2]].tolist()


def test_each_part_can_be_left_out() -> None:
    split, chosen = corpus(), torch.arange(COUNT)
    assert torch.equal(augmentation(padding=0, flip=False)(split.images, chosen), split.images)
    cropped = augmentation(flip=False)
    assert not cropped.draw()[1].any()
    flipped = augmentation(padding=0)(split.images, chosen)
    same = (flipped == split.images).flatten(1).all(1)
    mirrored = (flipped == split.images.flip(2)).flatten(1).all(1)
    assert (same ^ mirrored).all() and 0 < same.sum() < COUNT


def test_values_are_normalised() -> None:
    split = corpus()
    dataset = ImageDataset(split, Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    batch = dataset.__getitems__([1, 4])
    pixels = split.images[[1, 4]].double() / 255
    expected = (pixels - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.2, 0.3, 0.4])
    torch.testing.assert_close(batch["pixel_values"], expected.permute(0, 3, 1, 2).float(), rtol=1e-5, atol=1e-6)
