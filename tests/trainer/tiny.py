"""Tiny models, data sets and trainers, and a probe that records what ``step()`` is handed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler

from hf_momo import MomoSeq2SeqTrainer, MomoSeq2SeqTrainingArguments, MomoTrainer, MomoTrainingArguments
from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.registry import unwrap_optimizer
from hf_momo.optimizers.scalars import names_of

FEATURES, CLASSES, POSITIONS = 5, 4, 6
VOCABULARY, PAD, EOS = 24, 0, 1

Example = dict[str, Tensor]
_ENCODER_DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 16,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "forced_eos_token_id": None,
    "decoder_start_token_id": PAD,
    "dropout": 0.0,
}


class LinearLoss(nn.Module):
    """A loss that is linear in the weights, so that ``<gradient, weights>`` *is* the loss (Euler's identity)."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(CLASSES, FEATURES, generator=generator))
        self.bias = nn.Parameter(torch.randn(CLASSES, generator=generator))

    def forward(self, features: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return self._outputs(features, labels, None)

    def _outputs(self, features: Tensor, labels: Tensor | None, num_items: Tensor | None) -> dict[str, Tensor]:
        scores = nn.functional.linear(features, self.weight, self.bias)
        if labels is None:
            return {"logits": scores}
        return {"loss": mean_score(scores, labels, num_items), "logits": scores}


class LinearLossOverWindow(LinearLoss):
    """The same loss, divided by the number of labels in the whole accumulation window if the caller passes it."""

    def forward(self, features: Tensor, labels: Tensor | None = None, **kwargs: Any) -> dict[str, Tensor]:
        return self._outputs(features, labels, kwargs.get("num_items_in_batch"))


def mean_score(scores: Tensor, labels: Tensor, num_items: Tensor | None) -> Tensor:
    """Return the mean of the labels' scores. The data keep it away from zero."""
    kept = labels != -100
    total = (scores.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1) * kept).sum()
    return total / (kept.sum() if num_items is None else num_items)


def score_loss_func(outputs: dict[str, Tensor], labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
    """Compute the same loss, as a ``compute_loss_func`` of the Trainer."""
    return mean_score(outputs["logits"], labels, num_items_in_batch)


class Classifier(nn.Module):
    """Two layers and a cross-entropy, averaged over the batch at hand."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(FEATURES, 16)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(16, CLASSES)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for param in self.parameters():
                param.copy_(0.5 * torch.randn(param.shape, generator=generator))
        self.config = type("Config", (), {"num_labels": CLASSES, "to_json_string": lambda self: "{}"})()

    def forward(self, features: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.output(self.dropout(torch.tanh(self.hidden(features))))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten()), "logits": logits}


class WindowClassifier(Classifier):
    """The same, divided by the number of labels in the whole accumulation window if the caller passes it."""

    def forward(self, features: Tensor, labels: Tensor | None = None, **kwargs: Any) -> dict[str, Tensor]:
        outputs = super().forward(features, labels)
        num_items = kwargs.get("num_items_in_batch")
        if num_items is not None and labels is not None:
            outputs["loss"] = outputs["loss"] * labels.numel() / num_items
        return outputs


class Examples(Dataset):
    """Data set over a list."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = list(examples)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


def score_examples(count: int = 24, *, uneven: bool = True) -> Examples:
    """Return positions with features and labels. If ``uneven``, each example ignores another number of labels."""
    generator = torch.Generator().manual_seed(2)
    examples = []
    for index in range(count):
        features = torch.randn(POSITIONS, FEATURES, generator=generator) + 0.5
        labels = torch.randint(CLASSES, (POSITIONS,), generator=generator)
        if uneven:
            labels[POSITIONS - index % 5 :] = -100
        examples.append({"features": features, "labels": labels})
    return Examples(examples)


def class_examples(count: int = 32) -> Examples:
    """Return features with the class that a hidden linear rule gives them."""
    generator = torch.Generator().manual_seed(3)
    rule = torch.randn(FEATURES, CLASSES, generator=generator)
    features = torch.randn(count, FEATURES, generator=generator)
    labels = (features @ rule).argmax(dim=-1)
    return Examples([{"features": x, "labels": y} for x, y in zip(features, labels, strict=True)])


def text_examples(count: int = 24, *, length: int = 6) -> Examples:
    """Return token sequences whose labels are the reversed input. Every second one is shorter."""
    generator = torch.Generator().manual_seed(4)
    examples = []
    for index in range(count):
        ids = torch.randint(2, VOCABULARY, (length,), generator=generator)
        labels = ids.flip(0)
        labels[-1] = EOS
        if index % 2:
            labels[-2:] = -100
        examples.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return Examples(examples)


def marian() -> nn.Module:
    """Return a Marian model of one layer each. In transformers 5 its forward ignores ``num_items_in_batch``."""
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(5)
    dropouts = {"attention_dropout": 0.0, "activation_dropout": 0.0}
    return MarianMTModel(MarianConfig(**_ENCODER_DECODER, **dropouts, scale_embedding=True))


def bart() -> nn.Module:
    """Return a BART of one layer each, without dropout."""
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(6)
    return BartForConditionalGeneration(BartConfig(**_ENCODER_DECODER, bos_token_id=2))


def t5() -> nn.Module:
    """Return a T5 of one layer each, without dropout."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(7)
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY,
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            dropout_rate=0.0,
            pad_token_id=PAD,
            eos_token_id=EOS,
            decoder_start_token_id=PAD,
        )
    )


def gpt2() -> nn.Module:
    """Return a causal language model whose forward uses ``num_items_in_batch``."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(8)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=16,
            n_embd=16,
            n_layer=1,
            n_head=2,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=2,
            eos_token_id=EOS,
        )
    )


