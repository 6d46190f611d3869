"""The Trainer of the translation recipe: MoMo's, with batches by tokens and evaluation in the corpus' order."""

from typing import Any

import torch
from torch.utils.data import DataLoader, SequentialSampler

from hf_momo import MomoSeq2SeqTrainer
from machine_translation.batching import TokenBatchSampler


class TranslationTrainer(MomoSeq2SeqTrainer):
    """`MomoSeq2SeqTrainer` for pairs of sentences."""

    def __init__(self, *args: Any, max_tokens_per_batch: int | None = None, **kwargs: Any) -> None:
        """Take what `MomoSeq2SeqTrainer` takes.

        Args:
            *args: Of `MomoSeq2SeqTrainer`.
            max_tokens_per_batch: Bound on the padded tokens of a training batch; None for batches by count. For one
                process only: accelerate deals out batches of one size.
            **kwargs: Of `MomoSeq2SeqTrainer`.
        """
        super().__init__(*args, **kwargs)
        self.max_tokens_per_batch = max_tokens_per_batch

    def get_train_dataloader(self) -> DataLoader:
        """Batches by tokens where they were asked for."""
        if self.max_tokens_per_batch is None:
            return super().get_train_dataloader()
        dataset: Any = self.train_dataset
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        sampler = TokenBatchSampler(dataset["length"], self.max_tokens_per_batch, seed)
        loader: DataLoader = DataLoader(
            self._remove_unused_columns(dataset, description="training"),
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
        )
        prepared: DataLoader = self.accelerator.prepare(loader)
        return prepared

    def _get_eval_sampler(self, eval_dataset: Any) -> torch.utils.data.Sampler | None:
        # With length grouping the Trainer would shuffle the evaluation too, and sentence n of the predictions would no
        # longer be the translation of sentence n.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None
