"""All settings of a run of the translation recipe, and their checks."""

from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from common.processes import sharding
from common.runs import RunSettings, check_run
from hf_momo import MomoSeq2SeqTrainingArguments
from hf_momo.utils.errors import UsageError
from machine_translation.arguments import DataArguments, ModelArguments
from machine_translation.card import TOKENIZED_BLEU

Settings = RunSettings[ModelArguments, DataArguments, MomoSeq2SeqTrainingArguments]


def needed_splits(settings: Settings) -> list[str]:
    """Return the splits that the run uses."""
    training = settings.training
    during = training.do_train and training.eval_strategy != "no"
    wanted = {"train": training.do_train, "validation": training.do_eval or during, "test": training.do_predict}
    splits = [split for split, needed in wanted.items() if needed]
    if not splits:
        raise UsageError("nothing to do: give --do_train, --do_eval or --do_predict, or a --config that does")
    return splits


def check_settings(settings: Settings) -> None:
    """Check what would otherwise fail after the first epoch, and set what the recipe needs."""
    training = settings.training
    check_run(settings)
    if sharding() == "FSDP" or training.fsdp:
        raise UsageError(
            "FSDP does not support translation models, whose encoder, decoder and output share embeddings; launch "
            "with --config_file recipes/accelerate/ddp.yaml, deepspeed_zero2.yaml or deepspeed_zero3.yaml"
        )
    if training.world_size > 1 and getattr(training, "train_sampling_strategy", None) == "group_by_length":
        raise UsageError(
            f"--train_sampling_strategy {training.train_sampling_strategy} shuffles differently in each of several "
            "processes, because dropout uses the same random numbers; give --max_tokens_per_batch instead"
        )
    best = (training.metric_for_best_model or "").removeprefix("eval_")
    if best in ("bleu", "chrf", TOKENIZED_BLEU) and not training.predict_with_generate:
        raise UsageError(f"--metric_for_best_model {best} needs translations; add --predict_with_generate")
    check_averaging(settings)
    check_adapters(settings)
    if settings.data.early_stopping_patience is not None and not (best and training.load_best_model_at_end):
        raise UsageError(
            f"--early_stopping_patience {settings.data.early_stopping_patience} needs a score to watch; add "
            "--load_best_model_at_end --metric_for_best_model bleu --predict_with_generate, and equal --eval_strategy "
            "and --save_strategy"
        )
    if training.ddp_find_unused_parameters is None and settings.model.model_name_or_path is None:
        # These models use all parameters in every step; the search for unused ones costs a pass over the graph.
        training.ddp_find_unused_parameters = False
    if training.generation_max_length is None:
        training.generation_max_length = settings.data.max_target_length


def check_adapters(settings: Settings) -> None:
    """Check that there is a checkpoint to adapt, and that what is asked of the adapters can be done."""
    model = settings.model
    if not model.use_peft:
        if model.merge_adapters:
            raise UsageError("--merge_adapters needs adapters; add --use_peft")
        return
    if model.model_name_or_path is None:
        raise UsageError("--use_peft adapts a checkpoint; give --model_name_or_path")
    if model.average_checkpoints is not None:
        raise UsageError(
            f"--average_checkpoints {model.average_checkpoints} reads whole models, and the checkpoints of --use_peft "
            "hold adapters; leave one out"
        )
    if model.merge_adapters and is_deepspeed_zero3_enabled():
        raise UsageError(
            "--merge_adapters needs whole weights, which ZeRO-3 divides; launch with deepspeed_zero2.yaml"
        )


def check_averaging(settings: Settings) -> None:
    """Check that the checkpoints of ``--average_checkpoints`` will exist."""
    training, count = settings.training, settings.model.average_checkpoints
    if count is None or not training.do_train:
        return
    flag = f"--average_checkpoints {count}"
    if count < 1:
        raise UsageError(f"{flag} must be at least 1; without it the last weights are saved")
    if training.save_strategy == "no":
        raise UsageError(f"{flag} needs checkpoints; add --save_strategy epoch, or steps with --save_steps")
    if training.save_total_limit is not None and training.save_total_limit < count:
        raise UsageError(f"{flag} needs more than --save_total_limit {training.save_total_limit} keeps")
    if training.load_best_model_at_end:
        raise UsageError(f"{flag} averages the last checkpoints, --load_best_model_at_end loads the best; choose one")
    if is_deepspeed_zero3_enabled():
        raise UsageError(f"{flag} reads whole models, which ZeRO-3 does not save; launch with deepspeed_zero2.yaml")
