"""``momo`` and ``momo_adam`` as names of the stock Trainer: ``hf_momo.integrate()``, for scripts that are not ours.

Four things are changed in transformers, each put back by ``integrate(undo=True)``: the enum of optimizer names has two
members more, the Trainer's table of optimizers two rows, a learning rate that was left out is known as such, and every
Trainer that is made has ``MomoTrainerMixin`` before its own class.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

from transformers import Trainer, TrainingArguments
from transformers import trainer as trainer_module
from transformers.training_args import OptimizerNames

from hf_momo.optimizers.registry import get_optimizer_info, list_optimizers
from hf_momo.trainer.mixin import MomoTrainerMixin, is_momo, momo_cls_and_kwargs

logger = logging.getLogger(__name__)

# What undoes the changes, in the order they were made; empty while nothing is changed.
_undo: list[Callable[[], None]] = []


class _LeftOut(float):
    """A learning rate that nobody gave: the default of an arguments class."""


def integrate(*, undo: bool = False) -> None:
    """Let the stock ``Trainer`` and its subclasses train with ``optim="momo"`` and ``optim="momo_adam"``.

    The names then behave as the built-in ones do: in ``TrainingArguments``, on the command line of
    ``HfArgumentParser`` (call this before a parser is built), in JSON and YAML, in ``training_args.bin``. Where no
    ``learning_rate`` is given it is the optimizer's own default. Doing it twice changes nothing.

    Args:
        undo: Leave transformers as it was instead. Trainers made in between keep working.

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
        _undo.extend([_extend_names(), _extend_table(), _mark_left_out_rates(), _mix_in()])


def optimizer_name(value: str) -> OptimizerNames:
    """The member of transformers' ``OptimizerNames`` for a name of this package, made if need be.

    Pickles of the members call this, so ``training_args.bin`` loads where hf_momo is installed but not imported.

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
        # By the enum's own reduction a process that has not extended the enum could not load it.
        member.__reduce_ex__ = functools.partial(_reduce, value)  # type: ignore[method-assign]
        OptimizerNames._member_names_.append(member._name_)
        OptimizerNames._member_map_[member._name_] = member
        OptimizerNames._value2member_map_[value] = member
        getattr(OptimizerNames, "_hashable_values_", []).append(value)  # from Python 3.13 on, what `in` looks at
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


def _extend_table() -> Callable[[], None]:
    """For those who ask the class: ``Trainer.get_optimizer_cls_and_kwargs(args)``."""
    table = getattr(trainer_module, "_OPTIMIZER_HANDLERS", None)
    if table is None:  # before transformers 5.2
        original = Trainer.__dict__["get_optimizer_cls_and_kwargs"]

        def get_optimizer_cls_and_kwargs(args: Any, model: Any = None) -> Any:
            return (momo_cls_and_kwargs if is_momo(args.optim) else original.__func__)(args, model)

        Trainer.get_optimizer_cls_and_kwargs = staticmethod(  # type: ignore[method-assign]
            functools.wraps(original.__func__)(get_optimizer_cls_and_kwargs)
        )
        return lambda: setattr(Trainer, "get_optimizer_cls_and_kwargs", original)

    for name in list_optimizers():
        table[name] = lambda context: momo_cls_and_kwargs(context.args, context.model)

    def undo() -> None:
        for name in list_optimizers():
            table.pop(name, None)

    return undo


def _mark_left_out_rates() -> Callable[[], None]:
    """A parser passes the default on as if it were given, so the default itself is marked."""
    fields: dict[int, tuple[Any, float]] = {}
    inits: list[tuple[Any, Any]] = []
    for arguments_class in _with_subclasses(TrainingArguments):
        field = arguments_class.__dataclass_fields__["learning_rate"]
        if isinstance(field.default, float) and not isinstance(field.default, _LeftOut):
            fields[id(field)] = (field, field.default)
            field.default = _LeftOut(field.default)
        init: Any = arguments_class.__dict__.get("__init__")
        names = [each.name for each in dataclasses.fields(arguments_class) if each.init]
        if getattr(init, "__defaults__", None) and len(init.__defaults__) <= len(names):
            inits.append((init, init.__defaults__))
            of_names = names[len(names) - len(init.__defaults__) :]
            init.__defaults__ = tuple(
                field.default if name == "learning_rate" else value
                for name, value in zip(of_names, init.__defaults__, strict=True)
            )
    post_init = TrainingArguments.__post_init__

    @functools.wraps(post_init)
    def resolving_post_init(self: TrainingArguments) -> None:
        post_init(self)
        if isinstance(self.learning_rate, _LeftOut):
            self.learning_rate = float(self.learning_rate)
            name = str(getattr(self.optim, "value", self.optim))
            if is_momo(name):
                self.learning_rate = get_optimizer_info(name).defaults["lr"]
                logger.warning(
                    "learning_rate was not given: %s takes its own default %g as the cap on its step",
                    name,
                    self.learning_rate,
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


@functools.cache
def _mixed(cls: Any) -> Any:
    return type(cls.__name__, (MomoTrainerMixin, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def _mix_in() -> Callable[[], None]:
    """A Trainer becomes one with the mixin first, so that what its own class overrides stays."""
    init = Trainer.__init__

    @functools.wraps(init)
    def mixing_init(self: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(self, MomoTrainerMixin):
            init(self, *args, **kwargs)
            return
        own: Any = type(self)
        self.__class__ = _mixed(own)
        init(self, *args, **kwargs)
        self.set_up_momo()

    Trainer.__init__ = mixing_init  # type: ignore[method-assign]
    return lambda: setattr(Trainer, "__init__", init)
