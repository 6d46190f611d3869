"""Tokenized sentence pairs, and batches with a bounded number of tokens."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import BatchSampler
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from machine_translation.arguments import DataArguments
from machine_translation.languages import decoder_inputs, starts_with


def tokenize(
    pairs: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    arguments: DataArguments,
    *,
    cut_targets: bool,
    forced_bos: int | None = None,
) -> Dataset:
    """Turn sentence pairs into ``input_ids``, ``attention_mask``, ``labels`` and ``length``, that of the longer side.

    Args:
        pairs: A data set with the column ``translation``.
        tokenizer: The tokenizer. Sentences that are cut keep its end token.
        arguments: Languages, lengths and prefix.
        cut_targets: Whether targets are cut to ``max_target_length``, as for training; references must stay whole.
        forced_bos: The token with which generation is forced to begin: all targets get it, too.
    """
    prefix = arguments.source_prefix or ""
    start = [] if forced_bos is None or starts_with(tokenizer, forced_bos) else [forced_bos]
    limit = {"max_length": arguments.max_target_length - len(start), "truncation": True} if cut_targets else {}

    def convert(rows: dict[str, list[dict[str, str]]]) -> dict[str, list[Any]]:
        sources = [prefix + pair[str(arguments.source_lang)] for pair in rows["translation"]]
        targets = [pair[str(arguments.target_lang)] for pair in rows["translation"]]
        encoded = tokenizer(sources, max_length=arguments.max_source_length, truncation=True)
        labels = [[*start, *ids] for ids in tokenizer(text_target=targets, **limit)["input_ids"]]
        lengths = [max(len(source), len(label)) for source, label in zip(encoded["input_ids"], labels, strict=True)]
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": labels,
            "length": lengths,
        }

    return pairs.map(convert, batched=True, remove_columns=pairs.column_names)


class TranslationCollator(DataCollatorForSeq2Seq):
    """``DataCollatorForSeq2Seq`` that gives every model the inputs of its decoder.

    Some architectures (M2M100) make them in their forward only, where label smoothing has taken the labels away.
    """

    def __call__(self, features: list[dict[str, Any]], return_tensors: str | None = None) -> Any:
        """Pad the examples to a batch."""
        batch = super().__call__(features, return_tensors)
        if "decoder_input_ids" not in batch:
            batch["decoder_input_ids"] = decoder_inputs(self.model, batch["labels"])
        return batch


class TokenBatchSampler(BatchSampler):
    """Batches of sentences of similar length with at most ``max_tokens`` padded tokens each.

    The size of a batch is its number of sentences times the length of the longest. A sentence longer than the limit is
    a batch of its own. The order depends on the seed and the epoch only, and every epoch has the same number of
    batches, so that a resumed run continues with the batches of the uninterrupted run.

    With several processes, each instance yields the batches of its process. Batches of similar length are assigned in
    rounds, one to each process, so that all processes take about the same time for a step. If the last round is
    incomplete, one round, drawn anew every epoch, shares batches with the next one: all processes have the same number
    of batches, every sentence is seen, and fewer batches than there are processes are seen twice.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        max_tokens: int,
        seed: int,
        *,
        num_processes: int = 1,
        process_index: int = 0,
    ) -> None:
        """Create the sampler, set to the first epoch.

        Args:
            lengths: The length of each example in tokens, that of its longer side.
            max_tokens: Largest number of padded tokens in a batch.
            seed: Seed of the shuffling, the same on every process.
            num_processes: Number of processes.
            process_index: Index of this process, from 0 to ``num_processes`` - 1.

        Raises:
            ValueError: If ``max_tokens`` is below 1 or ``process_index`` is out of range.
        """
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
        if not 0 <= process_index < num_processes:
            raise ValueError(f"process_index must be in [0, {num_processes}) (num_processes), not {process_index}")
        self.lengths = torch.as_tensor(list(lengths))
        self.max_tokens = max_tokens
        self.seed = seed
        self.num_processes = num_processes
        self.process_index = process_index
        self.epoch = 0
        # accelerate and torch read these attributes; the batches have no common size.
        self.batch_size: Any = None
        self.drop_last = False
        self._num_batches = len(self._batches(torch.arange(len(self.lengths))))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the order of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self._num_batches / self.num_processes)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        batches = self._batches(torch.randperm(len(self.lengths), generator=generator))
        order = torch.randperm(len(self), generator=generator).tolist()
        starts = self._starts_of_rounds(generator)
        for position in order:
            yield batches[(starts[position] + self.process_index) % len(batches)]

    def _starts_of_rounds(self, generator: torch.Generator) -> list[int]:
        """Return the position of the first batch of every round; rounds overlap if the last would be incomplete."""
        rounds, size = len(self), self.num_processes
        missing = rounds * size - self._num_batches
        if missing == 0:
            return list(range(0, self._num_batches, size))
        short = int(torch.randint(rounds, (1,), generator=generator))
        last = max(0, self._num_batches - size)
        return [min(position * size - (missing if position > short else 0), last) for position in range(rounds)]

    def _batches(self, order: torch.Tensor) -> list[list[int]]:
        """Divide the sentences into batches by length; ``order`` decides between sentences of equal length."""
        order = order[torch.argsort(self.lengths[order], stable=True)]
        batches: list[list[int]] = []
        batch: list[int] = []
        for index, length in zip(order.tolist(), self.lengths[order].tolist(), strict=True):
            # Lengths ascend, so the last sentence is the longest of its batch.
            if batch and (len(batch) + 1) * length > self.max_tokens:
                batches.append(batch)
                batch = []
            batch.append(index)
        return [*batches, batch] if batch else batches
