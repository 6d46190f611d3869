"""The table of rows: what is trained, where, and how close it must come to a plain loop on the whole batch.

A row is a setting (model, optimizer, batches) under a backend (one process, DDP, FSDP2, ...), trained in one way: an
accelerate loop, the Trainer, or torch alone. Every row is trained twice: with a real model, whose trajectory is
compared with that of the plain loop, and with a model linear in its weights, whose loss must equal ``<gradient,
weights>`` (Euler's identity).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from hf_momo import get_optimizer_info

STEPS, BATCH = 8, 8


class Tolerance(NamedTuple):
    """Largest allowed difference, relative to the largest value of the trajectory, and the reason that it is not 0."""

    value: float
    reason: str


FLOAT64 = Tolerance(1e-12, "float64: sums in another order, over eight steps")
FLOAT32 = Tolerance(1e-4, "float32 weights and gradients against a plain loop in float64, over eight steps")
HALF = Tolerance(3e-2, "gradients rounded to bfloat16 (2**-9) before they are averaged, over eight steps")

ZERO3_HALF = Tolerance(0.2, "as above, and ZeRO-3's linear layers round every product before they add the bias")


@dataclass(frozen=True)
class Setting:
    """A model, an optimizer and its batches.

    Attributes:
        name: The second part of a row's name.
        optim: The optimizer's name.
        options: Arguments of the optimizer.
        layout: How the batch of eight is split, see ``batches.py``.
        examples: Their number; fewer than ``STEPS * BATCH`` leave an uneven last batch and a short last window.
        normalize: The divisor of a window's loss: ``"items"`` (labels of all ranks and micro-batches), ``"rank
            items"`` (labels of the own rank), ``"micro"`` (the mean over micro-batches of each one's mean) or
            ``"examples"`` (their number).
        max_norm: Maximum norm of gradient clipping; 0 for none.
        groups: ``"decay"`` (weights with decay, others without), ``"one"``, or ``"split"`` (three groups with equal
            settings, in another order).
        after_prepare: Whether the optimizer is created after ``accelerator.prepare``.
        precision: ``"float64"``, ``"float32"``, ``"autocast"`` (bfloat16), ``"float16"`` (autocast) or ``"bfloat16"``
            (the parameters).
        init_scale: Initial scale of a gradient scaler, so large that the first steps overflow and are skipped.
        alone: Whether every rank trains its own model.
    """

    name: str
    optim: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    layout: str = "whole"
    examples: int = STEPS * BATCH
    normalize: str = "items"
    max_norm: float = 0.0
    groups: str = "one"
    after_prepare: bool = False
    precision: str = "float64"
    init_scale: float | None = None
    alone: bool = False

    @property
    def plain(self) -> Setting:
        """The setting of the plain loop: AdamW in the wrapper is ``momo_adam`` there."""
        if self.optim != "momo_wrapper":
            return self
        options = {name: value for name, value in self.options.items() if name != "base"}
        return replace(self, optim="momo_adam", options={**options, "weight_decay_form": "adamw"})

    @property
    def weight_decay(self) -> float:
        return float(self.options.get("weight_decay", 0.0))


class Backend(NamedTuple):
    """How the processes are launched.

    Attributes:
        name: The first part of a row's name.
        ranks: Number of processes.
        launch: Arguments of ``accelerate launch``.
        kind: The kind of the parameters: ``"replicated"``, ``"dtensor"`` or ``"shards"`` that are plain tensors.
        device: ``"cpu"`` or ``"cuda"``.
    """

    name: str
    ranks: int
    launch: str
    kind: str = "replicated"
    device: str = "cpu"


_COMMON = "--num_machines 1 --mixed_precision no --dynamo_backend no"
_TWO = f"--num_processes 2 {_COMMON} --main_process_port 0"
_FSDP = "--use_fsdp --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP --fsdp_cpu_ram_efficient_loading false"
_ZERO = f"--use_deepspeed {_TWO} --zero3_init_flag false --zero_stage"

BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("one", 1, f"--cpu --num_processes 1 {_COMMON}"),
        # With --cpu accelerate starts one process only; launching.py sets ACCELERATE_USE_CPU instead.
        Backend("ddp", 2, f"--multi_gpu {_TWO}"),
        Backend("torch", 2, f"--multi_gpu {_TWO}"),
        Backend("fsdp2", 2, f"{_TWO} {_FSDP} --fsdp_version 2", "dtensor"),
        Backend("fsdp1", 2, f"{_TWO} {_FSDP} --fsdp_version 1 --fsdp_sync_module_states false", "shards"),
        Backend("zero1", 2, f"{_ZERO} 1", "shards"),
        Backend("zero2", 2, f"{_ZERO} 2", "shards"),
        Backend("zero3", 2, f"{_ZERO} 3", "shards"),
        Backend("one cuda", 1, f"--num_processes 1 --gpu_ids 0 {_COMMON}", device="cuda"),
        Backend("ddp cuda", 2, f"--multi_gpu {_TWO}", device="cuda"),
        Backend("fsdp2 cuda", 2, f"{_TWO} {_FSDP} --fsdp_version 2", "dtensor", device="cuda"),
        Backend("zero2 cuda", 2, f"{_ZERO} 2", "shards", device="cuda"),
    )
}


class Row(NamedTuple):
    """A setting under a backend."""

    backend: Backend
    way: str
    setting: Setting

    @property
    def name(self) -> str:
        return f"{self.backend.name}/{self.way}/{self.setting.name}"

    @property
    def one_group(self) -> bool:
        """Whether the backend flattens all parameters into one group."""
        return self.backend.name.startswith("zero")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        if self.setting.precision == "bfloat16":
            return torch.bfloat16
        # DeepSpeed keeps float32 master weights. FSDP1 computes gradient norms in float32 and refuses float64; the
        # Trainer asks for the norm at every step.
        single = self.backend.name.startswith("zero") or (
            self.backend.name == "fsdp1" and (self.way == "trainer" or self.setting.max_norm > 0.0)
        )
        return torch.float32 if single or self.setting.precision != "float64" else torch.float64

    @property
    def tolerance(self) -> Tolerance:
        if self.backend.name == "zero3" and self.setting.precision == "autocast":
            return ZERO3_HALF
        if self.setting.precision in ("autocast", "bfloat16", "float16"):
            return HALF
        return FLOAT64 if self.dtype == torch.float64 else FLOAT32


_ADAPT = {"adapt_lower_bound": True}
_ADAMW = {"base": torch.optim.AdamW, "weight_decay": 0.1}

LOOPS = (
    Setting("momo", "momo", {"lr": 1.0}),
    Setting("momo_adam", "momo_adam", {"lr": 1.0, "lower_bound": 1.2}),
    Setting("momo decay", "momo", {"lr": 1.0, "weight_decay": 0.1, **_ADAPT}, groups="decay"),
    Setting("momo_adam decay", "momo_adam", {"lr": 0.1, "weight_decay": 0.1, **_ADAPT}, groups="decay"),
    Setting(
        "adamw form",
        "momo_adam",
        {"lr": 1.0, "weight_decay": 0.1, "weight_decay_form": "adamw", "lower_bound": 0.8},
        groups="decay",
        after_prepare=True,
    ),
    Setting("accumulated", "momo_adam", {"lr": 0.1, **_ADAPT}, layout="accumulated"),
    Setting("accumulated means", "momo", {"lr": 1.0}, layout="pairs", normalize="micro"),
    Setting("unequal batches", "momo_adam", {"lr": 1.0, "lower_bound": 1.2}, layout="unequal"),
    Setting("last batch", "momo", {"lr": 1.0}, layout="pairs", examples=STEPS * BATCH - 5, normalize="micro"),
    Setting("clipped momo", "momo", {"lr": 100.0}, max_norm=0.1),
    Setting("clipped momo_adam", "momo_adam", {"lr": 0.1, **_ADAPT}, layout="pairs", max_norm=0.1),
    Setting(
        "batch slope and progress",
        "momo_adam",
        {"lr": 1.0, "weight_decay": 0.1, "slope": "batch", "gap": "progress", "caution": 2.0},
        layout="unequal",
        groups="decay",
        max_norm=0.5,
    ),
    Setting("groups", "momo_adam", {"lr": 0.1, "weight_decay": 0.1, **_ADAPT}, groups="split"),
    Setting("autocast", "momo_adam", {"lr": 0.3, "lower_bound": 1.2}, precision="autocast"),
    Setting("bfloat16", "momo_adam", {"lr": 0.3, "lower_bound": 1.2}, precision="bfloat16"),
    Setting("bfloat16 momo", "momo", {"lr": 0.3}, precision="bfloat16"),
    Setting("momo_muon", "momo_muon", {"lr": 1.0, "lower_bound": 1.2}),
    Setting(
        "momo_muon decay",
        "momo_muon",
        {"lr": 0.3, "weight_decay": 0.1, "lower_bound": 1.2, "nesterov": True, "slope": "batch", "gap": "progress"},
        groups="decay",
        layout="unequal",
    ),
    Setting("clipped momo_muon", "momo_muon", {"lr": 1.0, "lower_bound": 1.2}, layout="pairs", max_norm=0.1),
    # One row a backend: the sign of a gradient that is 0 up to rounding (an attention's key bias, in the Trainer's
    # model) has no meaning, so sign methods are trained in the loop's model.
    Setting(
        "momo_lion",
        "momo_lion",
        {"lr": 0.2, "weight_decay": 0.1, "lower_bound": 1.2},
        layout="pairs",
        max_norm=0.5,
        groups="decay",
    ),
    Setting("momo_adafactor", "momo_adafactor", {"lr": 0.3, "lower_bound": 1.2}, layout="unequal"),
    Setting("clipped momo_adafactor", "momo_adafactor", {"lr": 0.1, **_ADAPT}, layout="pairs", max_norm=0.1),
    Setting("wrapped", "momo_wrapper", {**_ADAMW, "lr": 1.0, "lower_bound": 0.8}, groups="decay"),
    Setting(
        "wrapped clipped", "momo_wrapper", {**_ADAMW, "lr": 0.1, "lower_bound": 1.2}, layout="pairs", max_norm=0.1
    ),
)
# accelerate makes a gradient scaler on a GPU only; on a CPU the loop sets one.
SCALER = Setting(
    "scaler",
    "momo_adam",
    {"lr": 1.0, "lower_bound": 4.8},
    layout="pairs",
    precision="float32",
    init_scale=2.0**127,
    normalize="examples",
)

FLOAT16 = Setting(
    "float16", "momo_adam", {"lr": 1.0, "lower_bound": 1.2}, layout="pairs", precision="float16", init_scale=2.0**19
)

# The gradient of an attention's key bias is 0 up to rounding, which an eps of 1e-8 would magnify.
_EPS = {"eps": 1e-5}
TRAINERS = (
    Setting("momo", "momo", {"lr": 0.5, "weight_decay": 0.1, **_ADAPT}, groups="decay"),
    Setting("momo_adam", "momo_adam", {**_EPS, "lr": 0.1, "weight_decay": 0.1, "lower_bound": 2.0}, groups="decay"),
    Setting("accumulated", "momo_adam", {**_EPS, "lr": 0.1, **_ADAPT}, layout="accumulated"),
    Setting(
        "accumulated by rank", "momo", {"lr": 5.0, "lower_bound": 2.5}, layout="accumulated", normalize="rank items"
    ),
    Setting("autocast", "momo", {"lr": 5.0, "lower_bound": 2.5}, precision="autocast"),
    Setting("clipped", "momo_adam", {**_EPS, "lr": 0.1, "lower_bound": 2.0}, layout="pairs", max_norm=0.1),
    Setting(
        "last batch", "momo_adam", {**_EPS, "lr": 0.1, "lower_bound": 2.0}, layout="pairs", examples=STEPS * BATCH - 5
    ),
    Setting(
        "momo_adafactor",
        "momo_adafactor",
        {**_EPS, "lr": 0.1, "weight_decay": 0.1, **_ADAPT},
        groups="decay",
        layout="accumulated",
    ),
    Setting("momo_muon", "momo_muon", {**_EPS, "lr": 0.1, "weight_decay": 0.1, "lower_bound": 2.0}, groups="decay"),
)


# Without accelerate; meshes.py lays out the parameters by the end of the setting's name.
MESHES = (
    Setting("replicas 2x1", "momo_adam", {"lr": 0.1, "weight_decay": 0.1, **_ADAPT}),
    Setting("replicas 1x2", "momo", {"lr": 1.0}),
    Setting("two meshes", "momo_adam", {"lr": 1.0, "lower_bound": 1.2}, layout="unequal"),
    Setting("plain and sharded", "momo", {"lr": 1.0, **_ADAPT}, groups="decay"),
    Setting("tensor parallel", "momo_adam", {"lr": 1.0, "lower_bound": 1.2}),
    Setting("muon replicas 2x1", "momo_muon", {"lr": 1.0, "lower_bound": 1.2}),
    Setting("muon replicas 1x2", "momo_muon", {"lr": 1.0, "lower_bound": 1.2, "nesterov": True}),
    Setting("muon plain and sharded", "momo_muon", {"lr": 1.0, "lower_bound": 1.2}),
    Setting("muon tensor parallel", "momo_muon", {"lr": 1.0, "lower_bound": 1.2}),
    Setting("momo_lion two meshes", "momo_lion", {"lr": 0.2, "weight_decay": 0.1, "lower_bound": 1.2}),
    Setting("momo_lion tensor parallel", "momo_lion", {"lr": 0.2, "lower_bound": 1.2}),
    Setting("wrapped two meshes", "momo_wrapper", {**_ADAMW, "lr": 1.0, "lower_bound": 0.8}),
    Setting("wrapped tensor parallel", "momo_wrapper", {**_ADAMW, "lr": 1.0, "lower_bound": 0.8}),
    Setting("process group", "momo", {"lr": 1.0}),
    Setting("self", "momo_adam", {"lr": 0.1, **_ADAPT}, alone=True),
    Setting("momo_adafactor replicas 2x1", "momo_adafactor", {"lr": 0.1, "weight_decay": 0.1, **_ADAPT}),
    Setting("momo_adafactor two meshes", "momo_adafactor", {"lr": 0.3, "lower_bound": 1.2}),
    Setting("momo_adafactor tensor parallel", "momo_adafactor", {"lr": 0.3, "lower_bound": 1.2}),
)


# Two GPUs add NCCL to what one GPU and two CPU processes show, and are rare, so a few rows a backend stand for it.
TWO_GPUS = ("loop/momo_adam decay", "loop/accumulated", "loop/clipped momo_adam", "loop/float16", "trainer/autocast")


def _rows(backend: Backend) -> list[Row]:
    if backend.name == "torch":
        return [Row(backend, "torch", setting) for setting in MESHES]
    rows = [Row(backend, "loop", setting) for setting in LOOPS]
    rows += [Row(backend, "trainer", setting) for setting in TRAINERS]
    if backend.kind == "replicated":
        rows.append(Row(backend, "loop", SCALER if backend.device == "cpu" else FLOAT16))
    few = backend.device == "cuda" and backend.ranks > 1
    return [row for row in rows if _exists(row) and (not few or f"{row.way}/{row.setting.name}" in TWO_GPUS)]


def _exists(row: Row) -> bool:
    if row.setting.optim == "momo_wrapper" and row.backend.kind == "shards":
        return False  # refused
    if row.setting.precision == "bfloat16":
        return not row.one_group  # ZeRO keeps float32 master weights of bfloat16 ones: its "autocast"
    if row.way == "trainer" and row.setting.precision == "autocast":
        # The Trainer refuses bf16 on a CPU without use_cpu, and with use_cpu it does not start FSDP or DeepSpeed.
        return row.backend.kind == "replicated" or row.backend.device == "cuda"
    return True


def is_refused(row: Row) -> bool:
    """Whether hf_momo refuses the row: flat shards of parameters are no matrices."""
    return row.backend.kind == "shards" and get_optimizer_info(row.setting.optim).optimizer_cls.direction.whole_tensors


_ALL = {row.name: row for backend in BACKENDS.values() for row in _rows(backend)}
ROWS = {name: row for name, row in _ALL.items() if not is_refused(row)}
# One setting a way is enough.
REFUSED = {name: row for name, row in _ALL.items() if is_refused(row) and row.setting.name == "momo_muon"}
