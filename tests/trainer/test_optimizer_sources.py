"""The tap is attached wherever the optimizer comes from, and other optimizers are left alone."""

from __future__ import annotations

import logging
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from trainer.tiny import (
    ALWAYS_CAPPED,
    Classifier,
    LinearLoss,
    Probe,
    ProbedTrainer,
    arguments,
    class_examples,
    decay_groups,
    marian,
    micro_batches,
    plain_loop,
    quiet,
    score_examples,
    seq2seq_arguments,
    text_examples,
    training_logs,
)
from transformers import Trainer, TrainingArguments

from hf_momo import Momo, MomoAdam, MomoSeq2SeqTrainer, MomoTrainer, MomoTrainerMixin
from hf_momo.optimizers.registry import unwrap_optimizer
from hf_momo.trainer import momo_cls_and_kwargs


class WeightedTrainer(Trainer):
    """A Trainer of another package, with its own loss."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        outputs = model(**inputs)
        return (3.0 * outputs["loss"], outputs) if return_outputs else 3.0 * outputs["loss"]


class ProbedWeightedTrainer(MomoTrainerMixin, WeightedTrainer):
    pass


def test_the_mixin_on_another_trainer(tmp_path: Path) -> None:
    probe = Probe()
    trainer = ProbedWeightedTrainer(
        model=LinearLoss(),
        args=arguments(tmp_path, gradient_accumulation_steps=2, **ALWAYS_CAPPED),
        train_dataset=score_examples(),
    )
    probe.attach(unwrap_optimizer(trainer.create_optimizer()))
    trainer.train()
    probe.check_euler(4)
    assert all("step_size" in entry for entry in training_logs(trainer))


@pytest.mark.parametrize("optim", ["momo_adam", "adamw_torch"])
def test_an_optimizer_of_the_user(tmp_path: Path, optim: str) -> None:
    """The tap is attached whatever ``optim`` says, since ``optim`` is not used then."""
    model = LinearLoss()
    probe, optimizer = Probe(), Momo(model.parameters(), lr=1e-3, lower_bound=-1e6)
    trainer = MomoTrainer(
        model=model,
        args=arguments(tmp_path, optim=optim, gradient_accumulation_steps=2),
        train_dataset=score_examples(),
        optimizers=(optimizer, None),
    )
    # The first training attaches the tap, and the probe must come after it.
    trainer.create_optimizer()
    probe.attach(optimizer)
    trainer.train()
    assert unwrap_optimizer(trainer.optimizer) is optimizer
    probe.check_euler(4)
    assert training_logs(trainer)[-1]["step_size"] == pytest.approx(1e-3)


def test_a_class_and_arguments_of_the_user(tmp_path: Path) -> None:
    trainer = ProbedTrainer(
        model=Classifier(),
        args=arguments(tmp_path, optim="adamw_torch", max_steps=5),
        train_dataset=class_examples(),
        optimizer_cls_and_kwargs=(MomoAdam, {"lr": 0.1, "betas": (0.8, 0.9)}),
    )
    trainer.train()
    model = Classifier()
    steps = plain_loop(
        model,
        MomoAdam(decay_groups(model, 0.0), lr=0.1, betas=(0.8, 0.9)),
        [[batch] for batch in micro_batches(class_examples(), 4)[:5]],
    )
    assert [entry["step_size"] for entry in training_logs(trainer)] == pytest.approx(
        [step.step_size for step in steps], rel=1e-5
    )


class EagerTrainer(Trainer):
    """A Trainer that makes its optimizer in its constructor, like some of TRL's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.create_optimizer()


class MomoEagerTrainer(MomoTrainerMixin, EagerTrainer):
    pass


def test_an_optimizer_made_in_the_constructor(tmp_path: Path) -> None:
    trainer = MomoEagerTrainer(
        model=Classifier(), args=arguments(tmp_path, optim="momo_adam"), train_dataset=class_examples()
    )
    made = trainer.optimizer
    trainer.train()
    assert unwrap_optimizer(trainer.optimizer) is made
    assert [entry["step_size"] > 0 for entry in training_logs(trainer)] == [True] * 4


