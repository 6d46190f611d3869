"""Models whose loss transformers 5 inflates by accumulation steps times processes (transformers issue 47688).

Their forward takes ``**kwargs`` and averages its own cross-entropy, so the Trainer assumes that the loss is already
divided by the number of tokens of the window.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version
from torch import nn
from trainer.tiny import (
    Examples,
    ProbedSeq2SeqTrainer,
    ProbedTrainer,
    arguments,
    bart,
    gpt2,
    marian,
    micro_batches,
    seq2seq_arguments,
    t5,
    text_examples,
    training_logs,
)

from hf_momo import MomoSeq2SeqTrainer
from hf_momo.trainer.losses import ignores_num_items

INFLATED = [marian, bart, t5]
# In transformers 4 their forward takes no **kwargs, and the norm of gradients that are not clipped is not logged.
INFLATES = Version(transformers.__version__).release >= (5,)


def run(folder: Path, model: nn.Module, **options: Any) -> ProbedSeq2SeqTrainer:
    compute_loss_func = options.pop("compute_loss_func", None)
    collator = options.pop("data_collator", None)
    trainer = ProbedSeq2SeqTrainer(
        model=model,
        args=seq2seq_arguments(folder, **({"max_steps": 2, "gradient_accumulation_steps": 3} | options)),
        train_dataset=text_examples(),
        compute_loss_func=compute_loss_func,
        data_collator=collator,
    )
    trainer.train()
    return trainer


def token_mean(model: nn.Module, examples: Examples) -> float:
    """Return the cross-entropy over all labels of the examples."""
    batch = micro_batches(examples, len(examples))[0]
    with torch.no_grad():
        logits = model(**batch).logits
    return nn.functional.cross_entropy(logits.flatten(0, -2), batch["labels"].flatten()).item()


@pytest.mark.parametrize("make_model", INFLATED)
def test_the_loss_of_three_accumulated_batches_is_their_mean(
    tmp_path: Path, make_model: Callable[[], nn.Module], caplog: pytest.LogCaptureFixture
) -> None:
    reference = make_model()
    batches = micro_batches(Examples(text_examples().examples[:12]), 4)
    expected = [reference(**batch).loss for batch in batches]
    torch.stack(expected).mean().backward()
    true_mean = torch.stack(expected).mean().item()

    with caplog.at_level(logging.WARNING, logger="hf_momo"):
        trainer = run(tmp_path, make_model())
    assert trainer.probe.steps[0].loss == pytest.approx(true_mean, rel=1e-5)
    assert training_logs(trainer)[0]["loss"] == pytest.approx(true_mean, rel=1e-3)
    told = len([r for r in caplog.records if "47688" in r.getMessage()])
    assert told == (1 if INFLATES else 0)
    if INFLATES:
        grads = [param.grad.flatten() for param in reference.parameters() if param.grad is not None]
        norm = torch.cat(grads).norm().item()
        assert training_logs(trainer)[0]["grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert trainer.model.accepts_loss_kwargs is False


def test_the_models_are_told_apart() -> None:
    assert all(ignores_num_items(make_model()) is INFLATES for make_model in INFLATED)
    assert not ignores_num_items(gpt2())


def test_said_once_for_a_model_seen_by_two_trainers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = marian()
    with caplog.at_level(logging.WARNING, logger="hf_momo"):
        for _ in range(2):
            ProbedSeq2SeqTrainer(model=model, args=seq2seq_arguments(tmp_path), train_dataset=text_examples())
    assert len([r for r in caplog.records if "47688" in r.getMessage()]) == (1 if INFLATES else 0)


def test_label_smoothing_computes_the_loss_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The Trainer's label smoother correctly divides by the tokens of the window."""
    smoothing, first = 0.1, Examples(text_examples().examples[:12])
    reference = marian()

    def with_decoder_inputs(examples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        batch = micro_batches(Examples(examples), len(examples))[0]
        return {**batch, "decoder_input_ids": reference.prepare_decoder_input_ids_from_labels(batch["labels"])}

    with caplog.at_level(logging.WARNING, logger="hf_momo"):
        trainer = run(tmp_path, marian(), label_smoothing_factor=smoothing, data_collator=with_decoder_inputs)
    batch = with_decoder_inputs(first.examples)
    labels = batch.pop("labels").flatten()
    with torch.no_grad():
        logits = reference(**batch).logits.flatten(0, -2)
    expected = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing).item()
    assert trainer.probe.steps[0].loss == pytest.approx(expected, rel=1e-4)
    assert training_logs(trainer)[0]["loss"] == pytest.approx(expected, rel=1e-3)
    assert not [r for r in caplog.records if "47688" in r.getMessage()]
    assert getattr(trainer.model, "accepts_loss_kwargs", True) is True


