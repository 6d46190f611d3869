"""A step whose loss, gradients or sums are not finite changes nothing but a count."""

import math

import pytest
import torch
from optimizer_cases import VARIANTS, assert_bit_equal, make_params, snapshot, supported

STEPS = 4
OPTIONS = {"given": {"weight_decay": 0.1}, "estimated": {"weight_decay": 0.1, "adapt_lower_bound": True}}

by_variant = pytest.mark.parametrize(("cls", "variant"), VARIANTS.values(), ids=VARIANTS.keys())
by_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def poison_loss(value):
    def poison(batch):
        batch["loss"] = torch.tensor(value)

    return poison


def poison_grad(index, position, value):
    def poison(batch):
        batch["grads"][index].view(-1)[position] = value

    return poison


def overflow_of_one_sum(batch):
    """Make gradients finite but their inner product with the parameters (2 and more) infinite."""
    batch["grads"][1].fill_(3e38)


def overflow_of_the_total(batch):
    """Make the sum of each group finite and the total infinite, with parameters of 1e20 (see ``start``)."""
    for index in (2, 3):
        batch["grads"][index].view(-1)[0] = 2.0e18


def poison_weight(batch):
    batch["weight"] = torch.tensor(math.nan)


POISONS = {
    "loss-nan": poison_loss(math.nan),
    "loss-inf": poison_loss(math.inf),
    "loss-minus-inf": poison_loss(-math.inf),
    "first-grad-nan": poison_grad(0, 0, math.nan),
    "first-grad-inf": poison_grad(0, 3, math.inf),
    "last-grad-minus-inf": poison_grad(3, -1, -math.inf),
    "scalar-grad-nan": poison_grad(2, 0, math.nan),
    "sum-overflow": overflow_of_one_sum,
    "total-overflow": overflow_of_the_total,
    "weight-nan": poison_weight,
}


def start(cls, options):
    torch.manual_seed(0)
    params = make_params(torch.float32)
    with torch.no_grad():
        params[1].abs_().add_(2.0)
        params[2].fill_(1e20)
        params[3].view(-1)[0] = 1e20
    groups = [{"params": params[:3]}, {"params": params[3:], "lr": 0.1, "weight_decay": 0.0}]
    return params, cls(groups, **supported(cls, options))


def batches():
    generator = torch.Generator().manual_seed(2)
    shapes = [p.shape for p in make_params()]
    for k in range(STEPS):
        grads = [torch.randn(shape, generator=generator) for shape in shapes]
        # Small gradients keep the inner products with parameters of 1e20 in range.
        grads[2].mul_(1e-20)
        grads[3].view(-1)[0] *= 1e-20
        yield {"loss": torch.tensor(2.0 + k % 3), "grads": grads, "weight": torch.tensor(1.0)}


def apply(optimizer, params, batch):
    for p, grad in zip(params, batch["grads"], strict=True):
        p.grad = grad.clone()
    optimizer.step(loss=batch["loss"], sample_weight=batch["weight"])


@by_variant
@by_options
@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS.keys())
@pytest.mark.parametrize("at", [0, 2])
def test_changes_nothing_but_the_count(cls, variant, options, poison, at):
    """Only the count changes, to the bit, and the rest of the run equals the run without the batch."""
    params, optimizer = start(cls, {**variant, **options})
    clean_params, clean_optimizer = start(cls, {**variant, **options})
    for k, batch in enumerate(batches()):
        if k == at:
            before = snapshot(optimizer)
            bad = next(b for j, b in enumerate(batches()) if j == k)
            poison(bad)
            apply(optimizer, params, bad)
            after = snapshot(optimizer)
            made = {name: tensor for name, tensor in after.items() if name not in before}
            assert_bit_equal({n: after[n] for n in before}, before, but=["skipped_steps"])
            # At the first step the state is made, all zeros.
            assert all(not bool(tensor.any()) for tensor in made.values())
            assert bool(made) == (at == 0)
            assert optimizer.last_step.skipped_steps == 1
        apply(optimizer, params, batch)
        apply(clean_optimizer, clean_params, batch)
    assert optimizer.last_step.num_steps == STEPS
    assert_bit_equal(snapshot(optimizer), snapshot(clean_optimizer), but=["skipped_steps"])
    assert clean_optimizer.last_step.skipped_steps == 0
    assert optimizer.last_step.skipped_steps == 1


@by_variant
def test_skips_are_counted_one_by_one(cls, variant):
    params, optimizer = start(cls, variant)
    for batch in batches():
        batch["loss"] = torch.tensor(math.nan)
        apply(optimizer, params, batch)
    assert optimizer.last_step.skipped_steps == STEPS
    assert optimizer.last_step.num_steps == 0
    assert not optimizer.last_step.capped


def test_a_python_float_loss_is_skipped_too():
    params, optimizer = start(*VARIANTS["momo"])
    batch = next(batches())
    batch["loss"] = math.inf
    apply(optimizer, params, batch)
    assert optimizer.last_step.skipped_steps == 1


@pytest.mark.parametrize("name", ["momo-beta-0", "adam-proximal"])
def test_sample_weight_of_zero_without_an_estimate_to_divide(name):
    """A first batch of sample weight 0 gives no estimate of the bound, which would be 0 / 0."""
    params, optimizer = start(VARIANTS[name][0], {**VARIANTS[name][1], "adapt_lower_bound": True})
    batch = next(batches())
    batch["weight"] = torch.tensor(0.0)
    for grad in batch["grads"]:
        grad.zero_()
    before = [p.detach().clone() for p in params]
    apply(optimizer, params, batch)
    assert optimizer.last_step.skipped_steps == 1
    assert optimizer.last_step.lower_bound == 0.0
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
