"""The checks of the settings before anything is read or trained."""

from pathlib import Path

from click_through.arguments import DataArguments, LoopArguments, ModelArguments
from click_through.criteo import CATEGORIES, check_readable
from click_through.optimizer import check_optimizer
from common.processes import sharding
from common.records import RECORD_NAME
from hf_momo.utils.errors import UsageError

_AT_LEAST_ONE = (
    *("num_train_epochs", "per_device_train_batch_size", "per_device_eval_batch_size"),
    *("gradient_accumulation_steps", "logging_steps", "save_total_limit"),
)
_AT_LEAST_ZERO = ("eval_steps", "save_steps", "warmup_steps", "max_grad_norm")


def check_settings(model: ModelArguments, data: DataArguments, args: LoopArguments) -> None:
    """Check the settings that would fail only later, and protect a finished run.

    Raises:
        UsageError: If a setting is invalid; the message names it, its value and what to do.
    """
    if not (args.do_train or args.do_eval or args.do_predict):
        raise UsageError("nothing to do: give --do_train, --do_eval or --do_predict, or a --config that does")
    if sharding():
        raise UsageError(f"{sharding()} is not supported here; launch with --config_file recipes/accelerate/ddp.yaml")
    _check_numbers(model, data, args)
    _check_folder(args)
    if not args.do_train and model.model_name_or_path is None:
        raise UsageError("a model from scratch needs --do_train; to evaluate a trained one give --model_name_or_path")
    check_optimizer(args)
    needed = {
        "train_files": (data.train_files, args.do_train, "--do_train"),
        "validation_files": (
            data.validation_files,
            args.do_eval or (args.do_train and args.eval_steps > 0),
            "--do_eval and --eval_steps",
        ),
        "test_files": (data.test_files, args.do_predict, "--do_predict"),
    }
    for name, (files, is_needed, reason) in needed.items():
        if is_needed and not files:
            raise UsageError(f"{reason} needs --{name}; give files of the Criteo log")
        if is_needed:
            check_readable(files)


def _check_numbers(model: ModelArguments, data: DataArguments, args: LoopArguments) -> None:
    for names, least in ((_AT_LEAST_ONE, 1), (_AT_LEAST_ZERO, 0)):
        for name in names:
            if getattr(args, name) < least:
                raise UsageError(f"--{name} {getattr(args, name)}: must be {least} or more")
    for name in ("max_train_rows", "max_eval_rows"):
        value = getattr(data, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value}: must be 1 or more; leave it out to use all rows")
    if data.shuffle_buffer < 0:
        raise UsageError(f"--shuffle_buffer {data.shuffle_buffer}: must be 0 or more")
    if args.max_steps == 0 or args.max_steps < -1:
        raise UsageError(f"--max_steps {args.max_steps}: must be 1 or more, or -1 for all epochs")
    if args.dataloader_num_workers not in (0, 1):
        raise UsageError(f"--dataloader_num_workers {args.dataloader_num_workers}: the log is one stream; give 0 or 1")
    if len(model.hash_sizes) not in (1, CATEGORIES) or min(model.hash_sizes) < 1:
        raise UsageError(f"--hash_sizes {model.hash_sizes}: must be one or {CATEGORIES} numbers of 1 or more")
    widths = [model.embedding_size, *model.bottom_hidden_sizes, *model.top_hidden_sizes]
    if min(widths) < 1:
        raise UsageError(
            f"--embedding_size, --bottom_hidden_sizes, --top_hidden_sizes: got {min(widths)}, must be 1 or more"
        )


def _check_folder(args: LoopArguments) -> None:
    if not args.output_dir:
        raise UsageError("--output_dir is not set; give a folder for the results")
    folder = Path(args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output_dir {folder} is a file; give a folder")
    if args.do_train and (folder / RECORD_NAME).exists() and not args.overwrite:
        raise UsageError(f"--output_dir {folder} holds a finished run; give another, or --overwrite")
