"""What the step size did, and with which settings on what the model was trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_momo.hub.cards.task import Record, momo_curve, optim
from hf_momo.hub.cards.words import cell, count, finite, from_to, table

_Curve = Sequence[Mapping[str, Any]]

# In the settings, and shown with the optimizer or of no consequence.
_OF_OPTIMIZER = (
    "output_dir",
    "optim",
    "optim_args",
    "learning_rate",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
)
# What each is, in words that need no source code.
_MEANINGS = {
    "lr": "cap on the step size",
    "lower_bound": "of the loss, as given",
    "adapt_lower_bound": "whether the bound is estimated while training",
    "weight_decay": "of each parameter group",
}


def step_size(record: Record) -> str:
    """Three sentences of numbers: steps at the cap, sizes of the steps, the bound and the steps that were skipped."""
    curve = momo_curve(record)
    if not curve:
        rates = finite([entry.get("learning_rate") for entry in record["curve"]])
        ran = f"; at the logged steps it ran {from_to(rates)}" if rates else ""
        return (
            f"`{optim(record)}` takes the scheduled learning rate as it is{ran}. Momo and MomoAdam alone adapt it to "
            "the loss."
        )
    shares = [capped_share(curve), capped_share(curve, 0.0, 0.25), capped_share(curve, 0.75, 1.0)]
    sizes = [size for size in finite([entry["step_size"] for entry in curve]) if size > 0]
    caps = [rate for rate in finite([entry["learning_rate"] for entry in curve]) if rate > 0]
    return (
        f"The cap was binding in {shares[0]:.1%} of the {curve[-1]['step']:,} logged steps: in {shares[1]:.1%} of the "
        f"first quarter and {shares[2]:.1%} of the last; where it binds, MoMo takes the step that its base optimizer "
        f"would. At the logged steps the step size ran {from_to(sizes)}, the scheduled learning rate "
        f"{from_to(caps)}. {_bound(curve)}, and {_skipped(curve)}."
    )


def _bound(curve: _Curve) -> str:
    bounds = [entry["lower_bound"] for entry in curve]
    if min(bounds) == max(bounds):
        return f"The lower bound of the loss was {bounds[0]:g} throughout"
    return (
        f"The lower bound of the loss began at {bounds[0]:.3g} and ended at {bounds[-1]:.3g}, between "
        f"{min(bounds):.3g} and {max(bounds):.3g} on the way"
    )


def _skipped(curve: _Curve) -> str:
    skipped = int(curve[-1]["skipped_steps"])
    if not skipped:
        return "no step was skipped"
    were = "was" if skipped == 1 else "were"
    return f"{count(skipped, 'step')} {were} skipped because a number was not finite"


def capped_share(curve: _Curve, low: float = 0.0, high: float = 1.0) -> float:
    """Share of capped steps in a part of the training; an entry holds for all steps since the one before it.

    Args:
        curve: Log entries with `step` and `step_capped`, at least one.
        low: Where the part begins, from 0 to 1.
        high: Where it ends.
    """
    last = curve[-1]["step"]
    total = capped = 0.0
    before = 0
    for entry in curve:
        steps = max(0.0, min(entry["step"], high * last) - max(before, low * last))
        total += steps
        capped += steps * entry["step_capped"]
        before = entry["step"]
    return capped / total if total else 0.0


def capped_by_quarter(curve: _Curve) -> list[float]:
    """Share of capped steps in each quarter of the training."""
    return [capped_share(curve, part / 4, (part + 1) / 4) for part in range(4)]


def where(record: Record) -> str:
    """Steps, time, machine and versions."""
    hardware, versions = record["hardware"], record["versions"]
    # Records made before there was such an entry have none.
    instructions = f" ({hardware['instructions']})" if "instructions" in hardware else ""
    machine = f"{hardware['device']}{instructions}, {count(hardware['processes'], 'process', 'processes')}"
    if hardware.get("distributed"):
        machine += f" ({hardware['distributed']})"
    if "threads" in hardware:
        machine += f", {count(hardware['threads'], 'thread')}"
    epochs = f", {record['epochs']:.2f} epochs" if record["epochs"] is not None else ""
    # A log read as a stream knows its passes when they have ended.
    epochs = "" if record["epochs"] == 0 else epochs
    seconds = record.get("train_runtime")
    runtime = f", {seconds:,.{0 if seconds >= 10 else 1}f} seconds of training" if seconds else ""
    return (
        f"{record['steps']:,} steps{epochs}{runtime} on {machine}; "
        f"{', '.join(f'{name} {number}' for name, number in versions.items())}."
    )


def optimizer_table(record: Record) -> str:
    """All settings of the optimizer, those left at their defaults too."""
    momo = bool(momo_curve(record))
    chosen = record["settings"]["training"]
    settings = {"optim": optim(record), "optim_args": chosen.get("optim_args"), **record["optimizer"]}
    rows = [
        [name, _setting(value), _MEANINGS.get(name, "") if momo or name == "weight_decay" else ""]
        for name, value in settings.items()
        if value is not None
    ]
    clipped = chosen.get("max_grad_norm")
    meaning = "of the gradient's norm" + (", with MoMo's sample weight" if momo else "")
    rows.append(["clipping", f"at {clipped:g}" if clipped else "none", meaning if clipped else ""])
    return table(["setting", "value", "meaning"], rows)


def settings_table(record: Record) -> str:
    """The settings of model and training beside the optimizer's."""
    model = record["settings"].get("model") or {}
    training = record["settings"]["training"]
    chosen = {name: value for name, value in training.items() if name not in _OF_OPTIMIZER}
    rows = [
        [name, _setting(value), ""]
        for name, value in {**model, **chosen}.items()
        if value is not None and (value is not False or name in ("bf16", "fp16"))
    ]
    return table(["setting", "value", ""], rows)


def _setting(value: Any) -> str:
    return str(value) if isinstance(value, list) and len(set(map(str, value))) > 1 else cell(value)
