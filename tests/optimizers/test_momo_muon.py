"""MomoMuon: what it reduces to, what it minimises, how groups are split, and what it refuses."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import peak_memory
from torch import nn

from hf_momo import MomoAdam, MomoMuon
from hf_momo.optimizers import newton_schulz
from hf_momo.optimizers.muon_halves import MuonDirection

NO_BOUND = -1e12
MATRICES = ((6, 4), (4, 6), (1, 5), (5, 1), (7, 7), (130, 61))
VECTORS = ((5,), (), (2, 1, 3))

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")


def make_params(dtype, shapes=(*MATRICES, *VECTORS)):
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=torch.float64).to(dtype)) for shape in shapes]


def train(params, optimizers, steps=50, loss=None):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)
        for optimizer in optimizers:
            optimizer.step(**({"loss": loss} if isinstance(optimizer, MomoMuon) else {}))
    return [param.detach().clone() for param in params]


def of_torch(params, *, nesterov, adjust_lr_fn, decays, lr=0.01):
    """Torch's Muon on the matrices and its AdamW on the rest, the first half of each with weight decay."""
    optimizers = []
    for decay, each in zip(decays, (params[::2], params[1::2]), strict=True):
        matrices, rest = [p for p in each if p.ndim == 2], [p for p in each if p.ndim != 2]
        optimizers += [
            torch.optim.Muon(matrices, lr, decay, momentum=0.95, nesterov=nesterov, adjust_lr_fn=adjust_lr_fn),
            torch.optim.AdamW(rest, lr, betas=(0.95, 0.98), weight_decay=decay, foreach=False, fused=True),
        ]
    return optimizers


def ours(params, *, decays, lr=0.01, **options):
    groups = [{"params": params[::2], "weight_decay": decays[0]}, {"params": params[1::2], "weight_decay": decays[1]}]
    options = {"ns_dtype": "bfloat16", "betas": (0.95, 0.98), "lower_bound": NO_BOUND, **options}
    return MomoMuon(groups, lr, **options)


@needs_muon
@pytest.mark.parametrize("adjust_lr_fn", ["match_rms_adamw", "original"])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_always_capped_is_torch_s_muon_and_adamw(dtype, nesterov, adjust_lr_fn):
    """After 50 steps matrices of all shapes are equal to the bit, and so is the rest where AdamW does not decay.

    AdamW's fused kernel decays inside, which may round differently. With Nesterov the rest is not AdamW's.
    """
    params, others = make_params(dtype), make_params(dtype)
    options = {"nesterov": nesterov, "adjust_lr_fn": adjust_lr_fn, "decays": (0.3, 0.0)}
    actual, expected = train(params, [ours(params, **options)], loss=1.0), train(others, of_torch(others, **options))
    for index, (one, other) in enumerate(zip(actual, expected, strict=True)):
        if one.ndim == 2 or (index % 2 == 1 and not nesterov):
            assert torch.equal(one, other)
        elif not nesterov:
            torch.testing.assert_close(one, other, rtol=4 * torch.finfo(dtype).eps, atol=50 * torch.finfo(dtype).eps)


@needs_muon
def test_always_capped_in_bfloat16():
    """bfloat16 parameters follow torch's Muon to the rounding of a step.

    Only with Nesterov's momentum: without it torch 2.13 normalizes the average of bfloat16 gradients in place. It also
    rounds the rate to bfloat16, ours is exact, so equal steps are compared, each from the same parameters.
    """
    params = make_params(torch.bfloat16, MATRICES)
    others = make_params(torch.bfloat16, MATRICES)
    mine = ours(params, nesterov=True, decays=(0.1, 0.1))
    theirs = torch.optim.Muon(others, 0.01, 0.1, nesterov=True, adjust_lr_fn="match_rms_adamw")
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        for param, other in zip(params, others, strict=True):
            param.grad = torch.randn(param.shape, generator=generator).bfloat16()
            other.grad = param.grad.clone()
            other.data.copy_(param.data)
        mine.step(loss=1.0)
        theirs.step()
        for param, other in zip(params, others, strict=True):
            torch.testing.assert_close(param, other, rtol=2**-7, atol=2**-9)
            assert torch.equal(mine.state[param]["exp_avg"], theirs.state[other]["momentum_buffer"])


