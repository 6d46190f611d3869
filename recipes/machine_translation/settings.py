"""All settings of a run of the translation recipe, and what is refused before it starts."""

from dataclasses import dataclass
from pathlib import Path

from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from common.processes import sharding
from common.records import RECORD_NAME
from hf_momo import MomoSeq2SeqTrainingArguments
from hf_momo.utils.errors import UsageError
from machine_translation.arguments import DataArguments, ModelArguments
from machine_translation.card import TOKENIZED_BLEU


@dataclass
class Settings:
    """All settings of a run, in the order in which they are parsed."""

    model: ModelArguments
    data: DataArguments
    training: MomoSeq2SeqTrainingArguments

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return Path(str(self.training.output_dir))


def needed_splits(settings: Settings) -> list[str]:
    """The splits that the run will use."""
    training = settings.training
    during = training.do_train and training.eval_strategy != "no"
    wanted = {"train": training.do_train, "validation": training.do_eval or during, "test": training.do_predict}
    splits = [split for split, needed in wanted.items() if needed]
    if not splits:
        raise UsageError("nothing to do: give --do_train, --do_eval or --do_predict, or a --config that does")
    return splits


def check_settings(settings: Settings) -> None:
    """Refuse what would fail only after the first epoch, and training over a finished run."""
    training, folder = settings.training, settings.folder
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output_dir {folder} is a file; give a folder")
    if training.do_train and (folder / RECORD_NAME).exists() and not settings.data.overwrite:
        raise UsageError(f"--output_dir {folder} holds a finished run; give another, or --overwrite")
    if sharding() == "FSDP" or training.fsdp:
        raise UsageError(
            "FSDP does not take translation models, whose encoder, decoder and output share their embeddings; launch "
            "with --config_file recipes/accelerate/ddp.yaml, deepspeed_zero2.yaml or deepspeed_zero3.yaml"
        )
    if training.world_size > 1 and getattr(training, "train_sampling_strategy", None) == "group_by_length":
        raise UsageError(
            f"--train_sampling_strategy {training.train_sampling_strategy} shuffles with a generator that dropout on "
            "each process moves differently, so several processes would not share out one order; take "
            "--max_tokens_per_batch"
        )
    best = (training.metric_for_best_model or "").removeprefix("eval_")
    if best in ("bleu", "chrf", TOKENIZED_BLEU) and not training.predict_with_generate:
        raise UsageError(f"--metric_for_best_model {best} needs translations; add --predict_with_generate")
    check_averaging(settings)
    if settings.data.early_stopping_patience is not None and not (best and training.load_best_model_at_end):
        raise UsageError(
            f"--early_stopping_patience {settings.data.early_stopping_patience} needs a score to watch; add "
            "--load_best_model_at_end --metric_for_best_model bleu --predict_with_generate, and equal --eval_strategy "
            "and --save_strategy"
        )
    # Pinned memory is for copies to a GPU; without one torch only warns about it.
    training.dataloader_pin_memory = training.dataloader_pin_memory and training.device.type == "cuda"
    if training.ddp_find_unused_parameters is None and settings.model.model_name_or_path is None:
        # These models use all parameters in every step; looking for unused ones costs a pass over the graph.
        training.ddp_find_unused_parameters = False
    if training.generation_max_length is None:
        training.generation_max_length = settings.data.max_target_length


def check_averaging(settings: Settings) -> None:
    """Refuse a mean of checkpoints that will not be there, or are not the ones that were asked for."""
    training, count = settings.training, settings.model.average_checkpoints
    if count is None or not training.do_train:
        return
    flag = f"--average_checkpoints {count}"
    if count < 1:
        raise UsageError(f"{flag} must be at least 1; leave it out for the weights at the end of the training")
    if training.save_strategy == "no":
        raise UsageError(f"{flag} needs checkpoints; add --save_strategy epoch, or steps with --save_steps")
    if training.save_total_limit is not None and training.save_total_limit < count:
        raise UsageError(f"{flag} needs more than --save_total_limit {training.save_total_limit} keeps")
    if training.load_best_model_at_end:
        raise UsageError(f"{flag} takes the last checkpoints and --load_best_model_at_end the best; choose one")
    if is_deepspeed_zero3_enabled():
        raise UsageError(f"{flag} reads whole models, which ZeRO-3 does not save; take deepspeed_zero2.yaml")
