"""The Trainer of the translation recipe: MoMo's, with batches by tokens and evaluation in the corpus' order."""

import copy
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler
from transformers import GenerationConfig

from hf_momo import MomoSeq2SeqTrainer
from machine_translation.batching import TokenBatchSampler
from machine_translation.saving import complete_for_pipeline, prepare_for_pipeline


class TranslationTrainer(MomoSeq2SeqTrainer):
    """`MomoSeq2SeqTrainer` for pairs of sentences.

    What a step averages: on several processes the loss and its gradient are the mean over the target tokens of all
    batches of all processes in the step, as if one process had them in one batch. The translation models of
    transformers know the mean over their own batch alone, so each batch is weighted by its number of target tokens.
    With `average_tokens_across_devices` off, and in one process that accumulates gradients, the step is the Trainer's
    mean of these means. Label smoothing, and models that take `num_items_in_batch`, count the tokens themselves.
    """

    def __init__(self, *args: Any, max_tokens_per_batch: int | None = None, **kwargs: Any) -> None:
        """Take what `MomoSeq2SeqTrainer` takes.

        Args:
            *args: Of `MomoSeq2SeqTrainer`.
            max_tokens_per_batch: Bound on the padded tokens of a training batch on one process; None for batches by
                count.
            **kwargs: Of `MomoSeq2SeqTrainer`.
        """
        super().__init__(*args, **kwargs)
        self.max_tokens_per_batch = max_tokens_per_batch
        self._generation_config: GenerationConfig | None = None
        self._mean_tokens: Tensor | None = None

    def save_for_pipeline(self, generation_config: GenerationConfig) -> None:
        """Save the model such that `pipeline("translation", model=folder)` loads it, now and at every later save.

        Args:
            generation_config: As it was before training: evaluating writes every default of the day into the model's
                own.
        """
        prepare_for_pipeline(self.model)
        self._generation_config = generation_config
        self._restore_generation_config()
        self.save_model()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self._restore_generation_config()
        super()._save(output_dir, state_dict)
        model: Any = self.model
        # transformers 5 comes here on all processes, of which the others write nothing.
        if self.is_world_process_zero() and getattr(model.config, "custom_pipelines", None):
            complete_for_pipeline(Path(str(output_dir or self.args.output_dir)))

    def _restore_generation_config(self) -> None:
        # Not where it is saved alone: all processes generate, with the same settings.
        if self._generation_config is not None:
            model: Any = self.model
            model.generation_config = copy.deepcopy(self._generation_config)

    def get_train_dataloader(self) -> DataLoader:
        """Batches by tokens where they were asked for."""
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
        # The sampler gives each process its own batches, so accelerate is to deal out nothing. (It would deal them out
        # by turns, whatever their lengths, and a resumed run could no longer tell the sampler which epoch it is.)
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
        """Take the batches of a step, and count their target tokens on all processes."""
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        self._mean_tokens = None
        if batches and self._weights_batches():
            tokens = torch.stack([_target_tokens(batch) for batch in batches]).float().mean()
            self._mean_tokens = self.accelerator.reduce(tokens.to(self.accelerator.device), "mean")
        return batches, num_items

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The model's loss; while training on several processes, weighted by the number of target tokens."""
        if self._mean_tokens is None or not model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        weight = _target_tokens(inputs) / self._mean_tokens
        result: Any = super().compute_loss(model, inputs, *args, **kwargs)
        return (result[0] * weight, result[1]) if isinstance(result, tuple) else result * weight

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate every sentence once.

        On several processes the last batches are filled up with sentences from the beginning, which the stock trainer
        of sequence-to-sequence models leaves in the predictions.
        """
        if self.args.world_size > 1:
            self.gather_function = self.accelerator.gather_for_metrics
        return super().evaluation_loop(*args, **kwargs)

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Translate a batch and take its loss, on several processes without that of sentences which fill it up."""
        state = self.accelerator.gradient_state
        if self.args.world_size > 1 and state.end_of_dataloader and state.remainder > 0:
            size = len(inputs["labels"])
            own = state.remainder - self.args.process_index * size
            # A batch of such sentences alone is left: gathering drops its loss.
            if 0 < own < size:
                inputs["labels"][own:] = -100
        return super().prediction_step(model, inputs, *args, **kwargs)

    def _weights_batches(self) -> bool:
        counted = self.model_accepts_loss_kwargs or self.compute_loss_func is not None
        return self.args.world_size > 1 and self.args.average_tokens_across_devices and not counted

    def _get_eval_sampler(self, eval_dataset: Any) -> torch.utils.data.Sampler | None:
        # With length grouping the Trainer would shuffle the evaluation too, and sentence n of the predictions would no
        # longer be the translation of sentence n.
        return SequentialSampler(eval_dataset)


def _target_tokens(batch: Any) -> Tensor:
    tokens: Tensor = batch["labels"].ne(-100).sum()
    return tokens
