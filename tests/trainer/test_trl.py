"""TRL's trainers with the mixin. They compute their own losses and have their own argument classes."""

from __future__ import annotations

import logging
import math
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import disable_progress_bars, enable_progress_bars
from huggingface_hub import ModelCard
from torch import Tensor, nn
from trainer.tiny import VOCABULARY, Probe, _Probed, gpt2, training_logs
from trainer.trl_runs import (
    ACCUMULATION,
    MomoSFTConfig,
    MomoSFTTrainer,
    ProbedSFTTrainer,
    check_same,
    data_of,
    dft,
    llama,
    options_of,
    plain_steps,
    prompts,
    run,
    texts,
    tokenizer,
    trl,
)
from transformers import LlamaForSequenceClassification

import hf_momo
from hf_momo import Momo, MomoAdam
from hf_momo.optimizers.registry import unwrap_optimizer
from hf_momo.trainer import trl as momo_trl

KEYS = ("loss", "step_size", "step_capped", "learning_rate", "mean_token_accuracy")

# trl 1.16 and peft 0.21 read names that transformers 5.23 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing.* is deprecated:FutureWarning")


@pytest.fixture(autouse=True)
def _no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off the telemetry that every trainer of TRL sends in its constructor."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)


@pytest.fixture(autouse=True)
def _no_progress_bars() -> Iterator[None]:
    disable_progress_bars()
    yield
    enable_progress_bars()


@pytest.mark.parametrize(
    ("optim", "optimizer_class", "lr"),
    [pytest.param("momo", Momo, 1.0, id="momo"), pytest.param("momo_adam", MomoAdam, 0.01, id="momo_adam")],
)
def test_supervised_fine_tuning_is_the_plain_loop(tmp_path: Path, optim: str, optimizer_class: Any, lr: float) -> None:
    """With sentences of unequal length and windows of unequal batches, every token of a window has the same weight."""
    trainer = run(tmp_path, optim=optim, weight_decay=0.1, optim_args="lower_bound=2.9")
    assert (trainer.args.learning_rate, trainer.args.optim) == (lr, optim)
    model = llama()
    decayed = trainer.get_decay_parameter_names(model)
    groups = [
        {"params": [p for name, p in model.named_parameters() if (name in decayed) is decay], "weight_decay": value}
        for decay, value in ((True, 0.1), (False, 0.0))
    ]
    steps = plain_steps(model, optimizer_class(groups, lr=lr, lower_bound=2.9))
    check_same(trainer, trainer.probe, model, steps)
    assert 0.0 in {entry["step_capped"] for entry in training_logs(trainer)}, "the step size is meant to adapt"
    for entry in training_logs(trainer):
        assert entry.keys() >= {"step_size", "lower_bound", "step_capped", "skipped_steps", "mean_token_accuracy"}


# TRL will drop label smoothing in its version 2.
@pytest.mark.filterwarnings("ignore:`label_smoothing_factor` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("options", "reference"),
    [
        pytest.param({"loss_type": "dft"}, {"loss_of": dft}, id="dft"),
        pytest.param({"data": prompts()}, {"prompt": 2}, id="completion-only"),
        pytest.param({"label_smoothing_factor": 0.2}, {"smoothing": 0.2}, id="label-smoothing"),
        pytest.param({"activation_checkpointing": False}, {}, id="no-checkpointing"),
    ],
)
def test_losses_of_its_own(tmp_path: Path, options: dict[str, Any], reference: dict[str, Any]) -> None:
    trainer = run(tmp_path, optim="momo_adam", **options)
    model = llama()
    steps = plain_steps(model, MomoAdam(model.parameters(), lr=0.01), **reference)
    check_same(trainer, trainer.probe, model, steps)


