"""Residual networks for images of 32 x 32 pixels.

With widths 16, 32, 64 they are those of He et al. (arXiv 1512.03385, section 4.2): ResNet20 has depths 3, 3, 3 and
ResNet110 18, 18, 18. With widths 64, 128, 256, 512, depths 2, 2, 2, 2 and shortcut B it is ResNet18 without the stride
and the pooling at its start, which would shrink a small image too far.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForImageClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

_SHORTCUTS = ("A", "B")
_INITIALIZERS = ("kaiming", "torch")


class CifarResNetConfig(PretrainedConfig):
    """The configuration of ``CifarResNetForImageClassification``.

    Args:
        image_size: Height and width of an image in pixels.
        num_channels: Channels of an image.
        widths: Channels of each stage; every stage but the first halves height and width.
        depths: Blocks of each stage; a block has two convolutions.
        shortcut: The shortcut where the size changes: ``A`` takes every other pixel and adds channels of zeros, ``B``
            is a 1 x 1 convolution with batch normalization.
        initializer: The initial weights: ``kaiming`` for He's normal distribution, ``torch`` for torch's defaults.
        **kwargs: Arguments of ``PretrainedConfig``, such as ``num_labels``.

    Raises:
        ValueError: If widths and depths differ in number, or shortcut or initializer is unknown.
    """

    model_type = "cifar_resnet"

    def __init__(
        self,
        image_size: int = 32,
        num_channels: int = 3,
        widths: Any = (16, 32, 64),
        depths: Any = (3, 3, 3),
        shortcut: str = "A",
        initializer: str = "kaiming",
        **kwargs: Any,
    ) -> None:
        if len(widths) != len(depths) or not widths:
            raise ValueError(f"depths: got {depths}, must be one for each of the widths {widths}")
        if shortcut not in _SHORTCUTS:
            raise ValueError(f"shortcut: got {shortcut!r}, must be one of {', '.join(_SHORTCUTS)}")
        if initializer not in _INITIALIZERS:
            raise ValueError(f"initializer: got {initializer!r}, must be one of {', '.join(_INITIALIZERS)}")
        self.image_size = image_size
        self.num_channels = num_channels
        self.widths = list(widths)
        self.depths = list(depths)
        self.shortcut = shortcut
        self.initializer = initializer
        super().__init__(**kwargs)


class ZeroPaddedShortcut(nn.Module):
    """Shortcut A: every ``stride``-th pixel, padded with channels of zeros on both sides."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        before = (out_channels - in_channels) // 2
        self.padding = (0, 0, 0, 0, before, out_channels - in_channels - before)
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        """Map features of shape (batch, in_channels, h, w) to (batch, out_channels, h / stride, w / stride)."""
        return functional.pad(features[:, :, :: self.stride, :: self.stride], self.padding)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalization, and the shortcut around them."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride == 1 and in_channels == out_channels:
            return
        if shortcut == "A":
            self.shortcut = ZeroPaddedShortcut(in_channels, out_channels, stride)
        else:
            convolution = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(out_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Map features of shape (batch, in_channels, h, w) to (batch, out_channels, h / stride, w / stride)."""
        residual = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(features)))))
        return torch.relu(residual + self.shortcut(features))


class CifarResNetForImageClassification(PreTrainedModel):
    """A convolution, the stages, the mean over all pixels, and a linear classifier."""

    config_class = CifarResNetConfig
    base_model_prefix = "stages"
    main_input_name = "pixel_values"

    def __init__(self, config: CifarResNetConfig) -> None:
        super().__init__(config)
        channels = config.widths[0]
        self.conv = nn.Conv2d(config.num_channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        stages = []
        for number, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            for block in range(depth):
                stride = 2 if number > 0 and block == 0 else 1
                stages.append(BasicBlock(channels, width, stride, config.shortcut))
                channels = width
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(channels, cast(int, config.num_labels))
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ImageClassifierOutput:
        """Return the logits of a batch and, with labels, the loss.

        Args:
            pixel_values: Normalised images, shape ``(batch, num_channels, image_size, image_size)``.
            labels: Their classes from 0 to num_labels - 1, shape ``(batch,)``.

        Returns:
            ``logits``, shape ``(batch, num_labels)``, and with labels ``loss``, the mean cross-entropy in nats.
        """
        features = self.stages(torch.relu(self.norm(self.conv(pixel_values))))
        logits = self.classifier(features.mean(dim=(2, 3)))
        loss = None if labels is None else functional.cross_entropy(logits.float(), labels)
        return ImageClassifierOutput(loss=loss, logits=logits)

    def _init_weights(self, module: nn.Module) -> None:
        if not isinstance(module, nn.Conv2d | nn.Linear):
            return
        module.reset_parameters()
        if self.config.initializer == "kaiming":
            nn.init.kaiming_normal_(module.weight)


# exist_ok: the code of a saved model may be loaded several times and beside this module.
AutoConfig.register(CifarResNetConfig.model_type, CifarResNetConfig, exist_ok=True)
AutoModelForImageClassification.register(CifarResNetConfig, CifarResNetForImageClassification, exist_ok=True)
CifarResNetConfig.register_for_auto_class()
CifarResNetForImageClassification.register_for_auto_class("AutoModelForImageClassification")
