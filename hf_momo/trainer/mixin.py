"""The Hugging Face Trainer with MoMo: ``optim="momo"`` and ``optim="momo_adam"``.

``MomoTrainerMixin`` goes before any Trainer class; ``MomoTrainer`` and ``MomoSeq2SeqTrainer`` are it on the stock
ones.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainerCallback, TrainingArguments
from transformers.training_args import OptimizerNames

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.registry import get_optimizer_info, list_optimizers, parse_optim_args, unwrap_optimizer
from hf_momo.tap.accelerator import connect, tap_accelerator
from hf_momo.tap.factory import warn_that_all_decay
from hf_momo.tap.loss_tap import LossTap
from hf_momo.trainer.cards import CardMixin
from hf_momo.trainer.checkpoints import CheckpointMixin
from hf_momo.trainer.losses import automatic_lower_bound, correct_loss_scale
from hf_momo.trainer.pushing import HubMixin
from hf_momo.utils.versions import check_version

check_version("transformers")
check_version("accelerate")

if TYPE_CHECKING:
    _TrainerBase = Trainer
    _ArgumentsBase = TrainingArguments
else:
    _TrainerBase = _ArgumentsBase = object

logger = logging.getLogger(__name__)

_COUNTS = attrgetter("num_steps", "capped_steps", "skipped_steps")
_STOCK_LEARNING_RATE = 5e-5
_STOCK_OPTIMIZERS = [member.value for member in OptimizerNames]


def is_momo(optim: Any) -> bool:
    """Whether training arguments' ``optim``, a string or an enum's member, names an optimizer of this package."""
    return str(getattr(optim, "value", optim)) in list_optimizers()


def _checked_name(optim: Any) -> str:
    name = str(getattr(optim, "value", optim))
    known = [*list_optimizers(), *_STOCK_OPTIMIZERS]
    if name not in known:
        raise ValueError(f"optim: got {name!r}, must be one of {', '.join(known)}")
    return name


_OPTIM_HELP = "The optimizer: momo, momo_adam, or any of the Trainer's own."
_LEARNING_RATE_HELP = (
    "Cap on the step size (momo, momo_adam) or the learning rate (others). Left out, the optimizer's own default:"
    " 1.0 for momo, 0.01 for momo_adam, the Trainer's (5e-5) for the others."
)


@dataclass(init=False)
class MomoArgumentsMixin(_ArgumentsBase):
    """Teaches any class of training arguments ``optim="momo"`` and ``optim="momo_adam"``.

    It comes first, and the class is a dataclass without fields of its own:

        @dataclass
        class MomoSFTConfig(MomoArgumentsMixin, SFTConfig):
            pass

    Differences from the other class: ``optim`` defaults to ``"momo_adam"``; ``learning_rate``, where none is given, is
    the chosen optimizer's own default; ``optim_args`` is checked at once.

    Raises:
        TypeError: If it does not come first, or the class is not decorated with ``@dataclass``.
    """

    optim: str = field(default="momo_adam", metadata={"help": _OPTIM_HELP})
    learning_rate: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": _LEARNING_RATE_HELP}
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if TrainingArguments in order and order.index(TrainingArguments) < order.index(MomoArgumentsMixin):
            raise TypeError(
                f"{cls.__name__}: MomoArgumentsMixin must come before the class that it extends:"
                f" class {cls.__name__}(MomoArgumentsMixin, {cls.__bases__[0].__name__})"
            )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # What @dataclass generates takes its place.
        name = type(self).__name__
        raise TypeError(f"{name}: decorate the class with @dataclass, which gives it the fields of MomoArgumentsMixin")

    def __post_init__(self) -> None:
        name = _checked_name(self.optim)
        ours = name in list_optimizers()
        given: float | None = self.learning_rate
        if given is None:
            default = get_optimizer_info(name).defaults["lr"] if ours else _extended_learning_rate(type(self))
            self.learning_rate = default
        if not ours:
            super().__post_init__()
            return
        parse_optim_args(name, self.optim_args)
        # The stock class accepts its own names only.
        self.optim = OptimizerNames.ADAMW_TORCH
        super().__post_init__()
        self.optim = name

    def set_optimizer(self, name: str = "momo_adam", *args: Any, **kwargs: Any) -> Any:
        """Set the optimizer's arguments, as the stock method does, with the names of this package too.

        Left out, the learning rate is the optimizer's own default.
        """
        name = _checked_name(name)
        if name not in list_optimizers():
            return super().set_optimizer(name, *args, **kwargs)
        if not args:
            kwargs.setdefault("learning_rate", get_optimizer_info(name).defaults["lr"])
        super().set_optimizer(OptimizerNames.ADAMW_TORCH, *args, **kwargs)
        parse_optim_args(name, self.optim_args)
        self.optim = name
        return self


def _extended_learning_rate(cls: type[MomoArgumentsMixin]) -> float:
    """Default of the class that the mixin extends."""
    others = (base for base in cls.__mro__ if not issubclass(base, MomoArgumentsMixin))
    fields = next(vars(base)["__dataclass_fields__"] for base in others if "__dataclass_fields__" in vars(base))
    return fields["learning_rate"].default  # type: ignore[no-any-return]


@dataclass
class MomoTrainingArguments(MomoArgumentsMixin, TrainingArguments):
    """``TrainingArguments`` that also take ``optim="momo"`` and ``optim="momo_adam"``.

    Differences from the stock class: ``optim`` defaults to ``"momo_adam"``; ``learning_rate``, where none is given, is
    the chosen optimizer's own default; ``optim_args`` is checked at once (``"lower_bound=auto"``,
    ``"adapt_lower_bound=true"``, ...). Momo's ``beta`` is set by ``optim_args``, MomoAdam's betas by ``adam_beta1``
    and ``adam_beta2``.
    """


@dataclass
class MomoSeq2SeqTrainingArguments(MomoArgumentsMixin, Seq2SeqTrainingArguments):
    """``Seq2SeqTrainingArguments`` with the same differences as ``MomoTrainingArguments``."""


class MomoTrainerMixin(CardMixin, CheckpointMixin, HubMixin, _TrainerBase):
    """Brings the loss to MoMo in any Trainer class: ``class MyTrainer(MomoTrainerMixin, SomeTrainer)``.

    Taps the loss where it is back-propagated, resolves ``momo`` and ``momo_adam``, and adds ``step_size``,
    ``lower_bound``, ``step_capped`` (share of the steps since the last log in which the cap was binding) and
    ``skipped_steps`` to the logs. With another optimizer it changes nothing but the loss of models named in
    ``correct_loss_scale``.
    """

    loss_tap: LossTap

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_up_momo()

    def set_up_momo(self) -> None:
        """What the constructor adds to that of the Trainer."""
        self._logged_counts = (0, 0, 0)
        self._stands_still = False
        self.add_callback(_WindowCallback(self))
        correct_loss_scale(self)
        self.set_up_hub()

    def create_accelerator_and_postprocess(self) -> None:
        """Create the accelerator as the Trainer does, and tap it."""
        super().create_accelerator_and_postprocess()
        if is_momo(self.args.optim):
            self.loss_tap = tap_accelerator(self.accelerator)

    @classmethod
    def get_optimizer_cls_and_kwargs(cls, args: Any, model: Any = None) -> tuple[Any, Any]:
        """Class and arguments of the optimizer that ``args`` name."""
        if not is_momo(args.optim):
            return super().get_optimizer_cls_and_kwargs(args, model)
        return momo_cls_and_kwargs(args, model)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Create the optimizer as the Trainer does, and attach the tap to it."""
        made_here = self.optimizer is None
        optimizer = super().create_optimizer(*args, **kwargs)
        inner = unwrap_optimizer(optimizer)
        if isinstance(inner, MomoOptimizer):
            if made_here and self.is_deepspeed_enabled:
                self._decay_all_alike(inner)
            self.loss_tap = connect(self.accelerator, inner)
        return optimizer

    def _mixed_mesh_grad_norm(self, model: Any, max_norm: float) -> Any:
        # With gradients on several device meshes (expert parallelism) the Trainer clips past the accelerator.
        norm = super()._mixed_mesh_grad_norm(model, max_norm)
        if isinstance(unwrap_optimizer(self.optimizer), MomoOptimizer) and not math.isinf(max_norm):
            self.loss_tap.record_clipping(norm, max_norm)
        return norm

    def _decay_all_alike(self, optimizer: MomoOptimizer) -> None:
        if self.args.weight_decay:
            warn_that_all_decay(self.args.weight_decay)
        for group in optimizer.param_groups:
            group["weight_decay"] = self.args.weight_decay

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, with what the optimizer did since the last training log."""
        optimizer = unwrap_optimizer(self.optimizer)
        if "loss" in logs and isinstance(optimizer, MomoOptimizer):
            last = optimizer.last_step
            before, self._logged_counts = self._logged_counts, _COUNTS(last)
            taken, capped, skipped = (new - old for new, old in zip(self._logged_counts, before, strict=True))
            self._warn_of_standstill(taken, skipped)
            logs["step_size"] = last.step_size[0]
            logs["lower_bound"] = last.lower_bound
            logs["step_capped"] = capped / taken if taken else 0.0
            logs["skipped_steps"] = last.skipped_steps
        super().log(logs, *args, **kwargs)

    def _warn_of_standstill(self, taken: int, skipped: int) -> None:
        # The Trainer puts the mean so far in the place of a loss that is not finite, and logs 0 where none was.
        stands_still = taken == 0 and skipped > 0
        if stands_still and not self._stands_still and self.is_world_process_zero():
            logger.warning(
                "skipped_steps: none of the %d step(s) since the last log was taken, because the loss, a gradient or a"
                " weight was not finite; the weights stay as they are until a batch with finite ones comes. With"
                " logging_nan_inf_filter=False and logging_steps=1 the logs show which batches; if all, look at the"
                " weights",
                skipped,
            )
        self._stands_still = stands_still

    def start_counting(self) -> None:
        """Let ``step_capped`` count from here: a resumed optimizer brings its counters with it."""
        optimizer = unwrap_optimizer(self.optimizer)
        if isinstance(optimizer, MomoOptimizer):
            self._logged_counts = _COUNTS(optimizer.last_step)


class MomoTrainer(MomoTrainerMixin, Trainer):
    """The stock ``Trainer`` with MoMo. Takes the stock arguments; see ``MomoTrainerMixin``."""


class MomoSeq2SeqTrainer(MomoTrainerMixin, Seq2SeqTrainer):
    """The stock ``Seq2SeqTrainer`` with MoMo. Takes the stock arguments; see ``MomoTrainerMixin``."""


class _WindowCallback(TrainerCallback):
    """Opens a window of the tap where the Trainer zeroes the gradients before it trains.

    A batch lost to an out-of-memory retry leaves a window that no step has closed. A step begun is no such place: at
    the end of a stream of unknown length the Trainer leaves the gradients of a started window to the next one.
    """

    def __init__(self, trainer: MomoTrainerMixin) -> None:
        self._trainer = trainer

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._trainer.start_counting()
        tap = getattr(self._trainer, "loss_tap", None)
        if tap is not None:
            tap.open_window()


def momo_cls_and_kwargs(args: TrainingArguments, model: Any = None) -> tuple[type[MomoOptimizer], dict[str, Any]]:
    """Class and arguments of ``momo`` or ``momo_adam`` as training arguments describe it.

    Args:
        args: Training arguments with ``optim`` one of ``list_optimizers()``.
        model: The model, needed for ``lower_bound=auto`` with label smoothing.
    """
    info = get_optimizer_info(str(getattr(args.optim, "value", args.optim)))
    options = {"lr": args.learning_rate, **parse_optim_args(info.name, args.optim_args)}
    if "betas" in info.defaults:
        options |= {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
    if options.get("lower_bound") == "auto":
        options["lower_bound"] = automatic_lower_bound(args.label_smoothing_factor, model)
        logger.info("lower_bound=auto: %.4f", options["lower_bound"])
    if args.learning_rate == _STOCK_LEARNING_RATE and not isinstance(args, MomoArgumentsMixin):
        logger.warning(
            "learning_rate is the Trainer's default 5e-5, which caps %s at steps far below what it would choose; pass"
            " --learning_rate %g (its own default), or use MomoTrainingArguments",
            info.name,
            info.defaults["lr"],
        )
    return info.optimizer_cls, options