def with_an_optimizer(folder: Path, how: str) -> tuple[MomoSFTTrainer, Probe]:
    """Return a trainer with TRL's own arguments, which do not name an optimizer of this package."""
    model, probe = llama(), Probe()
    given: dict[str, Any] = {}
    if how == "optimizers":
        given["optimizers"] = (MomoAdam(model.parameters(), lr=0.02, lower_bound=2.9), None)
    else:
        given["optimizer_cls_and_kwargs"] = (MomoAdam, {"lr": 0.02, "lower_bound": 2.9})
    trainer = MomoSFTTrainer(
        model=model,
        args=trl.SFTConfig(**options_of(folder, train_sampling_strategy="sequential")),
        train_dataset=texts(),
        processing_class=tokenizer(),
        **given,
    )
    # The first training attaches the tap, and the probe must come after it.
    trainer.create_optimizer()
    probe.attach(unwrap_optimizer(trainer.optimizer))
    return trainer, probe


@pytest.mark.parametrize("how", ["optimizers", "optimizer_cls_and_kwargs"])
def test_an_optimizer_beside_the_arguments_of_trl(tmp_path: Path, how: str) -> None:
    trainer, probe = with_an_optimizer(tmp_path, how)
    trainer.train()
    model = llama()
    check_same(trainer, probe, model, plain_steps(model, MomoAdam(model.parameters(), lr=0.02, lower_bound=2.9)))


