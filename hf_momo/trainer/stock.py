"""``hf_momo.integrate()``: the stock Trainer, in scripts that know nothing of hf_momo, takes the optimizers' names.

It changes two modules of transformers, and ``integrate(undo=True)`` restores both.

``transformers.training_args``:

- the enum of optimizer names gets a member for each optimizer;
- a ``learning_rate``, beta or epsilon that was not given becomes the optimizer's own default.

``transformers.trainer``:

- ``Trainer.get_optimizer_cls_and_kwargs`` knows these names;
- ``Trainer.__init__`` and ``Trainer._inner_training_loop`` give a Trainer ``MomoTrainerMixin`` if it trains with MoMo.

A Trainer with another optimizer stays the stock Trainer, object and class.

A process beneath ``hf-momo run`` changes each module as soon as it is imported, while modules that import it are only
half loaded. So this file imports neither transformers nor the rest of ``hf_momo.trainer`` before one of their names is
needed.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.registry import get_optimizer_info, list_optimizers, unwrap_optimizer

if TYPE_CHECKING:
    from transformers import TrainingArguments
    from transformers.training_args import OptimizerNames

logger = logging.getLogger(__name__)

# Functions that undo the changes of each changed module, in the order of the changes.
_undo: dict[str, list[Callable[[], None]]] = {}


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
            for restore in reversed(_undo.popitem()[1]):
                restore()
    else:
        try:
            import_module("hf_momo.trainer.mixin")  # refuses unsupported releases of transformers and accelerate
        except ImportError as error:
            raise ImportError(
                f"hf_momo.integrate needs transformers and accelerate ({error}); install them with:"
                " pip install 'hf_momo[trainer]'"
            ) from error
        for module in _CHANGES:
            integrate_module(module)


def integrate_module(name: str) -> None:
    """Change one of the two modules of transformers, which must have been executed.

    Args:
        name: ``"transformers.training_args"`` or ``"transformers.trainer"``.
    """
    if name not in _undo:
        _undo[name] = [change() for change in _CHANGES[name]]


def optimizer_name(value: str) -> OptimizerNames:
    """Return the member of transformers' ``OptimizerNames`` for an optimizer of this package.

    Pickles of the members call this function, so ``training_args.bin`` loads where hf_momo is installed but was not
    imported. The member is added if it is missing.

    Args:
        value: One of ``list_optimizers()``.
    """
    from transformers.training_args import OptimizerNames

    if value not in OptimizerNames._value2member_map_:
        _extend_names()
    return OptimizerNames(value)


def _extend_names() -> Callable[[], None]:
    from transformers.training_args import OptimizerNames

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


def _own_defaults() -> Callable[[], None]:
    from transformers.training_args import TrainingArguments

    post_init = TrainingArguments.__post_init__

    @functools.wraps(post_init)
    def post_init_with_own_defaults(self: TrainingArguments) -> None:
        post_init(self)
        # A parser passes the default on as if the user had given it, but it passes the very object. Comparing identity
        # also covers classes that are made later with a default of their own, as TRL's are.
        name, fields = str(getattr(self.optim, "value", self.optim)), type(self).__dataclass_fields__
        if name not in list_optimizers():
            return
        stock = TrainingArguments.__dataclass_fields__
        for attribute, default in get_optimizer_info(name).trainer_defaults.items():
            # Betas that such a class has chosen are kept; its learning rate is one for AdamW.
            chosen = attribute != "learning_rate" and fields[attribute].default != stock[attribute].default
            if not chosen and getattr(self, attribute) is fields[attribute].default:
                setattr(self, attribute, default)
                if attribute == "learning_rate":
                    logger.warning(
                        "learning_rate was not given: %s caps its step at its own default %g", name, default
                    )

    TrainingArguments.__post_init__ = post_init_with_own_defaults  # type: ignore[method-assign]
    return lambda: setattr(TrainingArguments, "__post_init__", post_init)


def resolve_names(of_model: Any = None) -> Callable[[], None]:
    """Teach ``Trainer.get_optimizer_cls_and_kwargs`` the names of this package; return a function to undo it.

    Args:
        of_model: The model, for trainers that call the method without it.
    """
    from transformers.trainer import Trainer

    original = Trainer.__dict__["get_optimizer_cls_and_kwargs"]

    @functools.wraps(original.__func__)
    def get_optimizer_cls_and_kwargs(args: TrainingArguments, model: Any = None) -> Any:
        from hf_momo.trainer.arguments import is_momo, momo_cls_and_kwargs

        if is_momo(args.optim):
            return momo_cls_and_kwargs(args, of_model if model is None else model)
        return original.__func__(args, model)

    Trainer.get_optimizer_cls_and_kwargs = staticmethod(get_optimizer_cls_and_kwargs)  # type: ignore[method-assign]
    return lambda: setattr(Trainer, "get_optimizer_cls_and_kwargs", original)


def _mix_in(name: str, *, before: bool) -> Callable[[], None]:
    """Make a method of ``Trainer`` give the mixin to a Trainer that trains with MoMo, before or after it runs."""
    from transformers.trainer import Trainer

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
    from hf_momo.trainer.mixin import MomoTrainerMixin

    if not isinstance(trainer, MomoTrainerMixin) and _trains_with_momo(trainer):
        # Another class and not wrapped methods, so that the mixin comes before what the Trainer's own class overrides.
        own: Any = type(trainer)
        trainer.__class__ = _mixed(own)
        trainer.set_up_momo()


def _trains_with_momo(trainer: Any) -> bool:
    from hf_momo.trainer.arguments import is_momo

    cls, _ = trainer.optimizer_cls_and_kwargs or (None, None)
    made = unwrap_optimizer(trainer.optimizer)
    return is_momo(trainer.args.optim) or isinstance(made, MomoOptimizer) or _is_optimizer_cls(cls)


def _is_optimizer_cls(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, MomoOptimizer)


@functools.cache
def _mixed(cls: Any) -> Any:
    from hf_momo.trainer.mixin import MomoTrainerMixin

    return type(cls.__name__, (MomoTrainerMixin, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})


_CHANGES: dict[str, tuple[Callable[[], Callable[[], None]], ...]] = {
    "transformers.training_args": (_extend_names, _own_defaults),
    # The mixin in the constructor settles what a Trainer is made with; that in the loop what was chosen later, by a
    # search over hyperparameters or by args.set_optimizer.
    "transformers.trainer": (
        resolve_names,
        functools.partial(_mix_in, "__init__", before=False),
        functools.partial(_mix_in, "_inner_training_loop", before=True),
    ),
}
