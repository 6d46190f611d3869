"""``MomoTrainerMixin``: the loss of any Trainer class reaches the optimizer."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from transformers import Trainer

from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.bounds import PilotBound
from hf_momo.optimizers.checks import check_sharded
from hf_momo.optimizers.registry import get_optimizer_info, unwrap_optimizer
from hf_momo.tap.accelerator import connect, tap_accelerator
from hf_momo.tap.factory import warn_that_all_decay
from hf_momo.tap.loss_tap import LossTap
from hf_momo.trainer.arguments import is_momo, optimizer_name_of, pilot_bound_of
from hf_momo.trainer.logs import StepLog
from hf_momo.trainer.losses import correct_loss_scale
from hf_momo.trainer.resume import Settings, restored_arguments, settings_of
from hf_momo.trainer.stock import resolve_names
from hf_momo.utils.versions import check_version

logger = logging.getLogger(__name__)

check_version("transformers")
check_version("accelerate")

if TYPE_CHECKING:
    _TrainerBase = Trainer
else:
    _TrainerBase = object


@contextmanager
def _known_names(of_model: Any = None) -> Iterator[None]:
    # In Trainer itself and not in the mixin, so that an extended class runs its own get_optimizer_cls_and_kwargs, and
    # finds our names beneath it, whether it calls super() or Trainer by name.
    undo = resolve_names(of_model)
    try:
        yield
    finally:
        undo()


class _ClassOrInstanceMethod:
    """Method of a class and of its instances: the Trainer's is static, while that of an extended class may be any."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __get__(self, instance: Any, owner: Any = None) -> Callable[..., Any]:
        return functools.partial(self._function, owner if instance is None else instance)


