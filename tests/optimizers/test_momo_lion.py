"""Settings in which MomoLion equals a known method, and what an update of its own must do."""

import itertools

import pytest
import torch
from optimizer_cases import backward, make_params
from torch import nn

from hf_momo import MomoLion, create_optimizer
from hf_momo.kernels import compiled, slices
from hf_momo.optimizers.registry import parse_optim_args

# Makes the numerator of the step size huge, so that the cap is always binding.
NO_BOUND = -1e12
SHAPES = ((3, 4), (5,), (), (2, 1, 3), (37, 91), (0, 3))


class PlainLion(torch.optim.Optimizer):
    """Lion as in the paper's Algorithm 2, by the operations of its authors' implementation, all tensors at once.

    16-bit parameters are computed in float32 and rounded once.
    """

    def __init__(self, params, lr, betas, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                self.state[p].setdefault("exp_avg", torch.zeros_like(p))
            averages = [self.state[p]["exp_avg"] for p in params]
            (beta1, beta2), lr = group["betas"], group["lr"]
            for p in params:
                p.mul_(1 - lr * group["weight_decay"])  # torch._foreach_mul_ would round the factor to 16 bits
            wide, grads, kept = (
                [t.to(torch.promote_types(t.dtype, torch.float32)) for t in tensors]
                for tensors in (params, [p.grad for p in params], averages)
            )
            updates = torch._foreach_mul(kept, beta1)
            torch._foreach_add_(updates, grads, alpha=1 - beta1)
            torch._foreach_sign_(updates)
            torch._foreach_copy_(params, torch._foreach_add(wide, updates, alpha=-lr))
            kept = torch._foreach_mul(kept, beta2)
            torch._foreach_copy_(averages, torch._foreach_add(kept, grads, alpha=1 - beta2))


def with_gaps(p):
    """The same values in memory with gaps, which no kernel walks as flat memory."""
    return torch.stack([p, p], dim=-1)[..., 0]


def run(make, dtype=torch.float64, *, steps=50, strided=False):
    torch.manual_seed(0)
    params = make_params(dtype, SHAPES)
    if strided:
        params = [nn.Parameter(with_gaps(p.detach())) for p in params]
    optimizer = make(params)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        loss = backward(params, generator)
        optimizer.step(**({"loss": loss} if isinstance(optimizer, MomoLion) else {}))
    if isinstance(optimizer, MomoLion):
        assert optimizer.last_step.capped_steps == steps
    return params, [optimizer.state[p].get("exp_avg", torch.zeros(0)) for p in params]


def groups(params):
    return [{"params": params[:2], "lr": 0.02, "weight_decay": 0.1}, {"params": params[2:], "lr": 0.005}]


@pytest.mark.parametrize("kernel", ["eager", "compiled"])
@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.9, 0.9), (0.95, 0.5)])
@pytest.mark.parametrize(
    ("dtype", "strided"),
    [
        *((dtype, False) for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)),
        (torch.float32, True),
    ],
    ids=str,
)
def test_always_capped_is_lion(kernel, betas, dtype, strided):
    """Always capped, the parameters are those of Lion to the bit after 50 steps, in groups of any dtype and shape.

    The averages may differ in the last bit, since torch's fused kernels round the end of a tensor in another way.
    """
    ours, averages = run(
        lambda p: MomoLion(groups(p), betas=betas, lower_bound=NO_BOUND, kernel=kernel), dtype, strided=strided
    )
    theirs, expected = run(lambda p: PlainLion(groups(p), lr=1.0, betas=betas), dtype, strided=strided)
    assert all(map(torch.equal, ours, theirs))
    eps = torch.finfo(dtype).eps
    for actual, average in zip(averages, expected, strict=True):
        torch.testing.assert_close(actual, average, rtol=2 * eps, atol=2 * eps)


