"""Image data sets in the layout of the Hub, loaded from a local folder."""

from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image
from recipes.image_data import images

from hf_momo.utils.errors import UsageError
from images.arguments import DataArguments
from images.corpus import load_corpus


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set with 6 training and 3 validation images and two columns of labels, as CIFAR100 on the Hub."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    classes = datasets.ClassLabel(names=["dark", "grey", "light"])
    features = datasets.Features({"img": datasets.Image(), "fine_label": classes, "coarse_label": classes})
    for split, count in (("train", 6), ("validation", 3)):
        pixels, labels = images(count)
        pictures = [Image.fromarray(picture) for picture in pixels]
        rows = {"img": pictures, "fine_label": labels.tolist(), "coarse_label": [0] * count}
        folder = tmp_path / "hub" / "data"
        folder.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return tmp_path / "hub"


def test_hub(hub: Path) -> None:
    data = DataArguments(dataset_name=str(hub), label_column_name="fine_label", max_train_samples=4)
    corpus = load_corpus(data, ["train", "test"])
    pixels, labels = images(6)
    assert corpus.classes == ["dark", "grey", "light"]
    assert torch.equal(corpus.splits["train"].images, torch.from_numpy(pixels[:4]))
    assert corpus.splits["train"].labels.tolist() == labels[:4].tolist()
    assert corpus.splits["test"].labels.tolist() == [0, 1, 2]


def test_what_is_not_clear(hub: Path) -> None:
    name = str(hub)
    with pytest.raises(UsageError, match=r"2 columns of labels \(fine_label, coarse_label\); give --label_column"):
        load_corpus(DataArguments(dataset_name=name), ["train", "test"])
    with pytest.raises(
        UsageError, match=r"--image_column_name picture is not a column of images of --dataset_name .*; those are img"
    ):
        load_corpus(DataArguments(dataset_name=name, image_column_name="picture"), ["train", "test"])
    with pytest.raises(UsageError, match=r"has the splits train, validation, but not dev; see --eval_split_name"):
        load_corpus(DataArguments(dataset_name=name, eval_split_name="dev"), ["train", "test"])
    with pytest.raises(UsageError, match=r"--dataset_name .*nowhere could not be loaded"):
        load_corpus(DataArguments(dataset_name=f"{name}/nowhere"), ["train", "test"])
