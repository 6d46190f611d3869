"""The sample weight: gradients that were scaled after ``backward`` (clipping), with a loss that was not."""

import pytest
import torch
from optimizer_cases import CASES, assert_near, backward, make_params

from hf_momo import Momo


@pytest.mark.parametrize(("cls", "options"), [case[:2] for case in CASES], ids=[case[2] for case in CASES])
@pytest.mark.parametrize("weight", [0.3, 1e-3])
def test_constant_weight_is_a_scaled_loss(cls, options, weight):
    """Scaling gradient, loss and bound alike changes only the unit of the loss, not the path."""
    ends = []
    for as_weight in (True, False):
        torch.manual_seed(0)
        params = make_params()
        bound = options.get("lower_bound", 0.0)
        scaled = options if as_weight else {**options, "lower_bound": weight * bound}
        optimizer = cls(params, **scaled)
        generator = torch.Generator().manual_seed(1)
        for _ in range(8):
            loss = backward(params, generator)
            for p in params:
                p.grad.mul_(weight)
            if as_weight:
                optimizer.step(loss=loss, sample_weight=weight)
            else:
                optimizer.step(loss=weight * loss)
        ends.append((torch.cat([p.detach().reshape(-1) for p in params]), optimizer.last_step))
    (path, last), (scaled_path, scaled_last) = ends
    assert_near(path, scaled_path, 1e-9, "parameters")
    assert last.lower_bound * weight == pytest.approx(scaled_last.lower_bound, rel=1e-9)
    assert last.step_size == pytest.approx(scaled_last.step_size, rel=1e-9)


def test_weight_as_a_number_or_a_tensor():
    """The weight may be a tensor of another dtype or of shape (1,), as norms are, with the same bits."""
    forms = [0.5, torch.tensor(0.5), torch.tensor(0.5, dtype=torch.float64), torch.tensor([0.5])]
    ends = []
    for form in forms:
        x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        optimizer = Momo([x])
        x.grad = torch.tensor([3.0, 4.0])
        optimizer.step(loss=25.0, sample_weight=form)
        assert optimizer.param_groups[0]["loss_avg"].shape == ()
        ends.append(x.tolist())
    assert ends == [ends[0]] * len(forms)


class TestClipping:
    """The example of f(x) = ||x||^2 at (3, 4): loss 25, gradient (6, 8) of norm 10, cap far away."""

    @staticmethod
    def loss_after_a_step(max_norm, *, weighted):
        x = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
        optimizer = Momo([x], lr=1e6)
        loss = x.square().sum()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([x], max_norm)
        weight = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        optimizer.step(loss=loss, **({"sample_weight": weight} if weighted else {}))
        return float(x.detach().square().sum())

    def test_unclipped(self):
        assert self.loss_after_a_step(100.0, weighted=False) == pytest.approx(6.25)

    def test_clipped_without_a_weight_is_more_aggressive(self):
        assert self.loss_after_a_step(1.0, weighted=False) == pytest.approx(400.0, rel=1e-5)

    def test_clipped_with_its_weight_is_the_step_unclipped(self):
        """Far below the cap the Polyak step does not depend on the scale of the sample."""
        assert self.loss_after_a_step(1.0, weighted=True) == pytest.approx(6.25, rel=1e-12)
