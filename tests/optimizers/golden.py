"""Trajectories recorded once, so that a change of structure can be shown to change no bit.

``python tests/optimizers/golden.py`` prints whether this machine gives the recorded values to the bit, and
``--record`` writes them anew, which is right only where a change of the numbers is intended.
"""

from __future__ import annotations

import argparse
import itertools
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_momo import Momo, MomoAdam

RECORDED = Path(__file__).with_name("golden.npz")
STEPS = 8
SCALARS = (
    *("num_steps", "loss_avg", "grad_dot_param_avg", "weight_avg", "lower_bound"),
    *("step_scale", "capped_steps", "skipped_steps"),
)

METHODS: dict[str, tuple[type, dict[str, Any]]] = {
    "momo": (Momo, {"lr": 0.3}),
    "momo-start-at-zero": (Momo, {"lr": 0.3, "bias_correction": True}),
    "momo-beta-0": (Momo, {"lr": 0.3, "beta": 0.0}),
    "adam": (MomoAdam, {"lr": 0.1, "betas": (0.9, 0.99)}),
    "adam-adamw": (MomoAdam, {"lr": 0.1, "weight_decay_form": "adamw"}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.2},
    "bound": {"lower_bound": 0.3},
    "estimated": {"adapt_lower_bound": True, "weight_decay": 0.1},
    "capped": {"lower_bound": -1e12, "weight_decay": 0.05},
}
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
KERNELS = ("eager", "compiled")


def contiguous(dtype: torch.dtype) -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(shape, dtype=torch.float64).to(dtype)) for shape in ((3, 7), (5,), (), (2, 1, 3))]


def mixed_layouts(dtype: torch.dtype) -> list[nn.Parameter]:
    """Layouts that are flat memory and layouts that are not: transposed, channels-last, with gaps, expanded."""
    transposed = torch.randn(6, 4, dtype=torch.float64).to(dtype).t()
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64).to(dtype).to(memory_format=torch.channels_last)
    gaps = torch.randn(5, 8, dtype=torch.float64).to(dtype)[:, ::2]
    empty = torch.zeros(0, 3, dtype=dtype)
    return [nn.Parameter(each) for each in (transposed, images, gaps, empty, torch.ones((), dtype=dtype))]


def mixed_dtypes(dtype: torch.dtype) -> list[nn.Parameter]:
    other = torch.float32 if dtype != torch.float32 else torch.bfloat16
    return [*contiguous(dtype), nn.Parameter(torch.randn(4, 3, dtype=torch.float64).to(other))]


LAYOUTS: dict[str, Callable[[torch.dtype], list[nn.Parameter]]] = {
    "contiguous": contiguous,
    "mixed-layouts": mixed_layouts,
    "mixed-dtypes": mixed_dtypes,
}


def one_group(params: list[nn.Parameter]) -> list[Any]:
    return list(params)


def two_groups(params: list[nn.Parameter]) -> list[Any]:
    return [{"params": params[:2], "weight_decay": 0.3, "lr": 0.2}, {"params": params[2:]}]


GROUPS = {"one-group": one_group, "two-groups": two_groups}


def cases() -> Iterator[tuple[str, Callable[[], dict[str, np.ndarray]]]]:
    """Return name and run of every case: all options of a method, then the other axes one at a time."""
    axes = [
        (m, o, k, "contiguous", "one-group", "float32") for m, o, k in itertools.product(METHODS, OPTIONS, KERNELS)
    ]
    axes += [
        (method, "decay", kernel, layout, groups, dtype)
        for method, kernel, layout, groups, dtype in itertools.product(METHODS, KERNELS, LAYOUTS, GROUPS, DTYPES)
        if (layout, groups, dtype) != ("contiguous", "one-group", "float32")
    ]
    for method, option, kernel, layout, groups, dtype in axes:
        name = ":".join((method, option, kernel, layout, groups, dtype))
        yield name, lambda axes=(method, option, kernel, layout, groups, dtype): run(*axes)


def run(method: str, option: str, kernel: str, layout: str, groups: str, dtype: str) -> dict[str, np.ndarray]:
    """Return weights, state and scalars after some steps: one skipped, one clipped, one without some gradients."""
    torch.manual_seed(1234)
    cls, options = METHODS[method]
    params = LAYOUTS[layout](DTYPES[dtype])
    late = nn.Parameter(torch.randn(4, dtype=torch.float64).to(DTYPES[dtype]))
    optimizer = cls(GROUPS[groups](params), kernel=kernel, **{**options, **OPTIONS[option]})
    for index in range(STEPS):
        if index == 4:
            optimizer.add_param_group({"params": [late]})
        held = [param for group in optimizer.param_groups for param in group["params"]]
        loss = torch.zeros((), dtype=torch.float64)
        for number, param in enumerate(held):
            param.grad = None
            noise = torch.randn(param.shape, dtype=torch.float64)
            if index != 2 or number != 1:
                param.grad = ((param.detach().double() * 0.4) + 0.1 * noise).to(param.dtype)
                loss = loss + 0.2 * param.detach().double().square().sum() + 0.05
        if index == 3:
            held[0].grad.fill_(float("inf"))
        weight = 0.5 if index == 5 else 1.0
        for param in held:
            if param.grad is not None and weight != 1.0:
                param.grad.mul_(weight)
        optimizer.step(loss=loss.to(torch.float32), sample_weight=weight)
    found: dict[str, np.ndarray] = {}
    for number, param in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        found[f"param{number}"] = as_array(param)
        found |= {f"state{number}.{key}": as_array(value) for key, value in optimizer.state[param].items()}
    for number, group in enumerate(optimizer.param_groups):
        found[f"scalars{number}"] = np.array([float(group[name]) for name in SCALARS])
    return found


def as_array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().contiguous().numpy()


def flat(found: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([found[key].reshape(-1) for key in sorted(found)])


def here() -> str:
    """Return the versions and processor features that decide the last bits."""
    return f"{torch.__version__} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def record() -> None:
    torch.set_num_threads(1)
    np.savez_compressed(RECORDED, **{name: flat(run()) for name, run in cases()}, _machine=np.array(here()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write the values of this machine")
    if parser.parse_args().record:
        record()
    recorded = np.load(RECORDED)
    different = [name for name, run in cases() if not np.array_equal(flat(run()), recorded[name], equal_nan=True)]
    print(  # noqa: T201 (a command)
        f"{len(recorded) - 1} cases, recorded with {recorded['_machine']}; here {here()}; different: {different}"
    )


if __name__ == "__main__":
    main()