def test_nesterov_half_of_adam():
    """The rest moves by the looked-ahead average over Adam's metric, corrected for its own weights."""
    (param,) = make_params(torch.float64, ((40,),))
    matrix = nn.Parameter(torch.randn(3, 3, dtype=torch.float64))
    optimizer = MomoMuon([matrix, param], 0.01, nesterov=True, betas=(0.9, 0.98), lower_bound=NO_BOUND)
    x, m, v, weights = param.detach().clone(), 0.0, 0.0, 0.0
    generator = torch.Generator().manual_seed(1)
    for k in range(1, 31):
        matrix.grad = torch.randn(3, 3, generator=generator, dtype=torch.float64)
        param.grad = g = torch.randn(40, generator=generator, dtype=torch.float64)
        optimizer.step(loss=1.0)
        d, w = 0.81 * m + 0.19 * g, 0.81 * weights + 0.19
        m, weights, v = 0.9 * m + 0.1 * g, 0.9 * weights + 0.1, 0.98 * v + 0.02 * g * g
        x = x - 0.01 * d / w / ((v / (1 - 0.98**k)).sqrt() + 1e-8)
    torch.testing.assert_close(param.detach(), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(optimizer.state[param]["exp_avg"], m, rtol=0, atol=1e-14)


def test_measured_slope_is_that_of_the_update(monkeypatch):
    """Five Newton-Schulz steps reach 0.7 to 1.15 of the nuclear norm, and the rule gets what they reach."""
    (matrix,) = make_params(torch.float64, ((30, 20),))
    optimizer = MomoMuon([matrix], betas=(0.0, 0.9), adjust_lr_fn="original")
    matrix.grad = torch.randn(30, 20, dtype=torch.float64)
    seen = []
    measure = MuonDirection.measure
    monkeypatch.setattr(MuonDirection, "measure", lambda *args: seen.append(measure(*args)) or seen[0])
    before = matrix.detach().clone()
    optimizer.step(loss=1e6)
    moved = (before - matrix.detach()) / 1e-2
    assert float(seen[0].sums[2]) == pytest.approx(float((matrix.grad * moved).sum()), rel=1e-12)
    ideal = float(torch.linalg.matrix_norm(matrix.grad, "nuc")) * (30 / 20) ** 0.5
    assert 0.7 * ideal < float(seen[0].sums[2]) < 1.15 * ideal


def polar(matrix, *, steps, dtype):
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vh


@pytest.mark.parametrize("nesterov", [False, True])
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    lr=st.sampled_from([1e-2, 0.3, 3.0]),
    decay=st.sampled_from([0.0, 0.1]),
    loss=st.floats(0.0, 9.0),
)
def test_step_minimises_the_truncated_model_over_the_balls(nesterov, seed, lr, decay, loss):
    """No point of the balls is lower, and neither is a shorter step.

    The balls are those of the spectral norm around matrices, decayed, and of Adam's metric around the rest. The exact
    polar factor stands in for the Newton-Schulz steps, whose update is not quite the minimiser over the ball.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newton_schulz, "orthogonalized", polar)
        torch.manual_seed(seed)
        params = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in ((3, 2), (2, 4), (3,))]
        optimizer = MomoMuon(params, lr, weight_decay=decay, nesterov=nesterov, betas=(0.6, 0.95), lower_bound=0.2)
        for k in range(3):
            kept = {p: optimizer.state[p].get("exp_avg", torch.zeros_like(p)).clone() for p in params}
            scalars = {name: float(optimizer.param_groups[0][name]) for name in ("loss_avg", "grad_dot_param_avg")}
            weight_avg = float(optimizer.param_groups[0]["weight_avg"])
            before = [p.detach().clone() for p in params]
            for p in params:
                p.grad = torch.randn_like(p)
            optimizer.step(loss=loss + k)
    model_beta = 0.36 if nesterov else 0.6

    def in_model(old, new):
        return model_beta * old + (1 - model_beta) * new

    ds = [in_model(kept[p], p.grad) for p in params]
    f = in_model(scalars["loss_avg"], loss + 2)
    gamma = in_model(
        scalars["grad_dot_param_avg"], sum(float((p.grad * x).sum()) for p, x in zip(params, before, strict=True))
    )
    floor = in_model(weight_avg, 1.0) * 0.2

    def cut(ys):
        return max(f - gamma + sum(float((d * y).sum()) for d, y in zip(ds, ys, strict=True)), floor)

    centers = [(1 - lr * decay) * x for x in before]
    ends = [p.detach() for p in params]
    reached, slack = cut(ends), 1e-9 * (1 + abs(f) + abs(gamma))
    for _ in range(60):
        points = []
        for p, center, d in zip(params, centers, ds, strict=True):
            move = torch.randn_like(center) if torch.rand(()) < 0.7 else -d + 0.1 * torch.randn_like(center)
            if p.ndim == 2:
                radius = lr * 0.2 * max(p.shape) ** 0.5
                move = move * radius / torch.linalg.matrix_norm(move, 2)
            else:
                metric = (optimizer.state[p]["exp_avg_sq"] / (1 - 0.95**3)).sqrt() + 1e-8
                weights = 1 - model_beta * 0.6**2
                move = move * lr * (d * d / metric).sum().sqrt() / weights / (move * move * metric).sum().sqrt()
            points.append(center + move)
        assert cut(points) >= reached - slack
    t = float(optimizer.param_groups[0]["step_scale"])
    shorter = [center + 0.99 * (end - center) for center, end in zip(centers, ends, strict=True)]
    assert cut(shorter) > reached or t < 1e-9


def test_experts_are_batches_of_matrices():
    """A parameter of three dimensions moves as its matrices would."""
    torch.manual_seed(0)
    experts = nn.Parameter(torch.randn(3, 4, 5, dtype=torch.float64))
    separate = [nn.Parameter(each.clone()) for each in experts.detach()]
    optimizers = [MomoMuon([{"params": experts, "method": "muon"}]), MomoMuon(separate)]
    for _ in range(5):
        experts.grad = torch.randn_like(experts)
        for param, grad in zip(separate, experts.grad, strict=True):
            param.grad = grad.clone()
        for optimizer in optimizers:
            optimizer.step(loss=2.0)
    torch.testing.assert_close(experts.detach(), torch.stack([p.detach() for p in separate]), rtol=0, atol=1e-13)
    assert optimizers[0].last_step.step_size[0] == pytest.approx(optimizers[1].last_step.step_size[0], rel=1e-12)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_convolutions_flattened(memory_format):
    """With ``flatten`` filters move as the matrix of output channels times the rest, whatever their layout."""
    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(4, 3, 2, 2, dtype=torch.float64).to(memory_format=memory_format))
    flat = nn.Parameter(filters.detach().flatten(1).clone())
    optimizers = [MomoMuon([filters], flatten=True), MomoMuon([flat])]
    for _ in range(5):
        filters.grad = torch.randn(4, 3, 2, 2, dtype=torch.float64).to(memory_format=memory_format)
        flat.grad = filters.grad.flatten(1).clone()
        for optimizer in optimizers:
            optimizer.step(loss=2.0)
    torch.testing.assert_close(filters.detach().flatten(1), flat.detach(), rtol=0, atol=1e-13)
    assert filters.is_contiguous(memory_format=memory_format)


class TestGroups:
    def test_plain_parameters_are_split_by_their_shape(self):
        optimizer = MomoMuon(make_params(torch.float32), weight_decay=0.1)
        assert [(g["method"], len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups] == [
            ("muon", len(MATRICES), 0.1),
            ("adam", len(VECTORS), 0.1),
        ]
        assert optimizer.parameter_counts["adam"] == (3, 5 + 1 + 6)

    def test_a_group_that_names_its_method_is_taken_as_it_says(self):
        first, second, third = make_params(torch.float32, ((3, 4), (4, 4), (4,)))
        optimizer = MomoMuon([{"params": [first, third], "method": "adam"}, {"params": second, "method": "muon"}])
        assert [g["params"] for g in optimizer.param_groups] == [[first, third], [second]]

    def test_named_parameters_are_split_by_their_names(self):
        model = nn.ModuleDict({"wte": nn.Linear(4, 8), "body": nn.Linear(4, 4), "lm_head": nn.Linear(4, 8)})
        optimizer = MomoMuon(model.named_parameters())
        names = {group["method"]: group["param_names"] for group in optimizer.param_groups}
        assert names["muon"] == ["body.weight"]

    def test_model_without_matrices(self):
        model = nn.Sequential(nn.Embedding(5, 3), nn.LayerNorm(3))
        with pytest.raises(ValueError, match=r"none of them is a matrix.*Use momo_adam"):
            MomoMuon(model.parameters(), module=model)

    def test_what_went_where_is_logged_once(self, caplog):
        model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 3))
        with caplog.at_level(logging.INFO, "hf_momo"):
            optimizer = MomoMuon(model.parameters(), module=model)
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            optimizer.step(loss=1.0)
        lines = [record.message for record in caplog.records if "MomoMuon" in record.message]
        assert len(lines) == 1
        assert "Muon on 1 matrices (9 elements), Adam on 2 other parameters (18 elements)" in lines[0]

    def test_a_vector_in_a_group_of_matrices(self):
        matrix, vector = make_params(torch.float32, ((3, 4), (4,)))
        with pytest.raises(ValueError, match=r"method: got 'muon' for a parameter of shape \(4,\)"):
            MomoMuon([{"params": [matrix, vector], "method": "muon"}])

    def test_a_group_that_is_refused_leaves_none_behind(self):
        optimizer = MomoMuon(make_params(torch.float32))
        more = make_params(torch.float32, ((2, 2), (2,)))
        with pytest.raises(ValueError, match="eps"):
            optimizer.add_param_group({"params": more, "eps": -1.0})
        assert len(optimizer.param_groups) == 2

    def test_tensor_rates_are_apart(self):
        """A scheduler that multiplies rates in place did so twice for each of the two groups."""
        optimizer = MomoMuon(make_params(torch.float32), torch.tensor(0.1))
        optimizer.param_groups[0]["lr"].mul_(0.5)
        assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([0.05, 0.1])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"momentum": 0.9}, ValueError, r"momentum: got 0.9, but betas\[0\] is 0.95; they must be equal"),
        ({"betas": (1.0, 0.9)}, ValueError, r"betas\[0\]: got 1.0, must be in \[0, 1\)"),
        ({"ns_steps": 0}, ValueError, "ns_steps: got 0"),
        ({"ns_dtype": "float16"}, ValueError, "ns_dtype: got 'float16', must be one of 'auto'"),
        ({"adjust_lr_fn": None}, ValueError, "adjust_lr_fn: got None, must be one of 'match_rms_adamw', 'original'"),
        ({"nesterov": 1}, TypeError, "nesterov: got 1, must be True or False"),
        ({"sharded": True}, NotImplementedError, "needs whole tensors.*use FSDP2"),
        ({"adapt_lower_bound": True}, TypeError, r"adapt_lower_bound: .*rests on a quadratic metric"),
    ],
)
def test_options_refused(options, error, message):
    with pytest.raises(error, match=message):
        MomoMuon(make_params(torch.float32), **options)


def test_groups_disagree_in_momentum():
    params = make_params(torch.float32, ((3, 4), (4, 4)))
    with pytest.raises(ValueError, match=r"momentum: got 0\.9, but betas"):
        MomoMuon([{"params": params[:1]}, {"params": params[1:], "momentum": 0.9}])
    groups = [{"params": params[:1], "momentum": 0.95}, {"params": params[1:]}]
    assert "momentum" not in MomoMuon(groups, momentum=0.95).param_groups[0]


def test_state_of_another_method():
    """A checkpoint of MomoAdam is refused, and nothing has changed."""
    params = make_params(torch.float32)
    optimizer = MomoMuon(params)
    with pytest.raises(ValueError, match="state_dict: holds the state of MomoAdam"):
        optimizer.load_state_dict(
            MomoAdam([{"params": g["params"]} for g in optimizer.param_groups], lr=1.0).state_dict()
        )


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_memory_of_a_step_is_the_orthogonalized_matrices(dtype):
    """More matrices of one size add the bytes of their orthogonalized copies, and nothing else."""
    peaks = []
    for count in (2, 6):
        params = [nn.Parameter(torch.randn(256, 256)) for _ in range(count)]
        optimizer = MomoMuon(params, ns_dtype=dtype)
        for param in params:
            param.grad = torch.randn_like(param)
        optimizer.step(loss=1.0)
        peaks.append(peak_memory(lambda optimizer=optimizer: optimizer.step(loss=1.0)))
    size = 256 * 256 * (2 if dtype == "bfloat16" else 4)
    assert abs(peaks[1] - peaks[0] - 4 * size) < 64 << 10
