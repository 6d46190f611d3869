"""A multi-layer perceptron that classifies images."""

from itertools import pairwise
from typing import Any, cast

from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput


class MLPConfig(PretrainedConfig):
    """The configuration of ``MLPForImageClassification``.

    Args:
        image_size: Height and width of an image in pixels.
        num_channels: Channels of an image.
        hidden_sizes: Widths of the hidden layers in order; empty for a linear classifier.
        **kwargs: Arguments of ``PretrainedConfig``, such as ``num_labels``.
    """

    model_type = "image_mlp"

    def __init__(
        self, image_size: int = 28, num_channels: int = 1, hidden_sizes: Any = (100, 100), **kwargs: Any
    ) -> None:
        self.image_size = image_size
        self.num_channels = num_channels
        self.hidden_sizes = list(hidden_sizes)
        super().__init__(**kwargs)


class MLPForImageClassification(PreTrainedModel):
    """Fully connected layers with ReLU between them, on the flattened image."""

    config_class = MLPConfig
    base_model_prefix = "layers"
    main_input_name = "pixel_values"

    def __init__(self, config: MLPConfig) -> None:
        super().__init__(config)
        inputs = config.num_channels * config.image_size**2
        widths = [inputs, *config.hidden_sizes]
        hidden = [layer for sizes in pairwise(widths) for layer in (nn.Linear(*sizes), nn.ReLU())]
        self.layers = nn.Sequential(nn.Flatten(), *hidden)
        self.classifier = nn.Linear(widths[-1], cast(int, config.num_labels))
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ImageClassifierOutput:
        """Return the logits of a batch and, with labels, the loss.

        Args:
            pixel_values: Normalised images, shape ``(batch, num_channels, image_size, image_size)``.
            labels: Their classes from 0 to num_labels - 1, shape ``(batch,)``.

        Returns:
            ``logits``, shape ``(batch, num_labels)``, and with labels ``loss``, the mean cross-entropy in nats.
        """
        logits = self.classifier(self.layers(pixel_values))
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return ImageClassifierOutput(loss=loss, logits=logits)

    def _init_weights(self, module: nn.Module) -> None:
        # The paper's perceptron has the initial weights of torch's layers, not transformers' normal distribution.
        if isinstance(module, nn.Linear):
            module.reset_parameters()


# exist_ok: the code of a saved model may be loaded several times and beside this module.
AutoConfig.register(MLPConfig.model_type, MLPConfig, exist_ok=True)
AutoModelForImageClassification.register(MLPConfig, MLPForImageClassification, exist_ok=True)
MLPConfig.register_for_auto_class()
MLPForImageClassification.register_for_auto_class("AutoModelForImageClassification")
