"""Sentences to batches: token ids, and batches of a bounded number of tokens."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import BatchSampler
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase
from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

from machine_translation.arguments import DataArguments


def tokenize(
    pairs: Dataset, tokenizer: PreTrainedTokenizerBase, arguments: DataArguments, *, cut_targets: bool
) -> Dataset:
    """Turn sentence pairs into `input_ids`, `attention_mask`, `labels` and `length` (of the longer side).

    Args:
        pairs: A dataset with the column `translation`.
        tokenizer: Its end tokens are kept when a sentence is cut.
        arguments: Languages, lengths, prefix.
        cut_targets: Cut targets to `max_target_length`: right for training, wrong for references.
    """
    prefix = arguments.source_prefix or ""

    def convert(rows: dict[str, list[dict[str, str]]]) -> dict[str, list[Any]]:
        sources = [prefix + pair[str(arguments.source_lang)] for pair in rows["translation"]]
        targets = [pair[str(arguments.target_lang)] for pair in rows["translation"]]
        encoded = tokenizer(sources, max_length=arguments.max_source_length, truncation=True)
        limit = {"max_length": arguments.max_target_length, "truncation": True} if cut_targets else {}
        labels = tokenizer(text_target=targets, **limit)["input_ids"]
        lengths = [max(len(source), len(label)) for source, label in zip(encoded["input_ids"], labels, strict=True)]
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": labels,
            "length": lengths,
        }

    return pairs.map(convert, batched=True, remove_columns=pairs.column_names)


class TranslationCollator(DataCollatorForSeq2Seq):
    """`DataCollatorForSeq2Seq` that always gives the decoder its input.

    Some architectures (M2M100) make it from the labels in their forward only, where label smoothing has taken the
    labels away.
    """

    def __call__(self, features: list[dict[str, Any]], return_tensors: str | None = None) -> Any:
        """Pad the examples to a batch."""
        batch = super().__call__(features, return_tensors)
        model: Any = self.model
        config = model.config
        if "decoder_input_ids" not in batch and config.model_type == "m2m_100":
            batch["decoder_input_ids"] = shift_tokens_right(
                batch["labels"], config.pad_token_id, config.decoder_start_token_id
            )
        return batch


class TokenBatchSampler(BatchSampler):
    """Batches of sentences of similar length with at most `max_tokens` padded tokens each.

    A batch costs its number of sentences times its longest sentence; a sentence longer than the bound stands alone.
    The order depends on seed and epoch only, and every epoch has the same number of batches, so a resumed run sees
    what an unbroken one would.
    """

    def __init__(self, lengths: Sequence[int], max_tokens: int, seed: int) -> None:
        """Set up the first epoch.

        Args:
            lengths: Length of each example: that of its longer side, in tokens.
            max_tokens: Bound on the padded tokens of a batch.
            seed: Seed of the shuffling.
        """
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
        self.lengths = torch.as_tensor(list(lengths))
        self.max_tokens = max_tokens
        self.seed = seed
        self.epoch = 0
        # What accelerate and torch read of a batch sampler; there is no one size here.
        self.batch_size: Any = None
        self.drop_last = False
        self._num_batches = len(self._batches(torch.arange(len(self.lengths))))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        batches = self._batches(torch.randperm(len(self.lengths), generator=generator))
        for position in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[position]

    def _batches(self, order: torch.Tensor) -> list[list[int]]:
        """Cut into batches along the lengths; `order` decides between sentences of one length."""
        order = order[torch.argsort(self.lengths[order], stable=True)]
        batches: list[list[int]] = []
        batch: list[int] = []
        for index, length in zip(order.tolist(), self.lengths[order].tolist(), strict=True):
            # Lengths ascend, so the newest sentence is the longest of its batch.
            if batch and (len(batch) + 1) * length > self.max_tokens:
                batches.append(batch)
                batch = []
            batch.append(index)
        return [*batches, batch] if batch else batches
