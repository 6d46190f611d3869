"""Learning rates that are tensors, schedulers, weight averaging and gradient scaling, as in torch's own suite."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
import torch
from optimizer_cases import assert_bit_equal, snapshot
from optimizers.torch_problem import Problem, by_input, by_method
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

from hf_momo import LossTap

SCHEDULERS = {
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=20),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, base_lr=0.01, max_lr=0.1),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda k: 1 / (1 + k)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda k: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.5, 1.0, 3),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 10),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)], milestones=[2]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)], o
    ),
}

# torch 2.6 and 2.9 fail, 2.11 passes, 2.10 has not been run. Their schedulers do so with torch's own optimizers too.
needs_tensor_rates = pytest.mark.skipif(
    torch.__version__ < "2.11", reason="schedulers of torch before 2.11 lose a tensor lr or fail on shape (1,)"
)


def weights(problem):
    return torch.cat([param.detach().reshape(-1) for param in problem.params])


# SequentialLR of torch 2.6 calls its schedulers in a way that torch 2.6 itself deprecates.
_OLD_WARNING = pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
pytestmark = [_OLD_WARNING] if torch.__version__ < "2.9" else []


class TestSchedulers:
    def test_table_has_every_scheduler_of_torch(self):
        assert set(lr_scheduler.__all__) - {"LRScheduler"} == SCHEDULERS.keys()

    @needs_tensor_rates
    @by_method
    @pytest.mark.parametrize("shape", [(), (1,)], ids=str)
    @pytest.mark.parametrize("name", SCHEDULERS)
    def test_number_and_tensor(self, cls, shape, name):
        """A tensor ``lr`` is written to in place, and the steps are those of a number.

        ``OneCycleLR`` and ``CyclicLR`` cycle the momentum too, and refused an optimizer without such a key. A tensor
        of shape (1,) crashed in the first step.
        """
        ends, rates = [], []
        for lr in (0.1, torch.full(shape, 0.1)):
            problem = Problem(cls, {})
            problem.optimizer = cls(problem.params, lr=lr, weight_decay=0.1)
            scheduler = SCHEDULERS[name](problem.optimizer)
            rates.append([])
            for _ in range(6):
                problem.run(1)
                rates[-1].append(float(problem.optimizer.param_groups[0]["lr"]))
                scheduler.step(*([1.0] if name == "ReduceLROnPlateau" else []))
            assert problem.optimizer.last_step.num_steps == 6
            ends.append(weights(problem))
        assert problem.optimizer.param_groups[0]["lr"] is lr
        assert lr.shape == shape
        assert any(new != old for new, old in pairwise(rates[0]))
        assert rates[1] == pytest.approx(rates[0], rel=1e-5)
        torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)

    @by_method
    def test_tensor_of_two_elements(self, cls):
        with pytest.raises(ValueError, match="lr: got a tensor of 2 elements; a tensor lr must have 1 element"):
            cls([nn.Parameter(torch.ones(2))], lr=torch.ones(2))

    @by_method
    def test_momenta_that_differ_between_groups(self, cls):
        """Groups with different momenta, from a scheduler or a checkpoint, were all stepped with the first one's."""
        problem = Problem(cls, {})
        problem.optimizer = optimizer = cls([{"params": [param]} for param in problem.params], lr=0.1)
        lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, base_momentum=[0.8, 0.7], max_momentum=[0.9, 0.85])
        with pytest.raises(ValueError, match=r"(beta|betas|momentum): got .* must be the same in all of them"):
            problem.run(1)

    @by_method
    @pytest.mark.parametrize(
        "lr", [0.1, pytest.param(torch.tensor(0.1), marks=needs_tensor_rates)], ids=["number", "tensor"]
    )
    @pytest.mark.parametrize("name", SCHEDULERS)
    def test_continues_to_the_bit(self, cls, lr, name):
        """A run continued with a new optimizer and scheduler from state dicts equals the unbroken run."""
        problems = [Problem(cls, {"lr": lr}) for _ in range(2)]
        schedulers = [SCHEDULERS[name](problem.optimizer) for problem in problems]

        def run(at):
            for _ in range(3):
                problems[at].run(1)
                schedulers[at].step(*([1.0] if name == "ReduceLROnPlateau" else []))

        run(0)
        for param, other in zip(*(problem.params for problem in problems), strict=True):
            other.data.copy_(param.data)
        saved, buffer = [problems[0].optimizer.state_dict(), schedulers[0].state_dict()], io.BytesIO()
        torch.save(saved, buffer)
        buffer.seek(0)
        state, schedule = torch.load(buffer, weights_only=False)
        problems[1].optimizer.load_state_dict(state)
        schedulers[1].load_state_dict(schedule)
        for at in range(2):
            run(at)
        assert_bit_equal(*(snapshot(problem.optimizer) for problem in problems))


class TestAveragedModels:
    @by_input
    @pytest.mark.parametrize("average", ["mean", "ema"])
    def test_beside_training(self, cls, options, average):
        """The average is of the weights after each step, SWALR reaches its rate, and training is unchanged."""
        problem, alone = Problem(cls, options), Problem(cls, options)
        model = nn.ParameterList(problem.params)
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5) if average == "ema" else None)
        schedulers = [SWALR(each.optimizer, swa_lr=0.05, anneal_epochs=3) for each in (problem, alone)]
        seen = []
        for _ in range(5):
            for each, scheduler in zip((problem, alone), schedulers, strict=True):
                each.run(1)
                scheduler.step()
            averaged.update_parameters(model)
            seen.append(weights(problem))
        expected = seen[0] if average == "ema" else torch.stack(seen).mean(dim=0)
        for each in seen[1:] if average == "ema" else []:
            expected = (expected + each) / 2
        torch.testing.assert_close(torch.cat([p.reshape(-1) for p in averaged.module]).detach(), expected)
        assert float(problem.optimizer.param_groups[0]["lr"]) == pytest.approx(0.05)
        assert_bit_equal(snapshot(problem.optimizer), snapshot(alone.optimizer))


class TestGradScaler:
    @by_input
    @pytest.mark.parametrize("through", ["loss", "tap"])
    @pytest.mark.parametrize("set_to_none", [True, False])
    def test_scaled_and_skipped_steps(self, cls, options, through, set_to_none):
        """Steps scaled by a power of two equal unscaled ones to the bit; a step that overflows changes nothing."""
        problem, plain, tap = Problem(cls, options), Problem(cls, options), LossTap()
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126, backoff_factor=2.0**-110, growth_interval=100)
        if through == "tap":
            tap.attach(problem.optimizer)
        skipped = False
        for step in range(5):
            before, scale = snapshot(problem.optimizer), scaler.get_scale()
            problem.optimizer.zero_grad(set_to_none=set_to_none)
            loss = problem.loss()
            tap.record(loss.detach(), ends_window=True, step_was_skipped=skipped)
            scaler.scale(loss).backward()
            scaler.step(problem.optimizer, **({"loss": loss.detach()} if through == "loss" else {}))
            scaler.update()
            skipped = scaler.get_scale() < scale
            assert skipped == (step == 0)
            if skipped:
                assert_bit_equal(snapshot(problem.optimizer), before)
            else:
                plain.run(1)
        assert problem.optimizer.last_step.num_steps == 4
        assert problem.optimizer.last_step.skipped_steps == 0
        assert_bit_equal(snapshot(problem.optimizer), snapshot(plain.optimizer))
