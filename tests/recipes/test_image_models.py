"""Sizes and initial weights of the models as in the literature, and their use as Hugging Face models."""

import ast
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models.cifar_resnet import CifarResNetForImageClassification
from models.cifar_vgg import CifarVGGForImageClassification
from models.mlp import MLPForImageClassification
from recipe_runs import ROOT
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedModel
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from common.config import parse_settings
from hf_momo.utils.errors import UsageError
from images.arguments import DataArguments, ImageTrainingArguments, ModelArguments
from images.model import create_model

# Number of parameters: ResNet20 and ResNet110 as in Y. Idelbayev's table (0.27 and 1.7 million), ResNet18 for 1000
# classes, VGG16 with batch normalization and a classifier of width 512. The ViT has 6 layers of 1,576,448, and 65,034
# in patches, positions, last normalization and classifier.
SIZES = {
    "mnist_mlp": (89_610, 10, 28, 1),
    "cifar10_resnet20": (269_722, 10, 32, 3),
    "cifar100_resnet110": (1_733_812, 100, 32, 3),
    "imagenet32_resnet18": (11_681_832, 1000, 32, 3),
    "cifar10_vgg16": (15_253_578, 10, 32, 3),
    "cifar10_vit": (9_523_722, 10, 32, 3),
}


def model_of(name: str, *flags: str) -> PreTrainedModel:
    """Return the model of a configuration file."""
    _, classes, size, channels = SIZES[name]
    config = ROOT / "recipes" / "configs" / f"{name}.yaml"
    types = (ModelArguments, DataArguments, ImageTrainingArguments)
    arguments = ["--config", str(config), "--output_dir", "out", "--use_cpu", *flags]
    model, _, _ = parse_settings(types, "", arguments)
    return create_model(model, (size, size, channels), [str(label) for label in range(classes)])


@pytest.mark.parametrize("name", SIZES)
def test_models_have_the_papers_size_and_take_a_batch(name: str) -> None:
    count, classes, size, channels = SIZES[name]
    model = model_of(name).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    with torch.no_grad():
        output = model(pixel_values=torch.randn(2, channels, size, size), labels=torch.tensor([1, 0]))
    assert output.logits.shape == (2, classes)
    expected = nn.functional.cross_entropy(output.logits, torch.tensor([1, 0]))
    torch.testing.assert_close(output.loss, expected)


def test_weights_start_as_the_papers() -> None:
    """Initial weights: torch's uniform (perceptron, ResNet18), He's normal by inputs (ResNet20) or outputs (VGG16)."""
    for name, layer, fan, normal in (
        ("mnist_mlp", "layers.1", 784, False),
        ("imagenet32_resnet18", "stages.4.conv1", 9 * 128, False),
        ("cifar10_resnet20", "stages.8.conv2", 9 * 64, True),
        ("cifar10_vgg16", "features.17", 9 * 256, True),
    ):
        weight: Any = model_of(name).get_parameter(f"{layer}.weight")
        expected = math.sqrt(2 / fan) if normal else 1 / math.sqrt(3 * fan)
        assert weight.std().item() == pytest.approx(expected, rel=0.02), name
        # A uniform distribution ends at sqrt(3) deviations.
        assert (weight.abs().max().item() > 2 * expected) is normal, name


def test_first_weights_can_be_shared_and_are_those_of_plain_torch() -> None:
    torch.manual_seed(1)
    model, again = model_of("mnist_mlp", "--init_seed", "7"), model_of("mnist_mlp", "--init_seed", "7")
    torch.manual_seed(7)
    plain = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    for ours, repeated, theirs in zip(model.parameters(), again.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, repeated) and torch.equal(ours, theirs)
    vit = [model_of("cifar10_vit", "--init_seed", seed).get_parameter("classifier.weight") for seed in ("7", "7", "8")]
    assert torch.equal(vit[0], vit[1]) and not torch.equal(vit[0], vit[2])


def test_shortcut_a_adds_channels_of_zeros_on_both_sides() -> None:
    block: Any = model_of("cifar10_resnet20").get_submodule("stages.3")
    features = torch.randn(2, 16, 6, 6)
    out = block.shortcut(features)
    assert out.shape == (2, 32, 3, 3)
    assert torch.equal(out[:, 8:24], features[:, :, ::2, ::2])
    assert not out[:, :8].any() and not out[:, 24:].any()


CLASSES = {
    "mnist_mlp": MLPForImageClassification,
    "cifar10_resnet20": CifarResNetForImageClassification,
    "cifar10_vgg16": CifarVGGForImageClassification,
}


@pytest.mark.parametrize("name", CLASSES)
def test_saved_models_bring_their_code(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "cache"))
    _, _, size, channels = SIZES[name]
    cls = CLASSES[name]
    model, pixels = model_of(name).eval(), torch.randn(2, channels, size, size)
    folder = tmp_path / f"saved_{name}"
    model.save_pretrained(folder)
    try:
        saved = get_class_from_dynamic_module(f"{cls.__module__.split('.')[-1]}.{cls.__name__}", str(folder))
        assert saved is not cls and saved.__module__.startswith("transformers_modules.")
        again = saved.from_pretrained(folder).eval()
    finally:
        # Loading the saved code has replaced the registered class.
        AutoConfig.register(cls.config_class.model_type, cls.config_class, exist_ok=True)
        AutoModelForImageClassification.register(cls.config_class, cls, exist_ok=True)
    with torch.no_grad():
        assert torch.equal(again(pixels).logits, model(pixels).logits)
    assert AutoModelForImageClassification.from_pretrained(folder).config.id2label[3] == "3"


@pytest.mark.parametrize("cls", CLASSES.values())
def test_that_code_needs_nothing_of_the_recipes(cls: type) -> None:
    tree = ast.parse(Path(str(sys.modules[cls.__module__].__file__)).read_text())
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert {name.split(".")[0] for name in imported} <= {"torch", "transformers", *sys.stdlib_module_names}


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        (
            {"model_type": "restnet"},
            (32, 32, 3),
            "--model_type restnet is not an architecture; give image_mlp, cifar_resnet",
        ),
        (
            {"model_type": "gpt2"},
            (32, 32, 3),
            "--model_type gpt2 with these settings: Unrecognized configuration class",
        ),
        ({"model_config": "{"}, (32, 32, 3), "--model_config { is not JSON"),
        ({"model_config": "[1]"}, (32, 32, 3), r"--model_config \[1\] must be an object"),
        (
            {"model_config": '{"depth": 3}'},
            (32, 32, 3),
            "--model_config: depth is not a setting of --model_type cifar_r",
        ),
        ({"model_config": '{"depths": [3]}'}, (32, 32, 3), r"depths: got \[3\], must be one for each of the widths"),
        ({"model_config": '{"shortcut": "C"}'}, (32, 32, 3), "shortcut: got 'C', must be one of A, B"),
        (
            {"model_config": '{"initializer": "he"}'},
            (32, 32, 3),
            "initializer: got 'he', must be one of kaiming, torch",
        ),
        ({"model_type": "cifar_vgg"}, (28, 28, 1), "image_size: got 28, must be a multiple of 32"),
        ({}, (32, 20, 3), "the images are 32 x 20 pixels; give --image_size"),
    ],
)
def test_wrong_models(arguments: dict[str, Any], shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_model(ModelArguments(**arguments), shape, ["0", "1"])


def test_configurations_are_json_again(tmp_path: Path) -> None:
    model_of("cifar100_resnet110").config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert (saved["model_type"], saved["depths"], saved["shortcut"]) == ("cifar_resnet", [18, 18, 18], "A")
