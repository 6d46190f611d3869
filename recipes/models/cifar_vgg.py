"""VGG networks (Simonyan and Zisserman, arXiv 1409.1556) for images of 32 x 32 pixels.

The convolutions are those of the original. The classifier has width 512, as is usual for CIFAR, instead of 4096 for
ImageNet. VGG16 has depths 2, 2, 3, 3, 3.
"""

import math
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForImageClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput


class CifarVGGConfig(PretrainedConfig):
    """The configuration of ``CifarVGGForImageClassification``.

    Args:
        image_size: Height and width of an image in pixels, a multiple of 2 to the power of the number of stages.
        num_channels: Channels of an image.
        widths: Channels of each stage, after which pooling halves height and width.
        depths: Convolutions of each stage.
        batch_norm: Whether batch normalization follows each convolution.
        classifier_width: Width of the two hidden layers after the stages.
        classifier_dropout: Dropout probability before each of them, from 0 to below 1.
        **kwargs: Arguments of ``PretrainedConfig``, such as ``num_labels``.

    Raises:
        ValueError: If widths and depths differ in number, or the image cannot be halved once a stage.
    """

    model_type = "cifar_vgg"

    def __init__(
        self,
        image_size: int = 32,
        num_channels: int = 3,
        widths: Any = (64, 128, 256, 512, 512),
        depths: Any = (2, 2, 3, 3, 3),
        batch_norm: bool = True,
        classifier_width: int = 512,
        classifier_dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        if len(widths) != len(depths) or not widths:
            raise ValueError(f"depths: got {depths}, must be one for each of the widths {widths}")
        if image_size % 2 ** len(widths):
            raise ValueError(f"image_size: got {image_size}, must be a multiple of {2 ** len(widths)}")
        self.image_size = image_size
        self.num_channels = num_channels
        self.widths = list(widths)
        self.depths = list(depths)
        self.batch_norm = batch_norm
        self.classifier_width = classifier_width
        self.classifier_dropout = classifier_dropout
        super().__init__(**kwargs)


class CifarVGGForImageClassification(PreTrainedModel):
    """Stages of 3 x 3 convolutions, each followed by pooling, and a classifier of three linear layers."""

    config_class = CifarVGGConfig
    base_model_prefix = "features"
    main_input_name = "pixel_values"

    def __init__(self, config: CifarVGGConfig) -> None:
        super().__init__(config)
        layers: list[nn.Module] = []
        channels = config.num_channels
        for width, depth in zip(config.widths, config.depths, strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] if config.batch_norm else []
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        pixels = (config.image_size // 2 ** len(config.widths)) ** 2
        width, dropout = config.classifier_width, config.classifier_dropout
        self.classifier = nn.Sequential(
            nn.Flatten(),
            *(nn.Dropout(dropout), nn.Linear(channels * pixels, width), nn.ReLU(inplace=True)),
            *(nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU(inplace=True)),
            nn.Linear(width, cast(int, config.num_labels)),
        )
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ImageClassifierOutput:
        """Return the logits of a batch and, with labels, the loss.

        Args:
            pixel_values: Normalised images, shape ``(batch, num_channels, image_size, image_size)``.
            labels: Their classes from 0 to num_labels - 1, shape ``(batch,)``.

        Returns:
            ``logits``, shape ``(batch, num_labels)``, and with labels ``loss``, the mean cross-entropy in nats.
        """
        logits = self.classifier(self.features(pixel_values))
        loss = None if labels is None else functional.cross_entropy(logits.float(), labels)
        return ImageClassifierOutput(loss=loss, logits=logits)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d):
            # He's normal distribution with the fan-out of the layer.
            fan_out = math.prod(module.kernel_size) * module.out_channels
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            nn.init.zeros_(cast(Tensor, module.bias))


# exist_ok: the code of a saved model may be loaded several times and beside this module.
AutoConfig.register(CifarVGGConfig.model_type, CifarVGGConfig, exist_ok=True)
AutoModelForImageClassification.register(CifarVGGConfig, CifarVGGForImageClassification, exist_ok=True)
CifarVGGConfig.register_for_auto_class()
CifarVGGForImageClassification.register_for_auto_class("AutoModelForImageClassification")