@pytest.fixture
def back_propagated(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the values of the tensors whose ``backward`` is called."""
    values: list[float] = []
    backward = Tensor.backward

    def recording(self: Tensor, *args: Any, **kwargs: Any) -> None:
        values.append(float(self.detach()))
        backward(self, *args, **kwargs)

    monkeypatch.setattr(Tensor, "backward", recording)
    return values


def check_handed(probe: Probe, values: list[float]) -> None:
    """Check that every step was handed the sum of the losses back-propagated since the last one."""
    assert len(values) == ACCUMULATION * len(probe.steps) > 0
    sums = [sum(values[at : at + ACCUMULATION]) for at in range(0, len(values), ACCUMULATION)]
    # The terms of a policy gradient, of size 1, may cancel to nothing but their rounding.
    assert [handed.loss for handed in probe.steps] == pytest.approx(sums, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("make_model", [llama, gpt2])
@pytest.mark.parametrize("bf16", [None, False])
def test_what_is_back_propagated_is_handed_over(
    tmp_path: Path, make_model: Callable[[], nn.Module], bf16: bool | None, back_propagated: list[float]
) -> None:
    """TRL's default is bfloat16 autocast. For a GPT-2 the Trainer also counts the unpredicted first tokens."""
    trainer = ProbedSFTTrainer(
        model=make_model(),
        args=MomoSFTConfig(**options_of(tmp_path, bf16=bf16, max_grad_norm=0.5)),
        train_dataset=texts(),
        processing_class=tokenizer(),
    )
    assert trainer.accelerator.mixed_precision == ("no" if bf16 is False else "bf16")
    trainer.train()
    check_handed(trainer.probe, back_propagated)
    assert any(handed.sample_weight < 1.0 for handed in trainer.probe.steps)


def test_adapters(tmp_path: Path, back_propagated: list[float]) -> None:
    """With ``peft_config`` TRL wraps the model itself."""
    peft = pytest.importorskip("peft", reason="needs peft")
    trainer = ProbedSFTTrainer(
        model=llama(),
        args=MomoSFTConfig(**options_of(tmp_path, learning_rate=0.1)),
        train_dataset=texts(),
        processing_class=tokenizer(),
        peft_config=peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    trainer.train()
    check_handed(trainer.probe, back_propagated)
    held = [param for group in trainer.optimizer.param_groups for param in group["params"]]
    assert {id(p) for p in held} == {id(p) for name, p in trainer.model.named_parameters() if "lora_" in name}
    assert training_logs(trainer)[-1]["loss"] < training_logs(trainer)[0]["loss"]


def test_resumed_is_unbroken(tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "optim_args": "adapt_lower_bound=true"}
    unbroken = run(tmp_path, **options)
    resumed = ProbedSFTTrainer(
        model=llama(),
        args=MomoSFTConfig(**options_of(tmp_path, **options)),
        train_dataset=texts(),
        processing_class=tokenizer(),
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.probe.steps == unbroken.probe.steps[2:]
    assert unwrap_optimizer(resumed.optimizer).last_step == unwrap_optimizer(unbroken.optimizer).last_step
    for ours, theirs in zip(resumed.model.parameters(), unbroken.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


class ProbedDPOTrainer(_Probed, momo_trl.MomoDPOTrainer):
    """Trainer with a probe, which takes the examples in their order."""


def test_direct_preference_optimization(tmp_path: Path, back_propagated: list[float]) -> None:
    """The loss is averaged over the pairs of each batch, and the optimizer gets the mean of the window's batches."""
    trainer = ProbedDPOTrainer(
        model=llama(),
        ref_model=llama(),
        args=momo_trl.MomoDPOConfig(**options_of(tmp_path, learning_rate=0.05)),
        train_dataset=data_of("DPO"),
        processing_class=tokenizer(),
    )
    trainer.train()
    check_handed(trainer.probe, back_propagated)
    assert trainer.probe.steps[0].loss == pytest.approx(math.log(2.0), rel=1e-5), "model and reference are the same"
    assert trainer.probe.steps[-1].loss < 0.6
    logs = training_logs(trainer)
    assert [entry["loss"] for entry in logs] == pytest.approx([h.loss for h in trainer.probe.steps], rel=1e-3)
    assert all(entry.keys() >= {"step_size", "step_capped", "rewards/accuracies"} for entry in logs)


def small_tokens(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Reward completions of words from the beginning of the vocabulary."""
    return [-sum(ids) / (VOCABULARY * len(ids)) for ids in completion_ids]


SAMPLING = {"num_generations": 4, "max_completion_length": 4, "max_length": None}
# Options of the configuration, and arguments of the trainer.
METHOD_OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "GRPO": (SAMPLING, {"reward_funcs": small_tokens}),
    "KTO": ({}, {"ref_model": llama}),
    "RLOO": (SAMPLING | {"beta": 0.0}, {"reward_funcs": small_tokens}),
    "Reward": ({}, {}),
}


@pytest.mark.parametrize("method", METHOD_OPTIONS)
def test_each_method_trains(tmp_path: Path, method: str, back_propagated: list[float]) -> None:
    """The loss of a policy gradient can be negative; with a bound of 0 every step would be 0."""
    options, given = METHOD_OPTIONS[method]
    config, trainer_class = getattr(momo_trl, f"Momo{method}Config"), getattr(momo_trl, f"Momo{method}Trainer")
    options = {k: v for k, v in options_of(tmp_path, learning_rate=0.02, **options).items() if v is not None}
    # TRL's own order of the examples: that of a policy gradient repeats each prompt.
    trainer = type("Probed", (_Probed, trainer_class), {"_get_train_sampler": trainer_class._get_train_sampler})(
        model=classifier() if method == "Reward" else llama(),
        args=config(**options),
        train_dataset=data_of(method),
        processing_class=tokenizer(),
        **{name: value() if value is llama else value for name, value in given.items()},
    )
    before = [param.detach().clone() for param in trainer.model.parameters()]
    trainer.train()
    check_handed(trainer.probe, back_propagated)
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    for entry in training_logs(trainer):
        assert entry["lower_bound"] == (momo_trl.METHODS[method] or 0.0)
        assert entry["zero_steps"] == entry["skipped_steps"] == 0


def classifier() -> nn.Module:
    """Return a model with one score, which the loss of a reward model is made of."""
    torch.manual_seed(13)
    return LlamaForSequenceClassification(llama().config.__class__(**llama().config.to_dict() | {"num_labels": 1}))


@pytest.mark.parametrize(
    ("options", "optim_args"),
    [
        ({}, "lower_bound=-10000"),
        ({"optim_args": "weight_decay_form=adamw"}, "weight_decay_form=adamw,lower_bound=-10000"),
        ({"optim_args": "lower_bound=-3"}, "lower_bound=-3"),
        ({"optim": "adamw_torch"}, None),
    ],
)
def test_the_bound_of_a_policy_gradient(
    tmp_path: Path, options: dict[str, Any], optim_args: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="hf_momo"):
        args = momo_trl.MomoGRPOConfig(str(tmp_path), use_cpu=True, bf16=False, **options)
    assert args.optim_args == optim_args
    assert ("lower_bound was not given: it is -10000, far below the loss of GRPO" in caplog.text) is (
        optim_args not in ("lower_bound=-3", None)
    )
    loaded = pickle.loads(pickle.dumps(args))
    assert (type(loaded), loaded.optim_args) == (type(args), optim_args)


def test_a_method_that_trl_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'MomoPPOConfig'; it has MomoDPOConfig, MomoDPOTrainer"):
        momo_trl.MomoPPOConfig  # noqa: B018
    monkeypatch.delitem(vars(momo_trl), "MomoKTOConfig", raising=False)
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(ImportError, match=r"hf_momo\.trainer\.trl needs trl\.KTOConfig .*pip install trl"):
        momo_trl.MomoKTOConfig  # noqa: B018


def test_the_command_line_of_trl(tmp_path: Path) -> None:
    """TRL's parser reads the fields of the class, including ours."""
    words = ["--output_dir", str(tmp_path), "--use_cpu", "--optim", "momo", "--optim_args", "beta=0.5"]
    (args,) = trl.TrlParser(MomoSFTConfig).parse_args_and_config(words)
    assert (args.optim, args.learning_rate, args.optim_args, args.max_length) == ("momo", 1.0, "beta=0.5", 1024)
    (args,) = trl.TrlParser(MomoSFTConfig).parse_args_and_config([*words[:3], "--optim", "adamw_torch"])
    assert args.learning_rate == trl.SFTConfig(str(tmp_path), use_cpu=True).learning_rate == 2e-5


def test_the_stock_trainer_of_trl_once_integrated(tmp_path: Path) -> None:
    """A script with TRL's own classes under ``hf-momo run`` trains like the mixin, with TRL's own card."""
    hf_momo.integrate()
    try:
        stock = trl.SFTTrainer(
            model=llama(),
            args=trl.SFTConfig(**options_of(tmp_path / "stock", optim="momo_adam", optim_args="lower_bound=2.9")),
            train_dataset=texts(),
            processing_class=tokenizer(),
        )
        stock.train()
    finally:
        hf_momo.integrate(undo=True)
    mixed = MomoSFTTrainer(
        model=llama(),
        args=MomoSFTConfig(**options_of(tmp_path / "mixed", optim="momo_adam", optim_args="lower_bound=2.9")),
        train_dataset=texts(),
        processing_class=tokenizer(),
    )
    mixed.train()
    ours, theirs = ([{key: e[key] for key in KEYS} for e in training_logs(each)] for each in (stock, mixed))
    assert ours == theirs
    assert stock.args.learning_rate == mixed.args.learning_rate == 0.01
    check_card(mixed)
    stock.create_model_card(model_name="a-model")
    assert "hf_momo" not in Path(stock.args.output_dir, "README.md").read_text(encoding="utf-8")


def check_card(trainer: Any) -> None:
    """Check TRL's card with the optimizer's tags and the step size, which a second call does not repeat."""
    for _ in range(2):
        trainer.create_model_card(model_name="a-model", dataset_name="some-data")
    card = ModelCard.load(Path(trainer.args.output_dir, "README.md"))
    assert {"trl", "sft", "hf_momo", "momo_adam"} <= set(card.data.tags)
    assert "It has been trained using [TRL]" in card.text and card.data.datasets == "some-data"
    assert card.text.count("## What the step size did") == 1
    assert "The lower bound of the loss was 2.9 throughout" in card.text
    assert Path(trainer.args.output_dir, "step_size.png").exists()
