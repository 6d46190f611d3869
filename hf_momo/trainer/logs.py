"""Log entries about the steps of an optimizer, and warnings where it does not train."""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

from hf_momo.optimizers import LastStep, MomoOptimizer

logger = logging.getLogger(__name__)


_UPHILL = (
    "zero_steps: all {} step(s) since the last log had step size 0, because the update of the base optimizer leads up"
    " in the model of the loss. The model averages gradients with the weight beta: set beta to the base's momentum,"
    " use a smaller weight_decay if the base adds it to its gradients, or use the base without MoMo"
)


class _Counts(NamedTuple):
    taken: int = 0
    capped: int = 0
    skipped: int = 0
    zero: int = 0

    @classmethod
    def of(cls, last: LastStep) -> _Counts:
        return cls(last.num_steps, last.capped_steps, last.skipped_steps, last.zero_steps)


class StepLog:
    """The counters of an optimizer at the last log, from which the next log takes what happened since."""

    def __init__(self) -> None:
        self._logged = _Counts()
        self._standstill: str | None = None

    def restart(self, optimizer: MomoOptimizer) -> None:
        """Count from here on. A resumed optimizer brings its counters with it."""
        self._logged = _Counts.of(optimizer.last_step)

    def entries(self, optimizer: MomoOptimizer, *, warn: bool) -> dict[str, float]:
        """Return the entries for a training log.

        Args:
            optimizer: The optimizer that took the steps.
            warn: Whether this process warns where no step since the last log moved the weights.
        """
        last = optimizer.last_step
        counts = _Counts.of(last)
        since = _Counts(*(new - old for new, old in zip(counts, self._logged, strict=True)))
        self._logged = counts
        standstill = _standstill(optimizer, last, since)
        if warn and standstill is not None and self._standstill is None:
            logger.warning(standstill)
        self._standstill = standstill
        return {
            "step_size": last.step_size[0],
            "lower_bound": last.lower_bound,
            "step_capped": since.capped / since.taken if since.taken else 0.0,
            "skipped_steps": last.skipped_steps,
            "zero_steps": last.zero_steps,
        }


def _standstill(optimizer: MomoOptimizer, last: LastStep, since: _Counts) -> str | None:
    """Return why none of the steps since the last log moved the weights, or ``None`` if one did."""
    if since.taken == 0 and since.skipped > 0:
        # The Trainer replaces a loss that is not finite by the mean so far, and logs 0 where no loss was finite.
        return (
            f"skipped_steps: all {since.skipped} step(s) since the last log were skipped because the loss, a gradient"
            " or a weight was not finite. The weights stay as they are until a batch with finite ones comes. Set"
            " logging_nan_inf_filter=False and logging_steps=1 to see which batches; if it is all of them, check the"
            " weights"
        )
    if since.taken > 0 and since.zero == since.taken:
        if last.uphill_steps >= since.zero:
            return _UPHILL.format(since.taken)
        averaged_loss = last.loss_avg / float(optimizer.entries[0]["weight_avg"])
        return (
            f"zero_steps: all {since.taken} step(s) since the last log had step size 0, because the averaged loss is"
            f" at or below its lower bound: loss {averaged_loss:.4g}, lower_bound {last.lower_bound:.4g}. Only the"
            " weight decay changes the weights. Pass a bound well below the loss:"
            f" --optim_args lower_bound={_safe_bound(averaged_loss, last.lower_bound):g}"
        )
    return None


def _safe_bound(averaged_loss: float, lower_bound: float) -> float:
    """Return a round number well below the loss and the present bound."""
    low = min(averaged_loss, lower_bound)
    bound = low - max(1.0, abs(low))
    unit = 10.0 ** math.floor(math.log10(abs(bound))) if bound else 1.0
    return math.floor(bound / unit) * unit