def test_model_init(tmp_path: Path) -> None:
    """Every ``train()`` makes a new model and a new optimizer, and attaches the tap to it."""
    trainer = MomoTrainer(
        model_init=LinearLoss,
        args=arguments(tmp_path, gradient_accumulation_steps=2, **ALWAYS_CAPPED),
        train_dataset=score_examples(),
    )
    trainer.train()
    first = unwrap_optimizer(trainer.optimizer)
    trainer.train()
    second = unwrap_optimizer(trainer.optimizer)
    assert first is not second
    assert first.last_step == second.last_step
    assert second.last_step.num_steps == 4


def test_a_step_of_the_user_within_a_callback(tmp_path: Path) -> None:
    """A loss that the user passes to ``step`` replaces the tap's."""

    class OwnLoss(MomoTrainer):
        def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
            fresh = self.optimizer is None
            optimizer = super().create_optimizer(*args, **kwargs)
            if fresh:
                step = optimizer.step
                # A bound method, since torch's schedules in transformers 4 look into it.
                optimizer.step = types.MethodType(lambda self, closure=None: step(closure, loss=7.0), optimizer)
            return optimizer

    trainer = OwnLoss(model=Classifier(), args=arguments(tmp_path, max_steps=1), train_dataset=class_examples())
    trainer.train()
    # The average starts at zero, and the loss has weight 1 - 0.9.
    assert unwrap_optimizer(trainer.optimizer).last_step.loss_avg == pytest.approx(0.7)


def test_training_without_the_mixin_says_what_is_missing(tmp_path: Path) -> None:
    model = Classifier()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**quiet(tmp_path)),
        train_dataset=class_examples(),
        optimizers=(MomoAdam(model.parameters()), None),
    )
    with pytest.raises(ValueError, match=r"loss: got none.*use hf_momo\.MomoTrainer"):
        trainer.train()


@pytest.mark.parametrize(
    "options", [{}, {"max_grad_norm": 1.0, "gradient_accumulation_steps": 2, "weight_decay": 0.1}]
)
def test_other_optimizers_train_as_in_the_stock_trainer(tmp_path: Path, options: dict[str, Any]) -> None:
    runs = []
    for trainer_class in (Trainer, MomoTrainer):
        torch.manual_seed(0)
        trainer = trainer_class(
            model=Classifier(dropout=0.3),
            args=TrainingArguments(**(quiet(tmp_path) | {"optim": "adamw_torch", "learning_rate": 1e-2} | options)),
            train_dataset=class_examples(),
        )
        trainer.train()
        runs.append((training_logs(trainer), list(trainer.model.parameters())))
    (stock_logs, stock_params), (our_logs, our_params) = runs
    assert our_logs == stock_logs
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(our_params, stock_params, strict=True))


def stock_arguments(folder: Path, **options: Any) -> TrainingArguments:
    """Return stock arguments that name an optimizer of this package, like those of another argument class."""
    args = TrainingArguments(**(quiet(folder) | options))
    args.optim = "momo_adam"
    return args


def test_stock_arguments_at_their_default_rate_earn_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="hf_momo"):
        momo_cls_and_kwargs(stock_arguments(tmp_path))
    assert "--learning_rate 0.01" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="hf_momo"):
        momo_cls_and_kwargs(stock_arguments(tmp_path, learning_rate=1e-3))
        momo_cls_and_kwargs(arguments(tmp_path, learning_rate=5e-5))
    assert caplog.text == ""


def test_stock_arguments_train(tmp_path: Path) -> None:
    trainer = ProbedTrainer(
        model=Classifier(),
        args=stock_arguments(tmp_path, learning_rate=0.1, max_steps=5),
        train_dataset=class_examples(),
    )
    trainer.train()
    model = Classifier()
    optimizer = MomoAdam(decay_groups(model, 0.0), lr=0.1)
    steps = plain_loop(model, optimizer, [[batch] for batch in micro_batches(class_examples(), 4)[:5]])
    assert [handed.loss for handed in trainer.probe.steps] == pytest.approx([step.loss for step in steps], rel=1e-5)


