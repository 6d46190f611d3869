"""Trainers of TRL with the mixin, a tokenizer and sentences for them, and a plain loop for comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from trainer.tiny import EOS, PAD, VOCABULARY, PlainStep, Probe, _Probed, quiet, training_logs
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hf_momo.optimizers import MomoOptimizer

trl = pytest.importorskip("trl", reason="needs trl, and that Python 3.11")


from hf_momo.trainer.trl import MomoSFTConfig, MomoSFTTrainer  # noqa: E402 (loads trl)


class ProbedSFTTrainer(_Probed, MomoSFTTrainer):
    """Trainer with a probe, which takes the examples in their order."""


WORDS = ["<pad>", "<eos>", *(f"w{index}" for index in range(2, VOCABULARY))]
ACCUMULATION, STEPS = 3, 4


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token=WORDS[PAD], eos_token=WORDS[EOS])


def sentences(count: int = 24) -> list[list[int]]:
    """Return sequences of 3 to 9 words that count upwards from a random start, which a model can learn."""
    generator = torch.Generator().manual_seed(12)
    starts = torch.randint(VOCABULARY - 2, (count,), generator=generator).tolist()
    return [[2 + (start + at) % (VOCABULARY - 2) for at in range(3 + index % 7)] for index, start in enumerate(starts)]


def texts() -> Dataset:
    return Dataset.from_list([{"text": " ".join(WORDS[token] for token in tokens)} for tokens in sentences()])


def data_of(method: str) -> Dataset:
    """Return sentences in the columns of a method; a rejected one counts downwards."""
    words = [[WORDS[token] for token in tokens] for tokens in sentences()]
    rows = [{"prompt": w[0], "chosen": " " + " ".join(w[1:]), "rejected": " " + " ".join(w[:0:-1])} for w in words]
    if method == "KTO":
        columns = ("chosen", "rejected")
        kinds = [(row, columns[index % 2]) for index, row in enumerate(rows)]
        rows = [{"prompt": row["prompt"], "completion": row[kind], "label": kind == "chosen"} for row, kind in kinds]
    elif method in ("GRPO", "RLOO"):
        rows = [{"prompt": row["prompt"]} for row in rows]
    return Dataset.from_list(rows)


def llama() -> nn.Module:
    """Return a causal language model of one layer for which the Trainer counts exactly the predicted tokens."""
    torch.manual_seed(13)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            pad_token_id=PAD,
            bos_token_id=None,
            eos_token_id=EOS,
        )
    )


def options_of(folder: Path, **options: Any) -> dict[str, Any]:
    defaults = {"max_steps": STEPS, "gradient_accumulation_steps": ACCUMULATION, "bf16": False, "max_length": 12}
    own = {name: value for name, value in quiet(folder).items() if name != "remove_unused_columns"}
    return own | defaults | options


def run(folder: Path, *, data: Dataset | None = None, **options: Any) -> ProbedSFTTrainer:
    trainer = ProbedSFTTrainer(
        model=llama(),
        args=MomoSFTConfig(**options_of(folder, **options)),
        train_dataset=texts() if data is None else data,
        processing_class=tokenizer(),
    )
    trainer.train()
    return trainer


def nll(log_probs: Tensor) -> Tensor:
    return -log_probs


def dft(log_probs: Tensor) -> Tensor:
    return -log_probs * log_probs.exp().detach()


def plain_steps(
    model: nn.Module,
    optimizer: MomoOptimizer,
    *,
    steps: int = STEPS,
    prompt: int = 0,
    loss_of: Callable[[Tensor], Tensor] = nll,
    smoothing: float = 0.0,
) -> list[PlainStep]:
    """Train in a torch loop over single sentences, on the mean over the predicted tokens of a window.

    Args:
        model: A causal language model.
        optimizer: The optimizer of its parameters.
        steps: Number of windows.
        prompt: Number of first tokens that are not predicted.
        loss_of: Function from log-probabilities of the tokens to their losses.
        smoothing: Share of the loss that is the mean over the vocabulary.
    """
    tokens = [torch.tensor([*ids, EOS]) for ids in sentences()] * steps
    size, done = 4 * ACCUMULATION, []
    for step in range(steps):
        window = tokens[step * size : (step + 1) * size]
        predicted = sum(len(ids) - max(prompt, 1) for ids in window)
        total = 0.0
        for ids in window:
            log_probs = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
            losses = (1.0 - smoothing) * loss_of(log_probs.gather(1, ids[1:, None]).squeeze(1))
            losses = (losses - smoothing * log_probs.mean(-1))[max(prompt - 1, 0) :]
            (losses.sum() / predicted).backward()
            total += float(losses.detach().sum()) / predicted
        optimizer.step(loss=total)
        optimizer.zero_grad()
        done.append(PlainStep(total, optimizer.last_step.step_size[0], optimizer.last_step.lower_bound))
    return done


def prompts() -> Dataset:
    """Return the same sentences with the first two words as a prompt."""
    words = [[WORDS[token] for token in tokens] for tokens in sentences()]
    return Dataset.from_list([{"prompt": " ".join(w[:2]), "completion": " " + " ".join(w[2:])} for w in words])


def check_same(trainer: Any, probe: Probe, model: nn.Module, steps: list[PlainStep]) -> None:
    assert [handed.loss for handed in probe.steps] == pytest.approx([step.loss for step in steps], rel=1e-4)
    logs = training_logs(trainer)
    assert [entry["step_size"] for entry in logs] == pytest.approx([step.step_size for step in steps], rel=1e-3)
    for ours, theirs in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
