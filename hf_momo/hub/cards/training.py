"""The step size over the run, the settings, and the hardware and versions of a training."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_momo.hub.cards.task import Record, momo_curve, optim
from hf_momo.hub.cards.words import between, cell, count, finite, table

_Curve = Sequence[Mapping[str, Any]]

# Settings of the Trainer that the table of the optimizer shows, or that do not change a result.
_NOT_SHOWN = ("output_dir", "optim", "optim_args", "learning_rate", "weight_decay")
_NOT_SHOWN_PREFIX = "adam_"
# Meaning of an optimizer's option, for those whose name does not say it.
_MEANINGS = {
    "weight_decay": "by parameter group",
    "lower_bound": "lower bound of the loss at the start",
    "adapt_lower_bound": "whether the bound is estimated during training",
}


def step_size(record: Record) -> str:
    """Return sentences on the share of capped steps, the range of step sizes, the bound and the skipped steps."""
    curve = momo_curve(record)
    if not curve:
        rates = finite([entry.get("learning_rate") for entry in record["curve"]])
        ran = f"; at the logged steps it was {between(rates)}" if rates else ""
        return f"`{optim(record)}` uses the scheduled learning rate unchanged{ran}."
    shares = [capped_share(curve), capped_share(curve, 0.0, 0.25), capped_share(curve, 0.75, 1.0)]
    sizes = [size for size in finite([entry["step_size"] for entry in curve]) if size > 0]
    caps = [rate for rate in finite([entry["learning_rate"] for entry in curve]) if rate > 0]
    return (
        f"The cap was binding in {shares[0]:.1%} of the {curve[-1]['step']:,} logged steps: in "
        f"{shares[1]:.1%} of the first quarter of the run and in {shares[2]:.1%} of the last. A step at the cap is "
        f"the step of the base optimizer. At the logged steps the step size was {between(sizes)}, and the cap "
        f"(the scheduled learning rate) {between(caps)}.{_correction(record)} {_bound(curve)}, and {_skipped(curve)}."
    )


def _correction(record: Record) -> str:
    """Return the note on a record whose step sizes are not comparable with the cap in the first steps."""
    # Such records name no option of an optimizer that always corrects.
    if record.get("step_size_is_bias_corrected") or not record["optimizer"].get("bias_correction", True):
        return ""
    return (
        " This record holds the step size divided by the bias correction of the averaged gradient: in the first steps "
        "it can be several times the cap."
    )


def _bound(curve: _Curve) -> str:
    bounds = [entry["lower_bound"] for entry in curve]
    if min(bounds) == max(bounds):
        return f"The lower bound of the loss was {bounds[0]:g} throughout"
    return (
        f"The lower bound of the loss began at {bounds[0]:.3g} and ended at {bounds[-1]:.3g}, with a minimum of "
        f"{min(bounds):.3g} and a maximum of {max(bounds):.3g}"
    )


def _skipped(curve: _Curve) -> str:
    skipped = int(curve[-1]["skipped_steps"])
    if not skipped:
        return "no step was skipped"
    were = "was" if skipped == 1 else "were"
    return f"{count(skipped, 'step')} {were} skipped because a number was not finite"


def capped_share(curve: _Curve, low: float = 0.0, high: float = 1.0) -> float:
    """Return the share of capped steps in a part of the training.

    Args:
        curve: Log entries with ``step`` and ``step_capped``, at least one. An entry covers the steps since the last.
        low: Beginning of the part, from 0 to 1.
        high: End of the part.
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
    """Return the share of capped steps in each quarter of the training."""
    return [capped_share(curve, part / 4, (part + 1) / 4) for part in range(4)]


def where(record: Record) -> str:
    """Return steps, time, hardware and versions."""
    hardware, versions = record["hardware"], record["versions"]
    # Older records do not name the instructions.
    instructions = f" ({hardware['instructions']})" if "instructions" in hardware else ""
    machine = f"{hardware['device']}{instructions}, {count(hardware['processes'], 'process', 'processes')}"
    if hardware.get("distributed"):
        machine += f" ({hardware['distributed']})"
    if "threads" in hardware:
        machine += f", {count(hardware['threads'], 'thread')}"
    # A stream counts an epoch when it has ended, so 0 says nothing.
    epochs = f", {record['epochs']:.2f} epochs" if record["epochs"] else ""
    seconds = record.get("train_runtime")
    runtime = f", {seconds:,.{0 if seconds >= 10 else 1}f} seconds of training" if seconds else ""
    return (
        f"{record['steps']:,} steps{epochs}{runtime} on {machine}; "
        f"{', '.join(f'{name} {number}' for name, number in versions.items())}."
    )


def optimizer_table(record: Record) -> str:
    """Return the table of all settings of the optimizer, defaults included."""
    meanings = {**_MEANINGS, **({"lr": "cap on the step size"} if momo_curve(record) else {})}
    if source := record.get("lower_bound_source"):
        meanings["lower_bound"] += f": {source}"
    chosen = record["settings"]["training"]
    settings = {"optim": optim(record), "optim_args": chosen.get("optim_args"), **record["optimizer"]}
    rows = [[name, _setting(value), meanings.get(name, "")] for name, value in settings.items() if value is not None]
    clipped = chosen.get("max_grad_norm")
    meaning = "maximum gradient norm" + (", accounted for by the sample weight" if momo_curve(record) else "")
    rows.append(["clipping", f"at {clipped:g}" if clipped else "none", meaning if clipped else ""])
    return table(["setting", "value", "meaning"], rows)


def settings_table(record: Record) -> str:
    """Return the table of the other settings of model and training."""
    model = record["settings"].get("model") or {}
    training = record["settings"]["training"]
    shown = {name: value for name, value in training.items() if not name.startswith(_NOT_SHOWN_PREFIX)}
    rows = [
        [name, _setting(value), ""]
        for name, value in {**model, **shown}.items()
        if name not in _NOT_SHOWN and value is not None and (value is not False or name in ("bf16", "fp16"))
    ]
    return table(["setting", "value", ""], rows)


def _setting(value: Any) -> str:
    return str(value) if isinstance(value, list) and len(set(map(str, value))) > 1 else cell(value)
