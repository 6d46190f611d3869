"""PEFT: adapters on a frozen model train like any other model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trainer.tiny import (
    VOCABULARY,
    Example,
    Examples,
    PlainStep,
    ProbedSeq2SeqTrainer,
    ProbedTrainer,
    arguments,
    gpt2,
    marian,
    micro_batches,
    seq2seq_arguments,
    t5,
    text_examples,
    training_logs,
    weights_of,
)
from transformers import TrainerCallback

from hf_momo import Momo, MomoAdam
from hf_momo.optimizers import MomoOptimizer
from hf_momo.optimizers.registry import unwrap_optimizer
from hf_momo.trainer.losses import automatic_lower_bound

peft = pytest.importorskip("peft", reason="needs peft")

# peft 0.21 reads a property of models that transformers 5.23 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

OPTIMIZERS = [pytest.param("momo", Momo, 3.0, id="momo"), pytest.param("momo_adam", MomoAdam, 0.1, id="momo_adam")]
ACCUMULATION, STEPS = 3, 6


def lora(model: nn.Module, *, targets: tuple[str, ...] = ("c_attn", "c_proj"), **options: Any) -> Any:
    """Return the model with adapters moved away from their start, at which half of them are zero."""
    kind = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    config = peft.LoraConfig(
        r=2, lora_alpha=8, target_modules=list(targets), task_type=kind, fan_in_fan_out="c_attn" in targets, **options
    )
    torch.manual_seed(9)
    wrapped = peft.get_peft_model(model, config)
    with torch.no_grad():
        for param in wrapped.parameters():
            if param.requires_grad:
                param.add_(0.1 * torch.randn_like(param))
    return wrapped


def causal_examples() -> Examples:
    """Return examples with one label per prediction, so none for a first token."""
    examples = text_examples()
    for example in examples.examples:
        example["labels"][0] = -100
    return examples


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, param) for name, param in model.named_parameters() if param.requires_grad]


def token_loop(model: nn.Module, optimizer: MomoOptimizer, windows: list[list[Example]]) -> list[PlainStep]:
    """Train in a plain loop on the mean over all predicted tokens of a window."""
    steps = []
    model.train()
    for window in windows:
        predicted = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in window)
        total = 0.0
        for batch in window:
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
            summed = nn.functional.cross_entropy(
                logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
            )
            (summed / predicted).backward()
            total += float(summed.detach()) / predicted
        optimizer.step(loss=total)
        optimizer.zero_grad()
        steps.append(PlainStep(total, optimizer.last_step.step_size[0], optimizer.last_step.lower_bound))
    return steps


def windows(steps: int = STEPS) -> list[list[Example]]:
    batches = micro_batches(causal_examples(), 4)
    repeated = batches * steps
    return [repeated[at * ACCUMULATION : (at + 1) * ACCUMULATION] for at in range(steps)]


def run(folder: Path, model: nn.Module, **options: Any) -> ProbedTrainer:
    defaults = {"max_steps": STEPS, "gradient_accumulation_steps": ACCUMULATION}
    trainer = ProbedTrainer(
        model=model, args=arguments(folder, **(defaults | options)), train_dataset=causal_examples()
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(("optim", "optimizer_class", "lr"), OPTIMIZERS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_adapters_train_as_in_a_plain_loop(
    tmp_path: Path, optim: str, optimizer_class: Any, lr: float, weight_decay: float
) -> None:
    """The optimizer holds only the adapters, and the model below does not move."""
    model = lora(gpt2())
    frozen = {name: param.clone() for name, param in model.named_parameters() if not param.requires_grad}
    trainer = run(
        tmp_path,
        model,
        optim=optim,
        learning_rate=lr,
        weight_decay=weight_decay,
        optim_args="lower_bound=3.1",
    )
    held = {id(param) for group in trainer.optimizer.param_groups for param in group["params"]}
    assert held == {id(param) for _, param in trained(model)}
    assert all("lora_" in name for name, _ in trained(model))

    reference = lora(gpt2())
    optimizer = optimizer_class(
        [param for _, param in trained(reference)], lr=lr, weight_decay=weight_decay, lower_bound=3.1
    )
    steps = token_loop(reference, optimizer, windows())
    sizes = [step.step_size for step in steps]
    assert [handed.loss for handed in trainer.probe.steps] == pytest.approx([step.loss for step in steps], rel=1e-4)
    assert [entry["step_size"] for entry in training_logs(trainer)] == pytest.approx(sizes, rel=1e-3)
    assert 0.0 in {entry["step_capped"] for entry in training_logs(trainer)}, "the step size is meant to adapt"
    for (_, ours), (_, theirs) in zip(trained(model), trained(reference), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(model.get_parameter(name), param) for name, param in frozen.items())


def test_groups_of_weight_decay(tmp_path: Path) -> None:
    """Adapters and fully trained layers are decayed, except their biases and normalization parameters."""
    model = lora(gpt2(), bias="lora_only", modules_to_save=["ln_f"])
    trainer = run(tmp_path, model, weight_decay=0.1, max_steps=1)
    names = {id(param): name for name, param in model.named_parameters()}
    decayed, undecayed = ([names[id(p)] for p in group["params"]] for group in trainer.optimizer.param_groups)
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.1, 0.0]
    assert decayed
    assert all(".lora_" in name for name in decayed)
    assert {name.rsplit(".", 1)[-1] for name in undecayed} == {"weight", "bias"}
    assert any("ln_f" in name for name in undecayed)
    assert {*decayed, *undecayed} == {name for name, _ in trained(model)}


class Killed(Exception):
    """Raised to end the run."""


class KillAfter(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


def test_resumed_is_unbroken(tmp_path: Path) -> None:
    """The run resumes from a checkpoint with only the adapters, and a later one without them is passed over."""
    options = {
        "save_strategy": "steps",
        "save_steps": 2,
        "learning_rate": 0.1,
        "optim_args": "adapt_lower_bound=true,lower_bound=1.0",
    }

    def make(folder: str) -> ProbedTrainer:
        return ProbedTrainer(
            model=lora(gpt2(), lora_dropout=0.1),
            args=arguments(tmp_path / folder, max_steps=STEPS, gradient_accumulation_steps=ACCUMULATION, **options),
            train_dataset=causal_examples(),
        )

    unbroken = make("unbroken")
    unbroken.train()
    killed = make("killed")
    killed.add_callback(KillAfter(5))
    with pytest.raises(Killed):
        killed.train()
    saved = tmp_path / "killed" / "checkpoint-4"
    assert (saved / "adapter_model.safetensors").is_file()
    assert not (saved / "model.safetensors").exists()
    state = torch.load(saved / "optimizer.pt", weights_only=True)
    assert len(state["state"]) == len(trained(killed.model))
    (saved / "adapter_model.safetensors").unlink()

    resumed = make("killed")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.probe.steps == unbroken.probe.steps[2:]
    assert training_logs(resumed) == training_logs(unbroken)
    for ours, theirs in zip(weights_of(resumed.model), weights_of(unbroken.model), strict=True):
        assert torch.equal(ours, theirs)
    assert unwrap_optimizer(resumed.optimizer).last_step == unwrap_optimizer(unbroken.optimizer).last_step


@pytest.mark.parametrize(("make_model", "targets"), [(t5, ("q", "v")), (marian, ("q_proj", "v_proj"))])
def test_the_inflated_loss_of_a_wrapped_model(
    tmp_path: Path, make_model: Callable[[], nn.Module], targets: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """The Trainer and the correction both look at the model below the adapters."""
    reference = lora(make_model(), targets=targets)
    batches = micro_batches(Examples(text_examples().examples[:12]), 4)
    expected = torch.stack([reference(**batch).loss for batch in batches]).mean()
    expected.backward()
    model = lora(make_model(), targets=targets)
    with caplog.at_level(logging.WARNING, logger="hf_momo"):
        trainer = ProbedSeq2SeqTrainer(
            model=model,
            args=seq2seq_arguments(tmp_path, max_steps=2, gradient_accumulation_steps=ACCUMULATION),
            train_dataset=text_examples(),
        )
        trainer.train()
        ProbedSeq2SeqTrainer(model=model, args=seq2seq_arguments(tmp_path), train_dataset=text_examples())
    assert trainer.probe.steps[0].loss == pytest.approx(expected.item(), rel=1e-5)
    for ours, (_, theirs) in zip(trainer.probe.grads[0], trained(reference), strict=True):
        torch.testing.assert_close(ours, theirs.grad, rtol=1e-4, atol=1e-6)
    assert len([r for r in caplog.records if "47688" in r.getMessage()]) == 1
    assert model.get_base_model().accepts_loss_kwargs is False


@pytest.mark.parametrize("optim", ["momo", "momo_adam"])
def test_label_smoothing_with_the_automatic_bound(tmp_path: Path, optim: str) -> None:
    """The bound uses the vocabulary below the adapters, and the loss is that of the Trainer's label smoother."""
    smoothing = 0.2
    trainer = run(tmp_path, lora(gpt2()), optim=optim, label_smoothing_factor=smoothing, optim_args="lower_bound=auto")
    target = torch.full((VOCABULARY,), smoothing / VOCABULARY, dtype=torch.float64)
    target[0] += 1.0 - smoothing
    bound = float(torch.distributions.Categorical(probs=target).entropy())
    assert [entry["lower_bound"] for entry in training_logs(trainer)] == pytest.approx([bound] * STEPS, rel=1e-6)
    reference, losses = lora(gpt2()), []
    for batch in windows()[0]:
        with torch.no_grad():
            logits = reference(input_ids=batch["input_ids"]).logits[:, :-1]
        kept = batch["labels"][:, 1:] != -100
        losses.append(
            nn.functional.cross_entropy(
                logits[kept], batch["labels"][:, 1:][kept], label_smoothing=smoothing, reduction="none"
            )
        )
    assert trainer.probe.steps[0].loss == pytest.approx(torch.cat(losses).mean().item(), rel=1e-4)


# peft warns that adapters on a tied layer complicate merging, which training does not do.
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
@pytest.mark.parametrize(
    ("make_model", "options"),
    [
        pytest.param(gpt2, {}, id="below-the-adapters"),
        pytest.param(gpt2, {"modules_to_save": ["lm_head"]}, id="trained-whole"),
        pytest.param(t5, {"targets": ("q", "lm_head")}, id="adapted"),
    ],
)
def test_the_vocabulary_of_a_wrapped_output_layer(make_model: Callable[[], nn.Module], options: Any) -> None:
    expected = automatic_lower_bound(0.1, make_model())
    assert automatic_lower_bound(0.1, lora(make_model(), **options)) == expected


def test_the_vocabulary_of_a_partitioned_output_layer() -> None:
    """ZeRO-3 leaves an empty tensor in place of a partitioned parameter, so the bound was divided by 0 classes."""
    model = gpt2()
    expected = automatic_lower_bound(0.1, model)
    layer = nn.Linear(16, VOCABULARY, bias=False)
    layer.weight.data = torch.empty(0)
    model.set_output_embeddings(layer)
    assert automatic_lower_bound(0.1, model) == expected
