"""The Trainer's own optimizers as bases of the wrapper, made as the Trainer makes them."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from transformers import Trainer, TrainingArguments
from transformers.training_args import OptimizerNames

from hf_momo.optimizers.base import MomoOptimizer
from hf_momo.optimizers.registry import OptimizerInfo, list_optimizers, wrapper_cls

_IN_BACKWARD = ("updates the weights during backward, layer by layer, before the loss is known to the optimizer", "")
_REFUSED = {
    "layerwise": _IN_BACKWARD,
    "lomo": _IN_BACKWARD,
    "schedule_free": (
        "takes its gradient at another point than the weights that it reports the loss of, so loss, gradient and"
        " weights belong to no one model",
        " It needs no schedule of its own: use it without MoMo",
    ),
}


def check_base_name(name: str) -> None:
    """Check the ``base`` of ``optim_args``.

    Raises:
        ValueError: If it is none of the Trainer's optimizers, or one whose step cannot be scaled.
    """
    known = [member.value for member in OptimizerNames if member.value not in list_optimizers()]
    if name in list_optimizers():
        raise ValueError(f"optim_args: got base={name}, which has MoMo's step size already; use --optim {name}")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f", must be one of {', '.join(known)}"
        raise ValueError(f"optim_args: got base={name}{hint}")
    for part, (reason, advice) in _REFUSED.items():
        if part in name:
            raise ValueError(f"optim_args: got base={name}, which {reason}.{advice}")


def wrapped_cls_and_kwargs(
    info: OptimizerInfo, args: TrainingArguments, model: Any, options: Mapping[str, Any]
) -> tuple[type[MomoOptimizer], dict[str, Any]]:
    """Return the wrapper around one of the Trainer's optimizers, as a class, and its arguments beside the parameters.

    Args:
        info: The wrapper's row of the registry.
        args: Training arguments.
        model: The model; some bases choose parameters from it.
        options: What ``optim_args`` holds: ``base``, options of the wrapper, and the base's own as strings.

    Raises:
        ValueError: If neither the Trainer nor the class of the base takes one of the base's own options.
    """
    own_names = info.defaults
    own = {name: value for name, value in options.items() if name in own_names}
    rest = {name.removeprefix("base."): value for name, value in options.items() if name not in (*own_names, "base")}
    base, made = options["base"], {}
    cls, kwargs = _stock(args, model, base, rest)
    accepted = inspect.signature(cls).parameters
    for name, value in rest.items():
        if isinstance(kwargs.get(name), str) and name in accepted:
            # Some of the Trainer's own arguments go to the optimizer as the text that they were given as.
            made[name] = _typed(name, value, accepted[name].default)
        if name in kwargs or _is_read(args, model, base, rest, name):
            continue
        if name not in accepted or name == "lr":
            takes = ", ".join(each for each in list(accepted)[1:] if each not in ("args", "kwargs", "lr"))
            raise ValueError(
                f"optim_args: neither {info.name} nor its base {base} has an option {name!r}; {info.name} has base,"
                f" {', '.join(each for each in own_names if each != 'process_group')}, and {cls.__name__} has {takes}"
            )
        made[name] = _typed(name, value, accepted[name].default)
    return wrapper_cls(cls), {**kwargs, **made, "momo": own}


def _stock(args: TrainingArguments, model: Any, base: str, options: Mapping[str, str]) -> tuple[Any, dict[str, Any]]:
    """Return the class and the arguments that the Trainer makes the base from."""
    stock = copy.copy(args)
    stock.optim = OptimizerNames(base)
    stock.optim_args = ",".join(f"{name}={value}" for name, value in options.items()) or None
    cls, kwargs = Trainer.get_optimizer_cls_and_kwargs(stock, model)
    return cls, kwargs


def _is_read(args: TrainingArguments, model: Any, base: str, options: dict[str, str], name: str) -> bool:
    """Return whether the Trainer makes another optimizer, or none, where the option has another value."""
    flipped = {"true": "false", "false": "true"}.get(options[name].lower(), "9" + options[name])
    try:
        return _shown(_stock(args, model, base, {**options, name: flipped})) != _shown(
            _stock(args, model, base, options)
        )
    except (ValueError, TypeError, AttributeError, KeyError):
        return True


def _shown(made: tuple[Any, dict[str, Any]]) -> str:
    groups = [{k: v for k, v in each.items() if k != "params"} for each in made[1].get("params", [])]
    return repr((made[0], {k: v for k, v in made[1].items() if k not in ("params", "model")}, groups))


def _typed(name: str, value: str, default: Any) -> Any:
    """Return a value of the command line in the type of the argument's default."""
    if value.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[value.lower()]
    if isinstance(default, str):
        return value
    try:
        # torch writes the default 0 of a float, such as SGD's momentum, without a point.
        return int(value) if type(default) is int and value.lstrip("-").isdigit() else float(value)
    except ValueError:
        raise ValueError(f"optim_args: got {name}={value}, must be a number") from None