class Handed(NamedTuple):
    """Arguments of one ``step()``, and ``<gradient, weights>``."""

    loss: float
    sample_weight: float
    grad_dot_param: float


class Probe:
    """Step pre-hook that runs after the tap's."""

    def __init__(self) -> None:
        self.steps: list[Handed] = []
        self.grads: list[list[Tensor]] = []

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.register_step_pre_hook(self)

    def __call__(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: dict[str, Any]) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        product = sum(float((p.detach().double() * p.grad.double()).sum()) for p in params)
        self.steps.append(Handed(float(kwargs["loss"]), float(kwargs["sample_weight"]), product))
        self.grads.append([p.grad.clone() for p in params])

    def check_euler(self, steps: int, rel: float = 2e-5) -> None:
        """Check that every step was handed the loss of its gradient."""
        assert len(self.steps) == steps
        for handed in self.steps:
            scaled = handed.loss * handed.sample_weight
            scale = max(abs(scaled), abs(handed.grad_dot_param), 0.1)
            assert abs(scaled - handed.grad_dot_param) < rel * scale, handed


class _Probed:
    """Mixin that attaches a probe to the optimizer after the tap, and takes the examples in their order."""

    probe: Probe | None = None

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.probe is None:
            self.probe = Probe()
            self.probe.attach(unwrap_optimizer(optimizer))
        return optimizer

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class ProbedTrainer(_Probed, MomoTrainer):
    """``MomoTrainer`` with a probe, in the order of the examples."""


class ProbedSeq2SeqTrainer(_Probed, MomoSeq2SeqTrainer):
    """``MomoSeq2SeqTrainer`` with a probe, in the order of the examples."""


