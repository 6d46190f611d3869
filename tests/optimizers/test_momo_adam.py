"""Settings in which MomoAdam equals a known method."""

import pytest
import torch
from optimizer_cases import backward, make_params

from hf_momo import MomoAdam

NO_BOUND = -1e12


def run(make_optimizer, steps=50, dtype=torch.float64, actives=lambda k: None):
    torch.manual_seed(0)
    params = make_params(dtype)
    optimizer = make_optimizer(params)
    generator = torch.Generator().manual_seed(1)
    for k in range(steps):
        loss = backward(params, generator, actives(k))
        optimizer.step(**({"loss": loss} if isinstance(optimizer, MomoAdam) else {}))
    return torch.cat([p.detach().reshape(-1) for p in params]), optimizer, params


EXACT = [(torch.float64, True, 0.0), (torch.float32, True, 0.0), (torch.float64, False, 1e-13)]


@pytest.mark.parametrize(("dtype", "fused", "tolerance"), EXACT, ids=["f64-fused", "f32-fused", "f64-plain"])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.9), (0.5, 0.0)])
def test_always_capped_is_adam(dtype, fused, tolerance, betas):
    """Always capped, MomoAdam equals torch's fused Adam to the bit after 50 steps, and its plain Adam to rounding."""
    ours, _, _ = run(lambda p: MomoAdam(p, lr=0.05, betas=betas, lower_bound=NO_BOUND), dtype=dtype)
    theirs, _, _ = run(lambda p: torch.optim.Adam(p, lr=0.05, betas=betas, fused=fused, foreach=False), dtype=dtype)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "fused", "tolerance"), EXACT, ids=["f64-fused", "f32-fused", "f64-plain"])
def test_always_capped_with_adamw_decay_is_adamw(dtype, fused, tolerance):
    # AdamW's fused kernel decays inside; a float32 product of the same numbers may round differently once a step.
    tolerance = max(tolerance, {torch.float64: 1e-13, torch.float32: 2e-6}[dtype])
    ours, _, _ = run(
        lambda p: MomoAdam(p, lr=0.05, weight_decay=0.3, weight_decay_form="adamw", lower_bound=NO_BOUND), dtype=dtype
    )
    theirs, _, _ = run(
        lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.3, fused=fused, foreach=False), dtype=dtype
    )
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_late_parameter_always_capped_is_adam():
    """A parameter with its first gradient at step 5 has a bias correction of its own, as in Adam."""

    def actives(k):
        return [0, 1, 3] if k < 5 else [0, 1, 2, 3]

    ours, _, _ = run(lambda p: MomoAdam(p, lr=0.05, lower_bound=NO_BOUND), actives=actives)
    theirs, _, _ = run(lambda p: torch.optim.Adam(p, lr=0.05, fused=True), actives=actives)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_state_has_the_names_and_layout_of_adam():
    """Per-parameter state has the dtypes, strides and values of torch's Adam, so that tools made for Adam read it."""
    _, ours, our_params = run(lambda p: MomoAdam(p, lr=0.05, lower_bound=NO_BOUND), steps=3)
    _, theirs, their_params = run(lambda p: torch.optim.Adam(p, lr=0.05, fused=True), steps=3)
    for p, q in zip(our_params, their_params, strict=True):
        assert list(ours.state[p]) == list(theirs.state[q]) == ["step", "exp_avg", "exp_avg_sq"]
        for name, tensor in ours.state[p].items():
            other = theirs.state[q][name]
            assert (tensor.dtype, tensor.shape, tensor.stride()) == (other.dtype, other.shape, other.stride())
            assert torch.equal(tensor, other)