def test_a_loss_function_of_the_user_computes_the_loss_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference = marian()

    def loss_func(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs["logits"]
        total = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")
        return total / num_items_in_batch

    def with_decoder_inputs(examples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        batch = micro_batches(Examples(examples), len(examples))[0]
        return {**batch, "decoder_input_ids": reference.prepare_decoder_input_ids_from_labels(batch["labels"])}

    with caplog.at_level(logging.WARNING, logger="hf_momo"):
        trainer = run(tmp_path, marian(), compute_loss_func=loss_func, data_collator=with_decoder_inputs)
    expected = token_mean(reference, Examples(text_examples().examples[:12]))
    assert trainer.probe.steps[0].loss == pytest.approx(expected, rel=1e-4)
    assert not [r for r in caplog.records if "47688" in r.getMessage()]
    assert getattr(trainer.model, "accepts_loss_kwargs", True) is True


def test_a_model_that_uses_the_number_of_items_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The loss of such a model is the mean over the tokens of the window already."""
    examples = text_examples()
    for example in examples.examples:
        # A causal model does not predict the first position, but the Trainer counts it for a GPT-2.
        example["labels"][0] = -100
    expected = []
    for batch in micro_batches(Examples(examples.examples[:12]), 4):
        with torch.no_grad():
            logits = gpt2()(input_ids=batch["input_ids"]).logits[:, :-1]
        labels = batch["labels"][:, 1:]
        kept = labels != -100
        expected.append(nn.functional.cross_entropy(logits[kept], labels[kept], reduction="none"))
    with caplog.at_level(logging.WARNING, logger="hf_momo"):
        trainer = ProbedTrainer(
            model=gpt2(),
            args=arguments(tmp_path, max_steps=2, gradient_accumulation_steps=3),
            train_dataset=examples,
        )
        trainer.train()
    assert trainer.model_accepts_loss_kwargs is True
    assert not [r for r in caplog.records if "47688" in r.getMessage()]
    assert trainer.probe.steps[0].loss == pytest.approx(torch.cat(expected).mean().item(), rel=1e-4)


def test_with_the_trainers_own_optimizers_too(tmp_path: Path) -> None:
    """Adam is not affected by the inflation, but the logs are, and comparisons are made in the logs."""
    batches = micro_batches(Examples(text_examples().examples[:12]), 4)
    with torch.no_grad():
        expected = torch.stack([marian()(**batch).loss for batch in batches]).mean().item()
    trainer = MomoSeq2SeqTrainer(
        model=marian(),
        args=seq2seq_arguments(tmp_path, optim="adamw_torch", max_steps=1, gradient_accumulation_steps=3),
        train_dataset=Examples(text_examples().examples[:12]),
    )
    trainer.train()
    assert training_logs(trainer)[0]["loss"] == pytest.approx(expected, rel=2e-2)


def test_a_model_made_anew_by_model_init(tmp_path: Path) -> None:
    batches = micro_batches(Examples(text_examples().examples[:12]), 4)
    with torch.no_grad():
        expected = torch.stack([marian()(**batch).loss for batch in batches]).mean().item()
    trainer = ProbedSeq2SeqTrainer(
        model_init=marian,
        args=seq2seq_arguments(tmp_path, max_steps=1, gradient_accumulation_steps=3),
        train_dataset=text_examples(),
    )
    trainer.train()
    assert trainer.probe.steps[0].loss == pytest.approx(expected, rel=1e-5)
