"""The optimizers and the sets of parameters that step_time.py measures."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import Adafactor, GPT2Config, GPT2LMHeadModel, MarianConfig, MarianMTModel

from hf_momo import Momo, MomoAdafactor, MomoAdam, MomoLion, MomoMuon, MomoWrapper
from hf_momo.optimizers import MomoOptimizer

Step = Callable[[], Any]

COPY, READ, BASELINE, SGD, LION = "copy", "dot product", "torch AdamW fused", "torch SGD fused", "Lion foreach"
MUON, ADAFACTOR = "torch Muon + AdamW fused", "transformers Adafactor"
MEMORY = (COPY, READ)


class Method(NamedTuple):
    """An optimizer of hf_momo.

    Attributes:
        make: Takes the model, its trained parameters, ``lr=`` and ``kernel=``; returns the optimizer.
        read: The number of tensors, each as large as the parameters, that a step must read beside those of its base.
        moved: The number that committing reads or writes, or ``None`` where matrix products take most of the time.
        base: The base method in this benchmark. Its time is the least that committing takes, except where hf_momo's
            own operations commit: then that is the time to move these tensors.
        own_commit: The kernels with which hf_momo's own operations commit.
    """

    make: Callable[..., MomoOptimizer]
    read: int
    moved: int | None
    base: str
    own_commit: tuple[str, ...] = ()


def on_parameters(cls: Callable[..., MomoOptimizer]) -> Callable[..., MomoOptimizer]:
    """Return a function that makes an optimizer which needs the parameters alone."""
    return lambda model, parameters, **options: cls(parameters, **options)


def momo_muon(model: nn.Module, parameters: list[nn.Parameter], **options: Any) -> MomoOptimizer:
    """Return MomoMuon, which asks the model for its matrices."""
    return MomoMuon(parameters, module=model, **options)


def wrapped_adamw(model: nn.Module, parameters: list[nn.Parameter], *, lr: float, kernel: str) -> MomoOptimizer:
    """Return MomoWrapper on torch's fused AdamW."""
    base = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, fused=True)
    return MomoWrapper(base, kernel=kernel)


# Adafactor reads the gradients twice, since the metric of a matrix needs all of them. The wrapper also averages the
# gradients, copies the parameters, and measures the step of its base.
METHODS = {
    "hf_momo MomoAdam": Method(on_parameters(MomoAdam), 4, 7, BASELINE),
    "hf_momo Momo": Method(on_parameters(Momo), 3, 5, SGD),
    "hf_momo MomoLion": Method(on_parameters(MomoLion), 3, 5, LION, ("compiled",)),
    "hf_momo MomoAdafactor": Method(on_parameters(MomoAdafactor), 4, 5, ADAFACTOR, ("eager", "compiled", "triton")),
    "hf_momo MomoMuon": Method(momo_muon, 4, None, MUON),
    "hf_momo MomoWrapper": Method(wrapped_adamw, 11, 7, BASELINE),
}
# The number of tensors that a step reads or writes. MoMo reads its tensors twice: it must know the step size before it
# writes.
TENSORS_MOVED = {COPY: 2, READ: 2, "torch AdamW": 7, "torch SGD": 5, LION: 5}
TENSORS_MOVED |= {name: each.read + each.moved for name, each in METHODS.items() if each.moved is not None}


def iwslt14_model() -> nn.Module:
    """Return the encoder-decoder of the IWSLT14 recipe."""
    config = MarianConfig(
        vocab_size=10_152,
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        pad_token_id=1,
        decoder_start_token_id=1,
    )
    model: nn.Module = MarianMTModel(config)
    return model


def gpt2_model() -> nn.Module:
    """Return GPT-2 small with random weights."""
    model: nn.Module = GPT2LMHeadModel(GPT2Config())
    return model


def tiny_model() -> nn.Module:
    """Return very many very small tensors, whose cost is that of calls."""
    return nn.ParameterList(torch.randn(64) for _ in range(5_000))


