"""DLRM, the deep learning recommendation model of Naumov et al. 2019 (arXiv 1906.00091), as a Hugging Face model."""

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput


class DLRMConfig(PretrainedConfig):
    """The configuration of ``DLRM``; the defaults are its authors' for the Criteo log of the Kaggle challenge.

    Args:
        num_dense_features: Numbers in a row of the log.
        hash_sizes: Rows of the embedding table of each categorical feature. The code of a category is taken modulo
            this size, so every code has a row.
        embedding_size: Width of the embeddings and of the output of the bottom network.
        bottom_hidden_sizes: Widths of the hidden layers of the bottom network, which reads the numbers.
        top_hidden_sizes: Widths of the hidden layers of the top network, which computes the logit.
        **kwargs: Arguments of ``PretrainedConfig``.
    """

    model_type = "dlrm"

    def __init__(
        self,
        num_dense_features: int = 13,
        hash_sizes: Any = (100_000,) * 26,
        embedding_size: int = 16,
        bottom_hidden_sizes: Any = (512, 256, 64),
        top_hidden_sizes: Any = (512, 256),
        **kwargs: Any,
    ) -> None:
        self.num_dense_features = num_dense_features
        self.hash_sizes = list(hash_sizes)
        self.embedding_size = embedding_size
        self.bottom_hidden_sizes = list(bottom_hidden_sizes)
        self.top_hidden_sizes = list(top_hidden_sizes)
        super().__init__(**kwargs)


@dataclass
class DLRMOutput(ModelOutput):
    """The output of ``DLRM``.

    Attributes:
        loss: The log loss in nats, 0-dimensional; ``None`` without labels.
        logits: The log-odds of a click, shape ``(batch,)``.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


class DLRM(PreTrainedModel):
    """DLRM: a bottom network for numbers, embeddings for categories, all their dot products, and a top network."""

    config_class = DLRMConfig
    base_model_prefix = "dlrm"
    main_input_name = "dense"
    table_sizes: Tensor
    table_starts: Tensor

    def __init__(self, config: DLRMConfig) -> None:
        super().__init__(config)
        vectors = len(config.hash_sizes) + 1
        pairs = vectors * (vectors - 1) // 2
        self.bottom = _perceptron(
            [config.num_dense_features, *config.bottom_hidden_sizes, config.embedding_size], nn.ReLU()
        )
        # One table for all features is one tensor to look up, to average and to step.
        self.embedding = nn.Embedding(sum(config.hash_sizes), config.embedding_size)
        self.top = _perceptron([config.embedding_size + pairs, *config.top_hidden_sizes, 1], nn.Identity())
        starts = [0, *accumulate(config.hash_sizes)][:-1]
        self.register_buffer("table_sizes", torch.tensor(config.hash_sizes))
        self.register_buffer("table_starts", torch.tensor(starts))
        self.post_init()

    def forward(
        self,
        dense: Tensor,
        categories: Tensor,
        labels: Tensor | None = None,
        num_items_in_batch: int | None = None,
        **kwargs: Any,
    ) -> DLRMOutput:
        """Return the logits of a batch and, with labels, the loss.

        Args:
            dense: The numbers, for counts log(1 + count); shape ``(batch, num_dense_features)``.
            categories: The codes of the categories, integers from 0; shape ``(batch, number of features)``.
            labels: 1 for a click, 0 for none, -100 for a row that the loss ignores; shape ``(batch,)``.
            num_items_in_batch: The divisor of the summed log losses; by default the number of rows with a label.
            **kwargs: Ignored.
        """
        numbers = self.bottom(dense)
        rows = categories % self.table_sizes + self.table_starts
        vectors = torch.cat([numbers.unsqueeze(1), self.embedding(rows).to(numbers.dtype)], dim=1)
        products = vectors @ vectors.transpose(1, 2)
        first, second = torch.tril_indices(products.shape[1], products.shape[2], -1, device=products.device)
        logits = self.top(torch.cat([numbers, products[:, first, second]], dim=1)).squeeze(1)
        if labels is None:
            return DLRMOutput(logits=logits)
        counted = labels >= 0
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits.float(), labels.clamp(min=0).float(), reduction="none"
        )
        number = counted.sum() if num_items_in_batch is None else num_items_in_batch
        return DLRMOutput(loss=losses.where(counted, 0.0).sum() / number, logits=logits)

    def _init_weights(self, module: nn.Module) -> None:
        # The authors' initialisation: Glorot's normal for weights; uniform embeddings, smaller for larger tables.
        if isinstance(module, nn.Linear):
            outputs, inputs = module.weight.shape
            nn.init.normal_(module.weight, std=math.sqrt(2 / (inputs + outputs)))
            nn.init.normal_(module.bias, std=math.sqrt(1 / outputs))
        elif isinstance(module, nn.Embedding):
            start = 0
            for size in self.config.hash_sizes:
                nn.init.uniform_(module.weight[start : start + size], -1 / math.sqrt(size), 1 / math.sqrt(size))
                start += size


def _perceptron(sizes: list[int], last: nn.Module) -> nn.Sequential:
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1], last)


AutoConfig.register(DLRMConfig.model_type, DLRMConfig)
AutoModel.register(DLRMConfig, DLRM)
DLRMConfig.register_for_auto_class()
DLRM.register_for_auto_class("AutoModel")
