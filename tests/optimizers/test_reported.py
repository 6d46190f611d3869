"""Reported failures of the optimizers, each tried on every method of the table."""

from __future__ import annotations

import copy

import pytest
import torch
from optimizer_cases import VARIANTS, assert_matches, backward, gradients, make_oracle, make_params
from torch import nn

from hf_momo import Momo, MomoAdam

by_variant = pytest.mark.parametrize(("cls", "options"), VARIANTS.values(), ids=VARIANTS.keys())
with_state = pytest.mark.parametrize(
    ("cls", "options"),
    [
        pytest.param(cls, options, id=name)
        for name, (cls, options) in VARIANTS.items()
        if cls.direction.state_names(cls([torch.ones(1)], **options).param_groups[0])
    ],
)


def kernels(cls):
    return [name for name in cls.direction.kernels if name in ("eager", "compiled")]


def step(optimizer, *, loss=1.0):
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.randn_like(param)
    optimizer.step(loss=loss)


class TestResizedParameters:
    """``resize_token_embeddings`` gives the same Parameter data of another shape.

    The compiled kernel then read the state out of bounds: it crashed, or every step was skipped silently.
    """

    @with_state
    @pytest.mark.parametrize("rows", [30_000, 3])
    def test_other_number_of_rows(self, cls, options, rows):
        for kernel in kernels(cls):
            weight = nn.Parameter(torch.randn(1_000, 8))
            optimizer = cls([weight, nn.Parameter(torch.randn(5))], kernel=kernel, **options)
            step(optimizer)
            weight.grad = None
            weight.data = torch.zeros(rows, 8)
            message = rf"has shape \({rows}, 8\), but its optimizer state has shape \(1000, 8\).*after resizing"
            with pytest.raises(ValueError, match=message):
                step(optimizer)

    @by_variant
    def test_gradient_of_the_old_size(self, cls, options):
        """If the data is replaced between ``backward`` and ``step``, the gradient still has the old shape."""
        for kernel in kernels(cls):
            weight = nn.Parameter(torch.randn(1_000, 8))
            optimizer = cls([weight], kernel=kernel, **options)
            weight.grad = torch.randn_like(weight)
            weight.data = torch.zeros(2_000, 8)
            with pytest.raises(ValueError, match=r"shape \(2000, 8\), but its gradient has shape \(1000, 8\)"):
                optimizer.step(loss=1.0)

    @with_state
    def test_checkpoint_of_another_size(self, cls, options):
        """A state dict of other shapes was loaded without a check."""
        small, large = (cls([nn.Parameter(torch.randn(rows, 4))], **options) for rows in (3, 5))
        step(small)
        before = large.state_dict()
        with pytest.raises(ValueError, match=r"state_dict: exp_avg has shape \(3, 4\), but the parameter has .*5, 4"):
            large.load_state_dict(small.state_dict())
        assert large.state_dict().keys() == before.keys()
        assert not large.state


class TestFrozenInMidTraining:
    """A layer frozen after some steps had moved by 0.13 and decayed 200 steps later."""

    @by_variant
    @pytest.mark.parametrize("decay", [0.0, 0.3])
    def test_matches_the_oracle(self, cls, options, decay):
        params = make_params()
        optimizer = cls([{"params": params[:2]}, {"params": params[2:], "lr": 0.02}], weight_decay=decay, **options)
        oracle = make_oracle(optimizer)
        generator = torch.Generator().manual_seed(1)
        ours = [p for group in oracle.groups for p in group.params]
        for k in range(12):
            frozen = 4 <= k < 9
            params[1].requires_grad_(not frozen)
            ours[1].frozen = frozen
            before = params[1].detach().clone()
            loss = backward(params, generator, [0, 2, 3] if frozen else None)
            optimizer.step(loss=loss)
            oracle.step(float(loss), gradients(optimizer))
            assert_matches(optimizer, oracle, 1e-12)
            assert torch.equal(params[1], before) == frozen

    @by_variant
    def test_a_whole_group(self, cls, options):
        params = make_params()
        optimizer = cls([{"params": params[:2]}, {"params": params[2:]}], weight_decay=0.3, **options)
        generator = torch.Generator().manual_seed(1)
        optimizer.step(loss=backward(params, generator))
        for param in params[2:]:
            param.requires_grad_(False)
        before = [param.detach().clone() for param in params]
        for _ in range(3):
            optimizer.step(loss=backward(params, generator, [0, 1]))
        assert [torch.equal(param, old) for param, old in zip(params, before, strict=True)] == [
            False,
            False,
            True,
            True,
        ]


