"""Log entries about the steps of an optimizer, and warnings where it does not train or its bound has no effect."""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

from hf_momo.optimizers import LastStep, MomoOptimizer
from hf_momo.optimizers.bounds import PILOT_SHARE

logger = logging.getLogger(__name__)

# The averaged loss is near a bound from this relative distance on.
_NEAR = 0.05
# With the cap binding at this share of the steps, the run was that of the base method.
_NEARLY_ALL = 0.99


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
        self._came_near = False

    def restart(self, optimizer: MomoOptimizer) -> None:
        """Count from here on. A resumed optimizer brings its counters with it."""
        self._logged = _Counts.of(optimizer.last_step)

    def entries(self, optimizer: MomoOptimizer, *, warn: bool) -> dict[str, float]:
        """Return the entries for a training log.

        Args:
            optimizer: The optimizer that took the steps.
            warn: Whether this process warns where no step since the last log moved the weights, and where the loss
                has come near its bound.
        """
        last = optimizer.last_step
        counts = _Counts.of(last)
        since = _Counts(*(new - old for new, old in zip(counts, self._logged, strict=True)))
        self._logged = counts
        standstill = _standstill(optimizer, last, since)
        # At an informed bound single steps move on and off again, so it is reported once.
        near = bool(since.taken) and (standstill is not None or _is_near(optimizer, last)) and _is_informed(optimizer)
        if warn and not (near and self._came_near):
            if standstill is not None and self._standstill is None:
                logger.warning(standstill)
            elif near:
                logger.warning(_nearness(optimizer, last))
        self._standstill = standstill
        self._came_near |= near
        return {
            "step_size": last.step_size[0],
            "lower_bound": last.lower_bound,
            "step_capped": since.capped / since.taken if since.taken else 0.0,
            "skipped_steps": last.skipped_steps,
            "zero_steps": last.zero_steps,
        }

    def warn_of_useless_bound(self, optimizer: MomoOptimizer) -> None:
        """Warn at the end of training if the averaged loss never came near the bound and the cap made the steps."""
        last = optimizer.last_step
        if self._came_near or not _is_informed(optimizer) or last.capped_steps < _NEARLY_ALL * max(last.num_steps, 1):
            return
        logger.warning(
            "lower_bound: %.4g had no effect, because the averaged loss never came near it (%.4g at the end). The cap"
            " limited %d of %d steps, which are those of the base method. If the learning rate was right, no bound is"
            " needed; if it was too large, pass a bound a little below the loss that a good run ends with, such as"
            " --optim_args lower_bound=from=RUN with the folder of that run",
            *(last.lower_bound, _averaged_loss(optimizer, last), last.capped_steps, last.num_steps),
        )


def _is_informed(optimizer: MomoOptimizer) -> bool:
    """Return whether the user gave a bound above 0; relative distances to other bounds say nothing."""
    group = optimizer.entries[0]
    return bool(group["initial_lower_bound"] > 0 and not group.get("adapt_lower_bound"))


def _averaged_loss(optimizer: MomoOptimizer, last: LastStep) -> float:
    return last.loss_avg / float(optimizer.entries[0]["weight_avg"])


def _is_near(optimizer: MomoOptimizer, last: LastStep) -> bool:
    return _averaged_loss(optimizer, last) - last.lower_bound <= _NEAR * last.lower_bound


def _nearness(optimizer: MomoOptimizer, last: LastStep) -> str:
    return (
        f"lower_bound: the averaged loss {_averaged_loss(optimizer, last):.4g} has come within {_NEAR:.0%} of"
        f" {last.lower_bound:.4g} after {last.num_steps} steps. The closer it comes, the smaller the steps, down to 0."
        " If the loss should fall further, start again with a lower bound"
    )


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
        averaged_loss = _averaged_loss(optimizer, last)
        return (
            f"zero_steps: all {since.taken} step(s) since the last log had step size 0, because the model of the loss"
            f" is at or below its lower bound: averaged loss {averaged_loss:.4g}, lower_bound {last.lower_bound:.4g}."
            " Only the weight decay changes the weights. Pass a bound well below the loss:"
            f" --optim_args lower_bound={_safe_bound(averaged_loss, last.lower_bound):g}"
        )
    return None


def _safe_bound(averaged_loss: float, lower_bound: float) -> float:
    """Return a round number well below the loss and the present bound."""
    low = min(averaged_loss, lower_bound)
    if low > 0:
        return float(f"{PILOT_SHARE * low:.2g}")
    bound = low - max(1.0, abs(low))
    unit = 10.0 ** math.floor(math.log10(abs(bound))) if bound else 1.0
    return math.floor(bound / unit) * unit
