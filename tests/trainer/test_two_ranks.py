"""Two processes with DistributedDataParallel over gloo, started with ``accelerate launch``."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from trainer import two_ranks
from trainer.tiny import (
    Classifier,
    DistillingTrainer,
    Examples,
    class_examples,
    decay_groups,
    marian,
    micro_batches,
    plain_loop,
    text_examples,
)

from hf_momo import Momo, MomoAdam

TESTS = Path(__file__).resolve().parents[1]

Ranks = list[dict[str, Any]]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    """Return the results of every training of ``two_ranks.py``, one dictionary per rank."""
    folder = tmp_path_factory.mktemp("two_ranks")
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    extra = "--dynamo_backend no --main_process_port 0"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")},
        # With --cpu, accelerate starts one process only.
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS.parent / "recipes"))),
        "HF_HUB_OFFLINE": "1",
    }
    result = subprocess.run(
        [sys.executable, *launch.split(), *extra.split(), two_ranks.__file__, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


RUNS = [
    *(f"euler/{name}" for name in two_ranks.EULER),
    *(f"trajectory/{name}" for name in two_ranks.TRAJECTORIES),
    *(f"distilled/{name}" for name in two_ranks.DISTILLED),
    "translation",
    "bad-batch",
    "accelerate-loop",
]


@pytest.mark.parametrize("name", RUNS)
def test_ranks_agree_to_the_bit(ranks: Ranks, name: str) -> None:
    """With each rank's own loss the replicas drift apart, by 0.13 in 100 steps of a small net."""
    first, second = (rank[name] for rank in ranks)
    assert first["scalars"] == second["scalars"]
    assert first["weights"] == second["weights"]


@pytest.mark.parametrize("name", [f"euler/{name}" for name in two_ranks.EULER] + ["accelerate-loop"])
def test_the_mean_over_ranks_is_the_loss_whose_gradient_arrives(ranks: Ranks, name: str) -> None:
    steps = [rank[name]["steps"] for rank in ranks]
    assert len(steps[0]) == len(steps[1]) > 0
    unlike = False
    for (loss, weight, product), (other_loss, other_weight, other_product) in zip(*steps, strict=True):
        assert weight == other_weight
        assert product == pytest.approx(other_product, rel=1e-6)
        assert 0.5 * (loss + other_loss) * weight == pytest.approx(product, rel=1e-4, abs=1e-5)
        unlike |= not math.isclose(loss, other_loss, rel_tol=1e-3)
    assert unlike, "the ranks are meant to have losses of their own"
    assert ("clipping" in name or name == "accelerate-loop") is (steps[0][0][1] < 1.0)


@pytest.mark.parametrize("name", two_ranks.TRAJECTORIES)
def test_two_ranks_are_one_process_on_the_whole_batch(ranks: Ranks, name: str) -> None:
    options = two_ranks.TRAJECTORIES[name]
    model = Classifier()
    optimizer_class: Any = {"momo": Momo, "momo_adam": MomoAdam}[options["optim"]]
    optimizer = optimizer_class(
        decay_groups(model, options.get("weight_decay", 0.0)),
        lr=options["learning_rate"],
        adapt_lower_bound="optim_args" in options,
    )
    batches = micro_batches(class_examples(), 8) * 2
    windows = [[batch] for batch in batches[: two_ranks.TRAJECTORY_STEPS]]
    steps = plain_loop(model, optimizer, windows, max_norm=options.get("max_grad_norm", 0.0))
    for rank in ranks:
        logs = rank[f"trajectory/{name}"]["logs"]
        assert [entry["step_size"] for entry in logs] == pytest.approx([s.step_size for s in steps], rel=1e-3)
        assert [entry["lower_bound"] for entry in logs] == pytest.approx([s.lower_bound for s in steps], rel=1e-3)
        for ours, theirs in zip(rank[f"trajectory/{name}"]["weights"], model.parameters(), strict=True):
            torch.testing.assert_close(torch.tensor(ours), theirs.detach().flatten(), rtol=1e-3, atol=1e-4)
    handed = zip(*(rank[f"trajectory/{name}"]["steps"] for rank in ranks), strict=True)
    assert [0.5 * (one[0] + two[0]) for one, two in handed] == pytest.approx([s.loss for s in steps], rel=1e-4)


@pytest.mark.parametrize("name", two_ranks.DISTILLED)
def test_bounds_of_two_ranks_are_that_of_the_whole_batch(ranks: Ranks, name: str) -> None:
    """Two ranks, each with two micro-batches of two examples and their bounds, are one process on the eight."""
    model, teacher = Classifier(), Classifier()
    optimizer = MomoAdam(decay_groups(model, 0.0), lr=0.1)
    batches = micro_batches(class_examples(), 8) * 2
    steps = plain_loop(
        model,
        optimizer,
        [[batch] for batch in batches[: two_ranks.TRAJECTORY_STEPS]],
        bound_of=lambda batch: DistillingTrainer.bound_of(teacher, batch),
    )
    for rank in ranks:
        logs = rank[f"distilled/{name}"]["logs"]
        assert [entry["step_size"] for entry in logs] == pytest.approx([s.step_size for s in steps], rel=1e-3)
        assert [entry["lower_bound"] for entry in logs] == pytest.approx([s.lower_bound for s in steps], rel=1e-4)


def test_the_inflated_loss_of_a_translation_model(ranks: Ranks) -> None:
    """Without the correction the loss is six times too large here: two ranks times three accumulated batches."""
    batches = micro_batches(Examples(text_examples().examples[:24]), 4)
    with torch.no_grad():
        losses = [marian()(**batch).loss.item() for batch in batches]
    first, second = (rank["translation"]["steps"][0][0] for rank in ranks)
    assert 0.5 * (first + second) == pytest.approx(sum(losses) / 6, rel=1e-5)
    assert ranks[0]["translation"]["logs"][0]["loss"] == pytest.approx(sum(losses) / 6, rel=1e-4)


def test_a_bad_batch_on_one_rank_is_skipped_by_all(ranks: Ranks) -> None:
    for rank in ranks:
        assert [entry["skipped_steps"] for entry in rank["bad-batch"]["logs"]] == [0, 1, 1, 1]
    losses = [rank["bad-batch"]["steps"][1][0] for rank in ranks]
    assert [math.isfinite(loss) for loss in losses] == [True, False]
    assert all(math.isfinite(value) for weights in ranks[0]["bad-batch"]["weights"] for value in weights)