class TestStateDicts:
    @by_variant
    def test_snapshot_is_not_changed_by_training(self, cls, options):
        """Accelerate's resume tests keep a ``state_dict()`` from before training, which training changed."""
        optimizer = cls(make_params(), **options)
        taken = optimizer.state_dict()
        kept = copy.deepcopy(taken)
        for _ in range(3):
            step(optimizer)
        assert taken["param_groups"] == kept["param_groups"]
        optimizer.load_state_dict(taken)
        assert optimizer.last_step.num_steps == 0

    @by_variant
    def test_pre_hooks_run_first(self, cls, options):
        """A pre-hook may build ``param_groups``, which were read before the hook ran."""
        source, optimizer = (cls(make_params(), **options) for _ in range(2))
        step(source)
        optimizer.register_load_state_dict_pre_hook(lambda _, wrapped: wrapped["inner"])
        optimizer.load_state_dict({"inner": source.state_dict()})
        assert optimizer.last_step.num_steps == 1

    @by_variant
    def test_step_as_a_plain_number(self, cls, options):
        """Older checkpoints hold ``step`` as a number, which torch converts; the next step failed here."""
        optimizer = cls(make_params(), **options)
        step(optimizer)
        saved = optimizer.state_dict()
        for entry in saved["state"].values():
            entry["step"] = 1
        optimizer.load_state_dict(saved)
        step(optimizer)
        assert all(float(entry["step"]) == 2.0 for entry in optimizer.state.values())

    @pytest.mark.parametrize(
        ("source", "target", "message"),
        [
            (torch.optim.AdamW, MomoAdam, r"holds the state of AdamW .*which MomoAdam cannot load \(no .*loss_avg"),
            (torch.optim.SGD, Momo, r"an optimizer with the options lr, momentum.*which Momo cannot load"),
            (Momo, MomoAdam, r"the state of Momo, which MomoAdam cannot load \(no betas"),
            (MomoAdam, Momo, r"the state of MomoAdam, which Momo cannot load \(no momentum"),
        ],
    )
    def test_of_another_optimizer(self, source, target, message):
        """``--resume_from_checkpoint`` with another ``--optim`` ended in ``KeyError: 'step_size'``."""
        params = make_params(torch.float32)
        first = source(params, lr=0.1)
        for param in params:
            param.grad = torch.ones_like(param)
        first.step(loss=1.0) if source.__module__.startswith("hf_momo") else first.step()
        optimizer = target(params)
        with pytest.raises(ValueError, match=message) as raised:
            optimizer.load_state_dict(first.state_dict())
        assert "from the saved weights alone" in str(raised.value)
        assert "load_adamw_state_dict" in str(raised.value)
        step(optimizer)
        assert optimizer.last_step.num_steps == 1


class TestBelowTheBound:
    @by_variant
    def test_steps_of_size_0_are_counted(self, cls, options):
        """Negative losses (policy gradients, densities) made every step 0, and no counter showed it."""
        params = make_params(torch.float32)
        optimizer = cls(params, **options)
        before = [param.detach().clone() for param in params]
        for _ in range(5):
            for param in params:
                param.grad = 1e-6 * torch.ones_like(param)
            optimizer.step(loss=-2.0)
        last = optimizer.last_step
        assert (last.num_steps, last.zero_steps, last.skipped_steps) == (5, 5, 0)
        assert set(last.step_size) == {0.0}
        assert all(torch.equal(param, old) for param, old in zip(params, before, strict=True))
        for group in optimizer.param_groups:
            group["lower_bound"].fill_(-10.0)
        step(optimizer, loss=-2.0)
        assert optimizer.last_step.zero_steps == 5

    @by_variant
    def test_steps_at_learning_rate_0_are_not_counted(self, cls, options):
        """A step at learning rate 0, as in warm-up, is not counted as below the bound."""
        optimizer = cls(make_params(torch.float32), **{**options, "lr": 0.0}, lower_bound=-5.0)
        step(optimizer)
        assert optimizer.last_step.zero_steps == 0
