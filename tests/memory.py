"""How much memory a step allocates, and models to see it on."""

import torch
from torch import nn


def peak_memory(step):
    """Largest number of bytes held at one time by what ``step`` allocates and frees."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    records = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for record in sorted(records, key=lambda record: record.start_ns()):
        held += record.nbytes()
        peak = max(peak, held)
    return peak


def model_of(elements, layout, dtype):
    """One large matrix, and its gradient, laid out differently."""
    shape = (elements // 1024, 1024)
    if layout == "contiguous":
        param, grad = torch.ones(shape, dtype=dtype), torch.ones(shape, dtype=dtype)
    elif layout == "expanded gradient":
        param, grad = torch.ones(shape, dtype=dtype), torch.ones((), dtype=dtype).expand(shape)
    else:
        param, grad = torch.ones(shape[0], 2048, dtype=dtype)[:, ::2], torch.ones(shape[::-1], dtype=dtype).t()
    param = nn.Parameter(param)
    param.grad = grad
    return param
