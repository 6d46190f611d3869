"""``MomoArgumentsMixin`` extends argument classes of other packages."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from trainer.tiny import Classifier, ProbedTrainer, class_examples, quiet, training_logs
from transformers import HfArgumentParser, TrainingArguments

from hf_momo import MomoArgumentsMixin, MomoTrainingArguments


@dataclass
class TheirArguments(TrainingArguments):
    """A class like TRL's configurations: another default, one field more, and its own check."""

    learning_rate: float = field(default=2e-5, metadata={"help": "The initial learning rate for AdamW."})
    temperature: float = field(default=1.0, metadata={"help": "A new field."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0.0:
            raise ValueError(f"temperature: got {self.temperature}")


@dataclass
class OurArguments(MomoArgumentsMixin, TheirArguments):
    pass


def test_the_fields_of_both(tmp_path: Path) -> None:
    args = OurArguments(**quiet(tmp_path), temperature=0.5)
    assert (args.optim, args.learning_rate, args.temperature) == ("momo_adam", 1e-2, 0.5)
    assert OurArguments(**quiet(tmp_path), optim="momo").learning_rate == 1.0
    assert OurArguments(**quiet(tmp_path), optim="momo", learning_rate=3.0).learning_rate == 3.0
    names = [each.name for each in dataclasses.fields(OurArguments)]
    assert names == [each.name for each in dataclasses.fields(TheirArguments)], "positional arguments keep their place"
    assert OurArguments(str(tmp_path)).output_dir == str(tmp_path)


def test_other_optimizers_keep_the_default_of_the_other_class(tmp_path: Path) -> None:
    assert OurArguments(**quiet(tmp_path), optim="adamw_torch").learning_rate == 2e-5
    assert MomoTrainingArguments(**quiet(tmp_path), optim="adamw_torch").learning_rate == 5e-5


def test_both_checks_are_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="temperature: got 0"):
        OurArguments(**quiet(tmp_path), temperature=0.0)
    with pytest.raises(ValueError, match="optim: got 'momo_adm', must be one of momo, momo_adam"):
        OurArguments(**quiet(tmp_path), optim="momo_adm")
    with pytest.raises(ValueError, match="optim_args: momo_adam has no option 'beta'"):
        OurArguments(**quiet(tmp_path), optim_args="beta=0.5")


def test_the_command_line(tmp_path: Path) -> None:
    words = ["--output_dir", str(tmp_path), "--use_cpu", "--optim", "momo", "--temperature", "2"]
    (args,) = HfArgumentParser(OurArguments).parse_args_into_dataclasses(words)
    assert (args.optim, args.learning_rate, args.temperature) == ("momo", 1.0, 2.0)


def test_it_trains_and_is_saved(tmp_path: Path) -> None:
    trainer = ProbedTrainer(
        model=Classifier(),
        args=OurArguments(**quiet(tmp_path), optim_args="lower_bound=0.25"),
        train_dataset=class_examples(),
    )
    trainer.train()
    assert {entry["lower_bound"] for entry in training_logs(trainer)} == {0.25}
    trainer.save_model(tmp_path / "saved")
    assert torch.load(tmp_path / "saved" / "training_args.bin", weights_only=False) == trainer.args


def test_in_the_wrong_order() -> None:
    with pytest.raises(TypeError, match=r"Wrong: MomoArgumentsMixin must come before .*: class Wrong\(MomoArgumentsM"):

        class Wrong(TheirArguments, MomoArgumentsMixin):
            pass


@pytest.mark.parametrize("options", [{}, {"optim": "momo"}])
def test_without_the_decorator(tmp_path: Path, options: dict[str, Any]) -> None:
    class Bare(MomoArgumentsMixin, TheirArguments):
        pass

    with pytest.raises(TypeError, match="Bare: decorate the class with @dataclass"):
        Bare(output_dir=str(tmp_path), **options)
