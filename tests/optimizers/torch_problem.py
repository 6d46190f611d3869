"""The regression and the constructor inputs of torch's own optimizer suite, for every method of the table."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from optimizer_cases import METHODS, VARIANTS
from torch import nn

by_method = pytest.mark.parametrize("cls", [method.cls for method in METHODS.values()], ids=METHODS)
INPUTS = {
    f"{variant}-{name}": (cls, {**options, **extra})
    for (variant, (cls, options)), (name, extra) in itertools.product(
        VARIANTS.items(),
        {
            "default": {},
            "lr": {"lr": 0.01},
            "weight-decay": {"weight_decay": 0.1},
            "tensor-lr": {"lr": torch.tensor(0.01)},
        }.items(),
    )
}
by_variant = pytest.mark.parametrize(("cls", "options"), VARIANTS.values(), ids=VARIANTS.keys())
by_input = pytest.mark.parametrize(("cls", "options"), INPUTS.values(), ids=INPUTS.keys())


class Problem:
    """The regression of torch's suite, and an optimizer for it.

    Attributes:
        params: Weight and bias.
        optimizer: The optimizer.
    """

    def __init__(self, cls, options, *, dtype=torch.float32, device="cpu", named=False, contiguous=True):
        generator = torch.Generator().manual_seed(0)
        shapes = ((10, 5), (10,)) if contiguous else ((10, 5, 2), (10, 2))
        tensors = [torch.randn(shape, generator=generator) for shape in shapes]
        self.params = [nn.Parameter((t if contiguous else t[..., 0]).to(device, dtype)) for t in tensors]
        self.input = torch.randn(5, generator=generator).to(device, dtype)
        named_params = [(f"name{i}", param) for i, param in enumerate(self.params)]
        # The tensor of an lr given as one belongs to the optimizer from here on.
        self.optimizer = cls(named_params if named else self.params, **copy.deepcopy(options))

    def loss(self):
        weight, bias = self.params
        return (weight.mv(self.input) + bias).pow(2).sum()

    def closure(self):
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        return loss

    def run(self, steps):
        for _ in range(steps):
            self.optimizer.step(loss=self.closure().detach())
