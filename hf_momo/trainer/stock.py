"""``hf_momo.integrate()``: the stock Trainer, in scripts that know nothing of hf_momo, takes the optimizers' names.

It changes five things in transformers, and ``integrate(undo=True)`` restores all of them:

- the enum of optimizer names gets a member for each optimizer;
- ``Trainer.get_optimizer_cls_and_kwargs`` knows these names;
- a ``learning_rate``, beta or epsilon that was not given is recognised as such;
- ``Trainer.__init__`` and ``Trainer._inner_training_loop`` give a Trainer ``MomoTrainerMixin`` if it trains with MoMo.

A Trainer with another optimizer stays the stock Trainer, object and class.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

from transformers import Trainer, TrainingArguments
from transformers.training_args import OptimizerNames

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.registry import list_optimizers, unwrap_optimizer
from hf_momo.trainer.arguments import OPTIMIZER_ARGUMENTS, is_momo, optimizer_name_of, own_default
from hf_momo.trainer.mixin import MomoTrainerMixin, resolve_names

logger = logging.getLogger(__name__)

# Functions that undo the changes, in the order of the changes. Empty while nothing is changed.
_undo: list[Callable[[], None]] = []


class _Unset(float):
    """The default of a class of arguments, as opposed to an equal value that the user gave."""


def integrate(*, undo: bool = False) -> None:
    """Let the stock ``Trainer`` and its subclasses train with the optimizers of this package.

    The names then work like the built-in ones: in ``TrainingArguments``, on the command line of ``HfArgumentParser``
    (call this function before a parser is built), in JSON and YAML, and in ``training_args.bin``. ``learning_rate``,
    betas and epsilon default to the optimizer's own defaults. Calling it twice has no further effect.

    A Trainer that trains with MoMo gets ``MomoTrainerMixin``: the loss, the logs and the loss scale. Model cards,
    checkpoints and pushing stay those of the script's Trainer. A Trainer with another optimizer is not changed.

    Args:
        undo: Restore transformers instead. Trainers made in between keep working.

    Example:
        >>> import hf_momo
        >>> from transformers import TrainingArguments
        >>> hf_momo.integrate()
        >>> TrainingArguments("out", optim="momo_adam", use_cpu=True).learning_rate
        0.01
        >>> hf_momo.integrate(undo=True)
    """
    if undo:
        while _undo:
            _undo.pop()()
    elif not _undo:
        _undo.extend(
            [
                _extend_names(),
                resolve_names(),
                _mark_unset_arguments(),
                # The first settles what a Trainer is made with; the second what was chosen later, by a search over
                # hyperparameters or by args.set_optimizer.
                _mix_in("__init__", before=False),
                _mix_in("_inner_training_loop", before=True),
            ]
        )


def optimizer_name(value: str) -> OptimizerNames:
    """Return the member of transformers' ``OptimizerNames`` for an optimizer of this package.

    Pickles of the members call this function, so ``training_args.bin`` loads where hf_momo is installed but was not
    imported. The member is added if it is missing.

    Args:
        value: One of ``list_optimizers()``.
    """
    if value not in OptimizerNames._value2member_map_:
        _extend_names()
    return OptimizerNames(value)


def _extend_names() -> Callable[[], None]:
    added = [value for value in list_optimizers() if value not in OptimizerNames._value2member_map_]
    for value in added:
        member = str.__new__(OptimizerNames, value)
        member._name_, member._value_ = value.upper(), value
        member._sort_order_ = len(OptimizerNames._member_names_)  # type: ignore[attr-defined]
        # With the enum's own reduction, a process that has not extended the enum could not load the member.
        member.__reduce_ex__ = functools.partial(_reduce, value)  # type: ignore[method-assign]
        OptimizerNames._member_names_.append(member._name_)
        OptimizerNames._member_map_[member._name_] = member
        OptimizerNames._value2member_map_[value] = member
        getattr(OptimizerNames, "_hashable_values_", []).append(value)  # read by `in` from Python 3.13 on
        type.__setattr__(OptimizerNames, member._name_, member)

    def undo() -> None:
        for value in list_optimizers():
            name = value.upper()
            if name in OptimizerNames._member_map_:
                OptimizerNames._member_names_.remove(name)
                del OptimizerNames._member_map_[name], OptimizerNames._value2member_map_[value]
                if value in getattr(OptimizerNames, "_hashable_values_", []):
                    OptimizerNames._hashable_values_.remove(value)  # type: ignore[attr-defined]
                type.__delattr__(OptimizerNames, name)

    return undo


def _reduce(value: str, protocol: Any) -> tuple[Any, tuple[str]]:
    return optimizer_name, (value,)


def _mark_unset_arguments() -> Callable[[], None]:
    # A parser passes the default on as if the user had given it, so the default itself is marked.
    fields: dict[int, tuple[Any, float]] = {}
    inits: list[tuple[Any, Any]] = []
    for arguments_class in _with_subclasses(TrainingArguments):
        marked = {name: arguments_class.__dataclass_fields__[name] for name in OPTIMIZER_ARGUMENTS}
        for field in marked.values():
            if isinstance(field.default, float) and not isinstance(field.default, _Unset):
                fields[id(field)] = (field, field.default)
                field.default = _Unset(field.default)
        init: Any = arguments_class.__dict__.get("__init__")
        names = [each.name for each in dataclasses.fields(arguments_class) if each.init]
        if getattr(init, "__defaults__", None) and len(init.__defaults__) <= len(names):
            inits.append((init, init.__defaults__))
            of_names = names[len(names) - len(init.__defaults__) :]
            init.__defaults__ = tuple(
                marked[name].default if name in marked else value
                for name, value in zip(of_names, init.__defaults__, strict=True)
            )
    post_init = TrainingArguments.__post_init__

    @functools.wraps(post_init)
    def resolving_post_init(self: TrainingArguments) -> None:
        post_init(self)
        name = optimizer_name_of(self.optim)
        unset = {each: getattr(self, each) for each in OPTIMIZER_ARGUMENTS}
        for attribute, value in unset.items():
            if isinstance(value, _Unset):
                setattr(self, attribute, own_default(name, attribute, float(value)) if is_momo(name) else float(value))
        if isinstance(unset["learning_rate"], _Unset) and is_momo(name):
            logger.warning(
                "learning_rate was not given: %s caps its step at its own default %g", name, self.learning_rate
            )

    TrainingArguments.__post_init__ = resolving_post_init  # type: ignore[method-assign]

    def undo() -> None:
        TrainingArguments.__post_init__ = post_init  # type: ignore[method-assign]
        for field, default in fields.values():
            field.default = default
        for init, defaults in inits:
            init.__defaults__ = defaults

    return undo


def _with_subclasses(cls: Any) -> Iterator[Any]:
    yield cls
    for subclass in cls.__subclasses__():
        yield from _with_subclasses(subclass)


def _mix_in(name: str, *, before: bool) -> Callable[[], None]:
    """Make a method of ``Trainer`` give the mixin to a Trainer that trains with MoMo, before or after it runs."""
    original = getattr(Trainer, name)

    @functools.wraps(original)
    def mixing(self: Any, *args: Any, **kwargs: Any) -> Any:
        if before:
            _use_mixin_for_momo(self)
        result = original(self, *args, **kwargs)
        if not before:
            _use_mixin_for_momo(self)
        return result

    setattr(Trainer, name, mixing)
    return lambda: setattr(Trainer, name, original)


def _use_mixin_for_momo(trainer: Any) -> None:
    if not isinstance(trainer, MomoTrainerMixin) and _trains_with_momo(trainer):
        # Another class and not wrapped methods, so that the mixin comes before what the Trainer's own class overrides.
        own: Any = type(trainer)
        trainer.__class__ = _mixed(own)
        trainer.set_up_momo()


def _trains_with_momo(trainer: Any) -> bool:
    cls, _ = trainer.optimizer_cls_and_kwargs or (None, None)
    made = unwrap_optimizer(trainer.optimizer)
    return is_momo(trainer.args.optim) or isinstance(made, MomoOptimizer) or _is_optimizer_cls(cls)


def _is_optimizer_cls(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, MomoOptimizer)


@functools.cache
def _mixed(cls: Any) -> Any:
    return type(cls.__name__, (MomoTrainerMixin, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})
