"""The Trainer of the translation recipe: batches by tokens, exact loss over processes, evaluation in order."""

import copy
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler
from transformers import GenerationConfig

from hf_momo import MomoSeq2SeqTrainer
from machine_translation.adapters import has_adapters, without_adapters
from machine_translation.batching import TokenBatchSampler
from machine_translation.saving import complete_for_pipeline, prepare_for_pipeline


class TranslationTrainer(MomoSeq2SeqTrainer):
    """``MomoSeq2SeqTrainer`` for sentence pairs.

    With several processes, the loss of a step and its gradient are the mean over the target tokens of all batches of
    all processes. The translation models of transformers return the mean over their own batch, so each batch is
    weighted by its number of target tokens. With ``average_tokens_across_devices=False``, and in one process that
    accumulates gradients, the loss is the mean of the batch means, as in the Trainer. Label smoothing, and models that
    take ``num_items_in_batch``, count the tokens themselves.
    """

    def __init__(self, *args: Any, max_tokens_per_batch: int | None = None, **kwargs: Any) -> None:
        """Create the Trainer.

        Args:
            *args: Positional arguments of ``MomoSeq2SeqTrainer``.
            max_tokens_per_batch: Largest number of padded tokens in a training batch of one process; ``None`` for
                batches of ``per_device_train_batch_size`` sentences.
            **kwargs: Keyword arguments of ``MomoSeq2SeqTrainer``.
        """
        super().__init__(*args, **kwargs)
        self.max_tokens_per_batch = max_tokens_per_batch
        self._generation_config: GenerationConfig | None = None
        self._mean_tokens: Tensor | None = None

    def enable_pipeline(self, generation_config: GenerationConfig) -> None:
        """Make every later save one that ``pipeline("translation", model=folder)`` loads.

        Args:
            generation_config: The generation configuration before training. Evaluation writes all of the current
                defaults into that of the model.
        """
        prepare_for_pipeline(self.model)
        self._generation_config = generation_config
        self._restore_generation_config()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self._restore_generation_config()
        super()._save(output_dir, state_dict)
        model: Any = self.model
        folder = Path(str(output_dir or self.args.output_dir))
        # transformers 5 calls this on all processes, but only one writes.
        if not self.is_world_process_zero():
            return
        if has_adapters(model):
            # PEFT saves no generation settings, and those of the base model may force another language.
            if self._generation_config is not None:
                self._generation_config.save_pretrained(folder)
        elif getattr(model.config, "custom_pipelines", None):
            complete_for_pipeline(folder)

    def _restore_generation_config(self) -> None:
        # On all processes, not only the one that saves: all generate, with the same settings.
        if self._generation_config is not None:
            without_adapters(self.model).generation_config = copy.deepcopy(self._generation_config)

    def get_train_dataloader(self) -> DataLoader:
        """Return a data loader with batches by tokens if ``max_tokens_per_batch`` is set."""
        if self.max_tokens_per_batch is None:
            return super().get_train_dataloader()
        dataset: Any = self.train_dataset
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        processes = {"num_processes": self.args.world_size, "process_index": self.args.process_index}
        loader: DataLoader = DataLoader(
            self._remove_unused_columns(dataset, description="training"),
            batch_sampler=TokenBatchSampler(dataset["length"], self.max_tokens_per_batch, seed, **processes),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
        )
        # accelerate gets one process, since the sampler yields the batches of this process only. Otherwise it would
        # distribute them whatever their lengths, and a resumed run could not set the epoch of the sampler.
        prepared: DataLoader = prepare_data_loader(
            loader,
            self.accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            non_blocking=self.accelerator.non_blocking,
        )
        return prepared

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """Return the batches of a step, and count their target tokens on all processes."""
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        self._mean_tokens = None
        if batches and self._weights_batches():
            tokens = torch.stack([_target_tokens(batch) for batch in batches]).float().mean()
            self._mean_tokens = self.accelerator.reduce(tokens.to(self.accelerator.device), "mean")
        return batches, num_items

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of the model, weighted by the number of target tokens in training with several processes."""
        if self._mean_tokens is None or not model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        weight = _target_tokens(inputs) / self._mean_tokens
        result: Any = super().compute_loss(model, inputs, *args, **kwargs)
        return (result[0] * weight, result[1]) if isinstance(result, tuple) else result * weight

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate every sentence once.

        With several processes, the last batches are filled up with sentences from the beginning, which
        ``Seq2SeqTrainer`` leaves in the predictions.
        """
        if self.args.world_size > 1:
            self.gather_function = self.accelerator.gather_for_metrics
        return super().evaluation_loop(*args, **kwargs)

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Translate a batch and compute its loss, without the sentences that fill up the last batch."""
        state = self.accelerator.gradient_state
        if self.args.world_size > 1 and state.end_of_dataloader and state.remainder > 0:
            size = len(inputs["labels"])
            own = state.remainder - self.args.process_index * size
            # A batch of such sentences alone stays as it is: gathering drops its loss.
            if 0 < own < size:
                inputs["labels"][own:] = -100
        return super().prediction_step(model, inputs, *args, **kwargs)

    def _weights_batches(self) -> bool:
        counted = self.model_accepts_loss_kwargs or self.compute_loss_func is not None
        return self.args.world_size > 1 and self.args.average_tokens_across_devices and not counted

    def _get_eval_sampler(self, eval_dataset: Any) -> torch.utils.data.Sampler | None:
        # With group_by_length the Trainer would shuffle the evaluation, too, and the predictions would no longer be in
        # the order of the references.
        return SequentialSampler(eval_dataset)


def _target_tokens(batch: Any) -> Tensor:
    tokens: Tensor = batch["labels"].ne(-100).sum()
    return tokens
