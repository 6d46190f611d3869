"""Image classifiers: from scratch, or from a pretrained checkpoint."""

import json
from typing import Any

import models.cifar_resnet
import models.cifar_vgg
import models.mlp  # noqa: F401 (registers its models with the Auto classes)
import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedModel,
)

from hf_momo.utils.errors import UsageError
from images.arguments import ModelArguments
from images.data import Normalization


def create_model(arguments: ModelArguments, image_shape: tuple[int, int, int], classes: list[str]) -> PreTrainedModel:
    """Return an image classifier with random weights.

    Args:
        arguments: The type and the settings of the model.
        image_shape: Height, width and channels of the images.
        classes: The names of the classes, by label.

    Raises:
        UsageError: If there is no such architecture or setting, or the model does not take such images.
    """
    settings = _settings(arguments)
    if arguments.model_type not in CONFIG_MAPPING:
        raise UsageError(
            f"--model_type {arguments.model_type} is not an architecture; give image_mlp, cifar_resnet, cifar_vgg, "
            "vit or another image classifier of transformers"
        )
    height, width, channels = image_shape
    if height != width:
        raise UsageError(f"the images are {height} x {width} pixels; give --image_size to make them square")
    defaults = CONFIG_MAPPING[arguments.model_type]()
    if unknown := [name for name in settings if not hasattr(defaults, name)]:
        raise UsageError(f"--model_config: {unknown[0]} is not a setting of --model_type {arguments.model_type}")
    labels = dict(enumerate(classes))
    shape = {
        name: value for name, value in (("image_size", height), ("num_channels", channels)) if hasattr(defaults, name)
    }
    try:
        config = AutoConfig.for_model(
            arguments.model_type,
            **shape,
            **settings,
            id2label=labels,
            label2id={name: key for key, name in labels.items()},
        )
        model = _draw(config, arguments.init_seed)
    except (ValueError, TypeError) as error:
        raise UsageError(f"--model_type {arguments.model_type} with these settings: {error}") from error
    return model


def _draw(config: Any, seed: int | None) -> PreTrainedModel:
    if seed is None:
        return AutoModelForImageClassification.from_config(config)  # type: ignore[no-any-return]
    torch.manual_seed(seed)
    model: Any = AutoModelForImageClassification.from_config(config)
    if type(model).__module__.startswith("models."):
        # torch's layers and transformers have both drawn weights by now. Plain torch draws them once from the seed.
        torch.manual_seed(seed)
        model.apply(model._init_weights)
    return model  # type: ignore[no-any-return]


def saved_normalization(name: str) -> Normalization | None:
    """Return the normalization of a checkpoint's image processor, or ``None`` if it has none.

    Args:
        name: Folder or Hub id of the checkpoint.
    """
    try:
        processor = AutoImageProcessor.from_pretrained(name)
    except (OSError, ValueError):
        return None
    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    return None if mean is None or std is None else Normalization(tuple(mean), tuple(std))


def image_processor(normalization: Normalization, size: int) -> Any:
    """Return the image processor to save with the model: it resizes and normalises images as in training."""
    # In transformers 5 the class without Pil needs torchvision.
    cls: Any = getattr(transformers, "ViTImageProcessorPil", None) or transformers.ViTImageProcessor
    square = {"height": size, "width": size}
    return cls(size=square, image_mean=list(normalization.mean), image_std=list(normalization.std), resample=3)


def _settings(arguments: ModelArguments) -> dict[str, Any]:
    if arguments.model_config is None:
        return {}
    try:
        settings = json.loads(arguments.model_config)
    except ValueError as error:
        raise UsageError(f"--model_config {arguments.model_config} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise UsageError(f'--model_config {arguments.model_config} must be an object, e.g. {{"depths": [3, 3, 3]}}')
    return settings


def load_pretrained(
    arguments: ModelArguments, image_shape: tuple[int, int, int], classes: list[str]
) -> PreTrainedModel:
    """Load a checkpoint. If it has another number of classes, its classifier is initialised anew.

    Args:
        arguments: The name of the checkpoint.
        image_shape: Height, width and channels of the images.
        classes: The names of the classes, by label.

    Raises:
        UsageError: If the checkpoint cannot be loaded, is not an image classifier, or takes images of another shape.
    """
    name = str(arguments.model_name_or_path)
    labels = dict(enumerate(classes))
    try:
        config = AutoConfig.from_pretrained(name)
        config.id2label, config.label2id = labels, {each: label for label, each in labels.items()}
        model: PreTrainedModel = AutoModelForImageClassification.from_pretrained(
            name, config=config, ignore_mismatched_sizes=True
        )
    except Exception as error:  # transformers, safetensors and torch raise a dozen kinds
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"--model_name_or_path {name} could not be loaded: {reason} Give the folder of an image classifier, "
            "or a Hub id when there is a network"
        ) from error
    height, width, channels = image_shape
    for setting, size in (("image_size", height), ("image_size", width), ("num_channels", channels)):
        expected = getattr(config, setting, size)
        if size != expected:
            raise UsageError(
                f"--model_name_or_path {name} has {setting} {expected}, but the images are {height} x {width} with "
                f"{channels} channels; --image_size resizes images of folders and of the Hub"
            )
    return model