class MomoTrainerMixin(_TrainerBase):
    """Mixin that brings the loss to MoMo in any Trainer class: ``class MyTrainer(MomoTrainerMixin, SomeTrainer)``.

    It records the loss that is back-propagated, resolves the names of this package in ``optim``, and adds to the logs:
    ``step_size``, ``lower_bound``, ``step_capped`` (share of the steps since the last log at which the cap was
    binding), ``skipped_steps`` and ``zero_steps``. With other optimizers it changes nothing except the loss of the
    models described in ``correct_loss_scale``.

    With ``lower_bound_in_outputs = True`` in its class, a Trainer gives a lower bound with each batch: its
    ``compute_loss`` returns outputs with an entry ``lower_bound``, in units of the loss that it returns::

        class Distillation(MomoSeq2SeqTrainer):
            lower_bound_in_outputs = True

            def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
                loss, outputs = super().compute_loss(model, dict(inputs), return_outputs=True, **kwargs)
                if model.training:
                    with torch.no_grad():
                        outputs["lower_bound"] = super().compute_loss(self.teacher, dict(inputs), **kwargs)
                return (loss, outputs) if return_outputs else loss

    Attributes:
        lower_bound_in_outputs: Whether ``compute_loss`` returns the lower bound of each batch in its outputs.
        loss_tap: The tap on the accelerator.
        pilot_bound: The lower bound that ``optim_args`` takes from another run (``lower_bound=from=RUN``).
        restored_arguments: Training arguments that a resumed checkpoint overrode, with the values in use.
    """

    lower_bound_in_outputs: ClassVar[bool] = False
    loss_tap: LossTap
    pilot_bound: PilotBound | None = None
    restored_arguments: Mapping[str, Any] = MappingProxyType({})

    # Not set by the constructor: an extended class may make its optimizer in its own.
    _given_settings: Settings = ()

    @functools.cached_property
    def _step_log(self) -> StepLog:
        return StepLog()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_up_momo()

    def set_up_momo(self) -> None:
        """Do what the mixin's constructor adds to the Trainer's."""
        if is_momo(self.args.optim):
            # Not only in create_optimizer: an unsupported backend is refused before the data are prepared.
            self.loss_tap = tap_accelerator(self.accelerator)
            assert self.loss_tap.backend is not None
            optimizer_cls = get_optimizer_info(optimizer_name_of(self.args.optim)).optimizer_cls
            check_sharded(optimizer_cls, self.loss_tap.backend.shards_plain_tensors)
        correct_loss_scale(self)

    def _get_optimizer_cls_and_kwargs(self_or_cls: Any, *args: Any, **kwargs: Any) -> Any:
        with _known_names(getattr(self_or_cls, "model", None)):
            return super().get_optimizer_cls_and_kwargs(*args, **kwargs)

    get_optimizer_cls_and_kwargs: Any = _ClassOrInstanceMethod(_get_optimizer_cls_and_kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Create the optimizer as the Trainer does, and connect it to the accelerator.

        The Trainer calls this at the beginning of every training, also where the optimizer exists already.
        """
        made_here = self.optimizer is None
        if made_here and is_momo(self.args.optim):
            self._take_bound_from_pilot()
        with _known_names(self.model):
            optimizer = super().create_optimizer(*args, **kwargs)
        inner = unwrap_optimizer(optimizer)
        if isinstance(inner, MomoOptimizer):
            if made_here and self.is_deepspeed_enabled:
                self._decay_all_alike(inner)
            self.loss_tap = connect(self.accelerator, inner)
            # A batch lost to an out-of-memory retry leaves a window that no step has closed.
            self.loss_tap.open_window()
            self._step_log.restart(inner)
            self._given_settings = settings_of(inner)
        return optimizer

    def _take_bound_from_pilot(self) -> None:
        self.pilot_bound = pilot_bound_of(self.args)
        if self.pilot_bound is not None and self.is_world_process_zero():
            logger.warning("lower_bound is %g: %s", self.pilot_bound.value, self.pilot_bound)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        optimizer = unwrap_optimizer(self.optimizer)
        if checkpoint is not None and isinstance(optimizer, MomoOptimizer):
            self._step_log.restart(optimizer)
            self.restored_arguments = restored_arguments(self.args, self._given_settings, optimizer)
            if self.pilot_bound is not None and self.pilot_bound.value != settings_of(optimizer)[0]["lower_bound"]:
                # The checkpoint has replaced it, with a warning.
                self.pilot_bound = None

    def _mixed_mesh_grad_norm(self, model: Any, max_norm: float) -> Any:
        # With gradients on several device meshes (expert parallelism) the Trainer does not clip with the accelerator.
        norm = super()._mixed_mesh_grad_norm(model, max_norm)
        if isinstance(unwrap_optimizer(self.optimizer), MomoOptimizer) and not math.isinf(max_norm):
            self.loss_tap.record_clipping(norm, max_norm)
        return norm

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Take a training step as the Trainer does, and read the bound of the batch from the outputs."""
        if not (self.lower_bound_in_outputs and isinstance(unwrap_optimizer(self.optimizer), MomoOptimizer)):
            return super().training_step(*args, **kwargs)
        # On the instance and not in the mixin, whose method an extended class has replaced by its own.
        self.compute_loss = functools.partial(self._bounded_loss, self.compute_loss)  # type: ignore[method-assign]
        try:
            return super().training_step(*args, **kwargs)
        finally:
            del self.compute_loss

    def _bounded_loss(self, compute_loss: Any, *args: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        loss, outputs = compute_loss(*args, return_outputs=True, **kwargs)
        bound = outputs.get("lower_bound") if isinstance(outputs, Mapping) else None
        if bound is None:
            raise ValueError(
                "lower_bound_in_outputs: the outputs of compute_loss have no entry 'lower_bound'; return it, or leave"
                " lower_bound_in_outputs False in the class of the Trainer"
            )
        self.loss_tap.announced_bound.announce(bound, loss)
        return (loss, outputs) if return_outputs else loss

    def _decay_all_alike(self, optimizer: MomoOptimizer) -> None:
        if self.args.weight_decay:
            warn_that_all_decay(self.args.weight_decay)
        for group in optimizer.param_groups:
            group["weight_decay"] = self.args.weight_decay

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log as the Trainer does, with the optimizer's steps since the last training log."""
        optimizer = unwrap_optimizer(self.optimizer)
        if "loss" in logs and isinstance(optimizer, MomoOptimizer):
            logs |= self._step_log.entries(optimizer, warn=self.is_world_process_zero())
        # The summary at the end of training.
        if "train_runtime" in logs and isinstance(optimizer, MomoOptimizer) and self.is_world_process_zero():
            self._step_log.warn_of_useless_bound(optimizer)
        super().log(logs, *args, **kwargs)
