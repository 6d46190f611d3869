"""The optimizer and the schedule of the loop, by name."""

from typing import Any

import torch
from accelerate import Accelerator
from transformers import SchedulerType, get_scheduler

from click_through.arguments import LoopArguments
from hf_momo import create_optimizer, get_optimizer_info, list_optimizers
from hf_momo.optimizers.registry import parse_optim_args
from hf_momo.tap.factory import weight_decay_groups
from hf_momo.utils.errors import UsageError

_OTHERS: dict[str, Any] = {"adamw_torch": torch.optim.AdamW, "sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}
# The wrapper takes its base from the Trainer's own optimizers, which this loop has not.
_MOMO = [name for name in list_optimizers() if not get_optimizer_info(name).takes_base]
# Schedules without an end.
_ENDLESS = (SchedulerType.CONSTANT, SchedulerType.CONSTANT_WITH_WARMUP, SchedulerType.INVERSE_SQRT)
_ENDING = (SchedulerType.LINEAR, SchedulerType.COSINE)


def check_optimizer(args: LoopArguments) -> None:
    """Check names and options, and fill in the learning rate.

    Raises:
        UsageError: If a setting is invalid; the message names it, its value and what is legal.
    """
    known = [*_MOMO, *_OTHERS]
    if args.optim not in known:
        raise UsageError(f"--optim {args.optim}: must be one of {', '.join(known)}")
    if args.optim_args and args.optim in _OTHERS:
        raise UsageError(f"--optim_args {args.optim_args}: only for {', '.join(_MOMO)}, not {args.optim}")
    schedules = [each.value for each in (*_ENDLESS, *_ENDING)]
    if args.lr_scheduler_type not in schedules:
        raise UsageError(f"--lr_scheduler_type {args.lr_scheduler_type}: must be one of {', '.join(schedules)}")
    if args.lr_scheduler_type in [each.value for each in _ENDING] and args.max_steps < 0:
        raise UsageError(
            f"--lr_scheduler_type {args.lr_scheduler_type} needs the number of steps, which a stream does not "
            "tell; give --max_steps, or use constant, constant_with_warmup or inverse_sqrt"
        )
    if args.lr_scheduler_type == SchedulerType.CONSTANT.value and args.warmup_steps:
        raise UsageError(
            f"--warmup_steps {args.warmup_steps}: --lr_scheduler_type constant has none; use constant_with_warmup"
        )
    try:
        if args.learning_rate is None:
            args.learning_rate = _default_learning_rate(args.optim)
        # A model of one layer: the options are checked before the real model is created.
        make_optimizer(args, torch.nn.Linear(1, 1), None)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--optim {args.optim}: {error}") from error


def make_optimizer(args: LoopArguments, model: Any, accelerator: Accelerator | None) -> torch.optim.Optimizer:
    """Return the optimizer; one of MoMo is connected to the accelerator, whose ``backward`` hands it the loss.

    Args:
        args: The settings of the loop.
        model: The model to train, not yet prepared.
        accelerator: The accelerator of the loop; ``None`` only to check the options.
    """
    adam = {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
    options: dict[str, Any] = {"lr": args.learning_rate, "weight_decay": args.weight_decay}
    if args.optim in _MOMO:
        options |= parse_optim_args(args.optim, args.optim_args)
        if options.get("lower_bound") == "auto":
            options["lower_bound"] = 0.0  # no label smoothing here
        defaults = get_optimizer_info(args.optim).defaults
        options |= {name: value for name, value in adam.items() if name in defaults}
        return create_optimizer(args.optim, model, accelerator=accelerator, **options)
    if args.optim == "adamw_torch":
        options |= adam
    if args.optim == "sgd":
        options |= {"momentum": args.sgd_momentum, "dampening": args.sgd_dampening}
    optimizer: torch.optim.Optimizer = _OTHERS[args.optim](weight_decay_groups(model, args.weight_decay), **options)
    return optimizer


def make_schedule(args: LoopArguments, optimizer: torch.optim.Optimizer) -> Any:
    """Return the schedule of the learning rate, which is MoMo's cap."""
    return get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=args.warmup_steps,
        num_training_steps=args.max_steps if args.max_steps >= 0 else None,
    )


def _default_learning_rate(optim: str) -> float:
    if optim in _MOMO:
        return float(get_optimizer_info(optim).defaults["lr"])
    parameter = torch.nn.Parameter(torch.zeros(1))
    return float(_OTHERS[optim]([parameter]).defaults["lr"])
