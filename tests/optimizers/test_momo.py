"""Settings in which Momo equals a known method."""

import pytest
import torch
from optimizer_cases import backward, make_params

from hf_momo import Momo

# Makes the numerator of the step size huge, so that the cap is always binding.
NO_BOUND = -1e12


def run(make_optimizer, steps=50, dtype=torch.float64):
    torch.manual_seed(0)
    params = make_params(dtype)
    optimizer = make_optimizer(params)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        loss = backward(params, generator)
        optimizer.step(**({"loss": loss} if isinstance(optimizer, Momo) else {}))
    return torch.cat([p.detach().reshape(-1) for p in params])


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(("dtype", "fused"), [(torch.float64, False), (torch.float64, True), (torch.float32, True)])
def test_always_capped_is_sgd_with_momentum(beta, dtype, fused):
    """Always capped, Momo is ``SGD(momentum=beta, dampening=beta)``, to the bit after 50 steps."""
    ours = run(lambda p: Momo(p, lr=0.05, beta=beta, lower_bound=NO_BOUND), dtype=dtype)
    theirs = run(
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=beta, dampening=beta, foreach=False, fused=fused), dtype=dtype
    )
    # torch's unfused SGD multiplies before it adds where the fused one has one rounding.
    torch.testing.assert_close(ours, theirs, rtol=0 if fused else 1e-14, atol=0 if fused else 1e-15)


def test_group_lrs_stay_caps_of_their_own():
    """Always capped, each group is SGD at its own lr."""

    def groups(params):
        return [{"params": params[:2], "lr": 0.02}, {"params": params[2:], "lr": 0.1}]

    ours = run(lambda p: Momo(groups(p), lower_bound=NO_BOUND))
    theirs = run(lambda p: torch.optim.SGD(groups(p), lr=1.0, momentum=0.9, dampening=0.9, fused=True))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("lr", [0.01, 0.3, 100.0])
def test_without_momentum_is_the_capped_polyak_step(lr):
    """Beta 0: ``x - min(lr, (f - bound) / ||g||^2) g``; no momentum buffer is kept."""
    bound = 0.05
    torch.manual_seed(0)
    params = make_params()
    optimizer = Momo(params, lr=lr, beta=0.0, lower_bound=bound)
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        loss = backward(params, generator)
        norm_sq = sum(float(p.grad.square().sum()) for p in params)
        step = min(lr, max(0.0, float(loss) - bound) / norm_sq)
        expected = [p.detach() - step * p.grad for p in params]
        # The rule works with <d,x> - <g,x>, which is 0 here but for the rounding of the two.
        rounding = 1e-15 * (1 + sum(float((p.detach() * p.grad).abs().sum()) for p in params) / norm_sq)
        optimizer.step(loss=loss)
        for p, e in zip(params, expected, strict=True):
            torch.testing.assert_close(p.detach(), e, rtol=1e-15, atol=rounding * (1 + float(p.grad.abs().max())))
        assert optimizer.last_step.step_size[0] == pytest.approx(step, rel=1e-14, abs=rounding)
    assert set(optimizer.state[params[0]]) == {"step"}


def test_first_step_from_the_first_sample_is_a_polyak_step():
    """The averages start at the first sample, so the first step has the full gradient for any beta."""
    x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = Momo([x], lr=1.0, beta=0.99)
    loss = x.square().sum()
    loss.backward()
    optimizer.step(loss=loss)
    assert x.tolist() == [1.5, 2.0]
    assert optimizer.last_step.step_size == (0.25,)
    assert not optimizer.last_step.capped