@pytest.mark.parametrize("kernel", ["eager", "compiled"])
def test_betas_of_0_are_sign_descent_without_an_average(kernel):
    """With betas of 0 each element moves by ``lr`` against the sign of its gradient, and no average is kept."""
    ours, averages = run(lambda p: MomoLion(p, lr=0.01, betas=(0.0, 0.0), lower_bound=NO_BOUND, kernel=kernel))
    theirs, _ = run(lambda p: PlainLion(p, lr=0.01, betas=(0.0, 0.0)))
    assert all(map(torch.equal, ours, theirs))
    assert not any(average.numel() for average in averages)


def test_uncapped_step_reaches_the_bound():
    """At the first step, where the model is the linear model of the batch, the step ends where that is the bound."""
    x = nn.Parameter(torch.tensor([3.0, -4.0], dtype=torch.float64))
    optimizer = MomoLion([x], lr=10.0, lower_bound=4.0)
    loss = x.square().sum()
    loss.backward()
    optimizer.step(loss=loss)
    assert optimizer.last_step.step_size[0] == pytest.approx((25 - 4) / (6 + 8), rel=1e-15)
    assert not optimizer.last_step.capped


def test_pieces_of_any_size_give_the_same_bits(monkeypatch):
    """Torch's kernels get many small tensors in one list and a large one in pieces."""
    ends = []
    for size in (1 << 18, 64):
        monkeypatch.setattr(slices, "_CPU_ELEMENTS", size)
        ends.append(run(lambda p: MomoLion(p, lr=0.01, lower_bound=NO_BOUND, kernel="eager"), steps=5)[0])
    assert all(map(torch.equal, *ends))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_compiled_update_reaches_every_element_once(monkeypatch, threads, dtype):
    """Each element moves by the rate, in tensors of every size, for any number of threads, and a skip moves none."""
    monkeypatch.setattr(compiled, "_ELEMENTS_OF_A_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for size, expanded in itertools.product((1, 15, 1023, 1025, 40_000), (False, True)):
            params = [torch.zeros(n, dtype=dtype) for n in (size, 3, size)]
            grads = [torch.ones((), dtype=dtype).expand(p.shape) if expanded else torch.ones_like(p) for p in params]
            averages = [torch.zeros_like(p) for p in params]
            versions = [p._version for p in params]
            for skip in (1.0, 0.0):
                left = compiled.update_sign(
                    *(params, grads, averages),
                    **{"betas": (0.9, 0.75), "lr": torch.tensor(0.5), "skip": torch.tensor(skip)},
                )
                assert list(left) == []
                for p, average in zip(params, averages, strict=True):
                    assert p.tolist() == [-0.5 * (1 - skip)] * p.numel()
                    assert average.tolist() == [0.25 * (1 - skip)] * p.numel()
            assert all(p._version > version for p, version in zip(params, versions, strict=True))
    finally:
        torch.set_num_threads(before)


NO_ESTIMATE = r"adapt_lower_bound.*\(the estimate of the lower bound rests on a quadratic metric"


def test_the_estimated_bound_is_refused_with_the_reason():
    """As an argument, an option of a group, an option of ``create_optimizer`` and of the Trainer."""
    param = nn.Parameter(torch.ones(2))
    with pytest.raises(TypeError, match=NO_ESTIMATE):
        MomoLion([param], adapt_lower_bound=True)
    with pytest.raises(TypeError, match=NO_ESTIMATE):
        MomoLion([{"params": [param], "adapt_lower_bound": True}])
    with pytest.raises(TypeError, match=NO_ESTIMATE):
        create_optimizer("momo_lion", [param], adapt_lower_bound=True)
    with pytest.raises(ValueError, match=NO_ESTIMATE):
        parse_optim_args("momo_lion", "adapt_lower_bound=true")


@pytest.mark.parametrize(
    ("betas", "message"), [((0.9, 1.0), r"betas\[1\]: got 1.0, must be in \[0, 1\)"), (0.9, "must be two numbers")]
)
def test_betas_are_checked(betas, message):
    with pytest.raises(ValueError, match=message):
        MomoLion([nn.Parameter(torch.ones(2))], betas=betas)