class DistillingTrainer(ProbedTrainer):
    """Trainer whose bound is a part of the loss of a teacher on the same batch, computed as the loss is."""

    lower_bound_in_outputs = True
    share = 0.25

    def __init__(self, *args: Any, teacher: nn.Module, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teacher = teacher

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        loss, outputs = super().compute_loss(model, dict(inputs), return_outputs=True, **kwargs)
        if model.training:
            with torch.no_grad():
                outputs["lower_bound"] = self.share * super().compute_loss(self.teacher, dict(inputs), **kwargs)
        return (loss, outputs) if return_outputs else loss

    @classmethod
    def bound_of(cls, teacher: nn.Module, batch: Example) -> float:
        """Return the bound of one batch."""
        with torch.no_grad():
            return cls.share * teacher(**batch)["loss"].item()


def quiet(folder: Path | str) -> dict[str, Any]:
    """Return arguments for all runs: on the CPU, every step logged, nothing saved."""
    return {
        "output_dir": str(folder),
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "max_steps": 4,
        "remove_unused_columns": False,
    }


def arguments(folder: Path | str, **options: Any) -> MomoTrainingArguments:
    """Return training arguments for a tiny run."""
    return MomoTrainingArguments(**(quiet(folder) | options))


def seq2seq_arguments(folder: Path | str, **options: Any) -> MomoSeq2SeqTrainingArguments:
    """Return sequence-to-sequence training arguments for a tiny run."""
    return MomoSeq2SeqTrainingArguments(**(quiet(folder) | options))


# Linear losses have no lower bound, so the steps are small and always capped.
ALWAYS_CAPPED = {"optim": "momo", "learning_rate": 1e-3, "optim_args": "lower_bound=-1e6"}


def micro_batches(examples: Examples, size: int) -> list[Example]:
    """Return the examples in their order, stacked into batches."""
    return [
        {key: torch.stack([example[key] for example in examples.examples[at : at + size]]) for key in examples[0]}
        for at in range(0, len(examples), size)
    ]


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the Trainer's groups for these models: weights with decay, biases without."""
    named = list(model.named_parameters())
    return [
        {"params": [p for name, p in named if not name.endswith("bias")], "weight_decay": weight_decay},
        {"params": [p for name, p in named if name.endswith("bias")], "weight_decay": 0.0},
    ]


class PlainStep(NamedTuple):
    """Loss, step size and bound of one step of a plain loop."""

    loss: float
    step_size: float
    lower_bound: float


def plain_loop(
    model: nn.Module,
    optimizer: MomoOptimizer,
    windows: Iterable[Sequence[Example]],
    *,
    loss_of: Callable[[nn.Module, Example], Tensor] = lambda model, batch: model(**batch)["loss"],
    max_norm: float = 0.0,
    lr_of: Callable[[int], float] | None = None,
    bound_of: Callable[[Example], float] | None = None,
) -> list[PlainStep]:
    """Train with torch alone. The loss of a window is the mean of its micro-batches' losses."""
    steps = []
    model.train()
    for index, window in enumerate(windows):
        if lr_of is not None:
            for group in optimizer.param_groups:
                group["lr"] = lr_of(index)
        total = torch.zeros(())
        for batch in window:
            loss = loss_of(model, batch) / len(window)
            loss.backward()
            total = total + loss.detach()
        weight = torch.ones(())
        if max_norm:
            norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            weight = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        bound = None if bound_of is None else sum(map(bound_of, window)) / len(window)
        optimizer.step(loss=total, sample_weight=weight, lower_bound=bound)
        optimizer.zero_grad()
        last = optimizer.last_step
        steps.append(PlainStep(float(total), last.step_size[0], last.lower_bound))
    return steps


def training_logs(trainer: Any) -> list[dict[str, float]]:
    """Return the logs of the training steps."""
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def weights_of(model: nn.Module) -> list[Tensor]:
    """Return copies of the parameters."""
    return [param.detach().clone() for param in model.parameters()]


def scalars_of(optimizer: Any) -> list[dict[str, float]]:
    """Return the optimizer's scalars, one dictionary per group."""
    groups = unwrap_optimizer(optimizer).param_groups
    return [{name: float(group[name]) for name in names_of(group)} for group in groups]