def test_the_automatic_bound_needs_to_know_the_classes(tmp_path: Path) -> None:
    class Anonymous(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.config = SimpleNamespace(problem_type=None)

    trainer = MomoTrainer(
        model=Anonymous(),
        args=arguments(tmp_path, optim_args="lower_bound=auto", label_smoothing_factor=0.1),
        train_dataset=class_examples(),
    )
    with pytest.raises(ValueError, match=r"lower_bound: got 'auto'.*pass the bound as a number"):
        trainer.train()


def test_train_evaluate_predict_save(tmp_path: Path) -> None:
    trainer = MomoTrainer(
        model=Classifier(),
        args=arguments(
            tmp_path, learning_rate=0.1, max_steps=-1, num_train_epochs=20, eval_strategy="epoch", logging_steps=8
        ),
        train_dataset=class_examples(),
        eval_dataset=class_examples(16),
        compute_metrics=lambda output: {"accuracy": float((output[0].argmax(-1) == output[1]).mean())},
    )
    before = trainer.evaluate()
    result = trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < 0.3 * before["eval_loss"]
    assert after["eval_accuracy"] > 0.85
    assert result.metrics["train_loss"] < before["eval_loss"]
    predicted = trainer.predict(class_examples(16))
    assert predicted.metrics["test_accuracy"] == after["eval_accuracy"]

    trainer.save_model(tmp_path / "saved")
    from safetensors.torch import load_file

    restored = Classifier()
    restored.load_state_dict(load_file(tmp_path / "saved" / "model.safetensors"))
    restored.eval()
    with torch.no_grad():
        logits = restored(class_examples(16)[0]["features"].unsqueeze(0))["logits"]
    torch.testing.assert_close(logits[0], torch.as_tensor(predicted.predictions[0]))
    args = torch.load(tmp_path / "saved" / "training_args.bin", weights_only=False)
    assert (args.optim, args.learning_rate) == ("momo_adam", 0.1)


def test_evaluation_between_steps_changes_nothing(tmp_path: Path) -> None:
    def weights(folder: Path, **options: Any) -> list[Tensor]:
        trainer = MomoTrainer(
            model=Classifier(),
            args=arguments(folder, learning_rate=0.1, gradient_accumulation_steps=2, **options),
            train_dataset=class_examples(),
            eval_dataset=class_examples(8),
        )
        trainer.train()
        return list(trainer.model.parameters())

    plain = weights(tmp_path / "a")
    evaluated = weights(tmp_path / "b", eval_strategy="steps", eval_steps=1)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(plain, evaluated, strict=True))


def test_sequences_are_trained_generated_and_saved(tmp_path: Path) -> None:
    from transformers import MarianMTModel

    trainer = MomoSeq2SeqTrainer(
        model=marian(),
        args=seq2seq_arguments(
            tmp_path,
            learning_rate=1e-2,
            max_steps=60,
            logging_steps=10,
            predict_with_generate=True,
            generation_max_length=8,
            generation_num_beams=2,
        ),
        train_dataset=text_examples(),
        eval_dataset=text_examples(8),
        compute_metrics=lambda output: {"count": len(output.predictions)},
    )
    trainer.train()
    logs = training_logs(trainer)
    assert logs[-1]["loss"] < 0.8 * logs[0]["loss"]
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] < logs[0]["loss"]
    predicted = trainer.predict(text_examples(8))
    assert predicted.predictions.shape[0] == predicted.metrics["test_count"] == 8
    trainer.model.eval()
    batch = micro_batches(text_examples(4), 4)[0]
    generated = trainer.model.generate(
        batch["input_ids"], attention_mask=batch["attention_mask"], max_length=8, num_beams=2
    )
    assert generated.unique().numel() > 2, "the model is meant to have something to say"
    assert predicted.predictions[:4, : generated.shape[1]].tolist() == generated.tolist()

    trainer.save_model(tmp_path / "saved")
    restored = MarianMTModel.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        torch.testing.assert_close(restored(**batch).loss, trainer.model(**batch).loss)