def smoke_model() -> nn.Module:
    """Return a few small layers, which only show that everything runs."""
    return nn.Sequential(nn.Embedding(100, 32), nn.Linear(32, 64), nn.Linear(64, 32))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "iwslt14": iwslt14_model,
    "gpt2": gpt2_model,
    "tiny": tiny_model,
    "smoke": smoke_model,
}


def make_model(name: str, device: str, dtype: torch.dtype) -> nn.Module:
    """Return a model of ``MODELS`` with random gradients."""
    torch.manual_seed(0)
    model = MODELS[name]().to(device, dtype)
    for parameter in trained(model):
        parameter.grad = torch.randn_like(parameter) * 1e-3
    return model


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that have gradients."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def candidates(model: nn.Module) -> dict[str, Step]:
    """Return a step of every optimizer by name. All share the parameters, which the tiny cap hardly moves."""
    parameters = trained(model)
    device = parameters[0].device
    loss = torch.tensor(5.0, device=device)
    lr = 1e-9
    source = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    target = torch.empty_like(source)
    steps: dict[str, Step] = {COPY: lambda: target.copy_(source), READ: lambda: torch.dot(source, target)}
    adamw: Any = torch.optim.AdamW
    others: dict[str, Any] = {
        BASELINE: adamw(parameters, lr=lr, weight_decay=0.0, fused=True),
        "torch AdamW foreach": adamw(parameters, lr=lr, weight_decay=0.0, foreach=True),
        "torch AdamW loop": adamw(parameters, lr=lr, weight_decay=0.0, foreach=False),
        SGD: torch.optim.SGD(parameters, lr=lr, momentum=0.9, dampening=0.9, fused=True),
        ADAFACTOR: Adafactor(parameters, lr=lr, scale_parameter=False, relative_step=False, beta1=0.9),
    }
    steps.update((name, optimizer.step) for name, optimizer in others.items())
    steps[LION] = foreach_lion(parameters, lr)
    matrices = [model.get_parameter(name) for name, kind in MomoMuon.methods_of(model).items() if kind == "muon"]
    if matrices and hasattr(torch.optim, "Muon"):
        steps[MUON] = muon_and_adamw(matrices, parameters, lr)
    kernels = ["eager", "compiled"] if device.type == "cpu" else ["eager"]
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        kernels.append("triton")
    momos: dict[str, Any] = {
        f"{name} {kernel}": method.make(model, parameters, lr=lr, kernel=kernel)
        for kernel in kernels
        for name, method in METHODS.items()
        if matrices or method.base != MUON
    }
    if importlib.util.find_spec("momo") is not None:
        import momo

        momos["momo-opt MomoAdam"] = momo.MomoAdam(parameters, lr=lr)
        momos["momo-opt Momo"] = momo.Momo(parameters, lr=lr)
    for name, optimizer in momos.items():
        steps[name] = lambda optimizer=optimizer: optimizer.step(loss=loss)  # type: ignore[misc]
    return steps


@torch.no_grad()
def foreach_lion(parameters: list[nn.Parameter], lr: float) -> Step:
    """Return a step of Lion by torch's operations on lists, as public implementations take it; torch has no Lion."""
    averages = [torch.zeros_like(parameter) for parameter in parameters]

    @torch.no_grad()
    def step() -> None:
        params: list[Any] = parameters
        grads: list[Any] = [parameter.grad for parameter in parameters]
        updates = torch._foreach_mul(averages, 0.9)
        torch._foreach_add_(updates, grads, alpha=1 - 0.9)
        torch._foreach_sign_(updates)
        torch._foreach_add_(params, updates, alpha=-lr)
        torch._foreach_mul_(averages, 0.99)
        torch._foreach_add_(averages, grads, alpha=1 - 0.99)

    return step


def muon_and_adamw(matrices: list[nn.Parameter], parameters: list[nn.Parameter], lr: float) -> Step:
    """Return a step of torch's Muon on the matrices and its fused AdamW on the other parameters."""
    are_matrices = {id(matrix) for matrix in matrices}
    others = [parameter for parameter in parameters if id(parameter) not in are_matrices]
    muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.0, nesterov=False, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=lr, weight_decay=0.0, fused=True)

    def step() -> None:
        muon.step()
        adamw.step()

    return step
