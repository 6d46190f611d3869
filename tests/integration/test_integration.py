"""``hf_momo.integrate()``: the names as good as built-in ones, and transformers as it was when it is undone."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from trainer.tiny import Classifier, class_examples
from transformers import HfArgumentParser, Seq2SeqTrainingArguments, Trainer, TrainingArguments
from transformers import trainer as trainer_module
from transformers.training_args import OptimizerNames

import hf_momo
from hf_momo import MomoTrainer, list_optimizers

NAMES = list_optimizers()
by_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def integrated() -> Iterator[None]:
    hf_momo.integrate()
    yield
    hf_momo.integrate(undo=True)


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    return TrainingArguments(
        str(folder), **({"use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1} | options)
    )


def surface() -> dict[str, Any]:
    """Everything of transformers that ``integrate`` is said to change."""
    table = getattr(trainer_module, "_OPTIMIZER_HANDLERS", {})
    return {
        "names": list(OptimizerNames),
        "members": dict(OptimizerNames._member_map_),
        "values": dict(OptimizerNames._value2member_map_),
        "hashable": list(getattr(OptimizerNames, "_hashable_values_", [])),
        "attributes": [name for name in vars(OptimizerNames) if name.startswith("MOMO")],
        "table": dict(table),
        "static": Trainer.__dict__["get_optimizer_cls_and_kwargs"],
        "init": Trainer.__init__,
        "post_init": TrainingArguments.__post_init__,
        "defaults": [cls.__init__.__defaults__ for cls in (TrainingArguments, Seq2SeqTrainingArguments)],
        "types": [
            type(cls.__dataclass_fields__["learning_rate"].default)
            for cls in (TrainingArguments, Seq2SeqTrainingArguments)
        ],
        "left out": TrainingArguments.__init__.__defaults__,
    }


def test_undone_leaves_transformers_as_it_was() -> None:
    before = surface()
    for _ in range(2):
        hf_momo.integrate()
        changed = surface()
        hf_momo.integrate()
        assert surface() == changed, "doing it twice changes nothing"
        assert {key for key in before if before[key] != changed[key]} >= {"names", "members", "values", "init"}
        hf_momo.integrate(undo=True)
        assert surface() == before
        hf_momo.integrate(undo=True)
        assert surface() == before
    with pytest.raises(ValueError, match="momo_adam"):
        TrainingArguments("out", optim="momo_adam")
    assert type(TrainingArguments("out", use_cpu=True).learning_rate) is float


def test_importing_changes_nothing() -> None:
    """In a process of its own: this one has long imported everything."""
    code = """
import transformers
from transformers.training_args import OptimizerNames
before = list(OptimizerNames), transformers.Trainer.__init__, transformers.TrainingArguments.__post_init__
import hf_momo, hf_momo.integration
from hf_momo import MomoTrainer, MomoTrainingArguments, integrate
assert before == (
    list(OptimizerNames), transformers.Trainer.__init__, transformers.TrainingArguments.__post_init__
)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@by_name
def test_the_member_is_a_member(integrated: None, name: str) -> None:
    member = OptimizerNames(name)
    assert member is OptimizerNames[name.upper()] is getattr(OptimizerNames, name.upper())
    assert member in list(OptimizerNames)
    assert isinstance(member, OptimizerNames)
    assert (member.value, member.name, member == name, hash(member)) == (name, name.upper(), True, hash(name))
    assert len(OptimizerNames) == len(set(OptimizerNames))
    assert json.loads(json.dumps({"optim": member})) == {"optim": name}
    assert copy.copy(member) is copy.deepcopy(member) is member
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(member, protocol)) is member
    assert repr(member) == f"<OptimizerNames.{name.upper()}: {name!r}>"


@by_name
def test_arguments_in_words_dicts_and_files(integrated: None, name: str, tmp_path: Path) -> None:
    parser = HfArgumentParser(TrainingArguments)
    words = ["--output_dir", str(tmp_path), "--optim", name, "--learning_rate", "0.5", "--use_cpu"]
    (args,) = parser.parse_args_into_dataclasses(words)
    assert args.optim is OptimizerNames(name)
    assert name in parser.format_help()
    as_dict = args.to_dict()
    assert as_dict["optim"] == name
    assert json.loads(args.to_json_string())["optim"] == args.to_sanitized_dict()["optim"] == name
    given = {"output_dir": str(tmp_path), "optim": name, "learning_rate": 0.5, "use_cpu": True}
    (tmp_path / "args.json").write_text(json.dumps(given))
    (tmp_path / "args.yaml").write_text(yaml.safe_dump(given))
    for (read,) in (
        parser.parse_dict(given),
        parser.parse_json_file(tmp_path / "args.json"),
        parser.parse_yaml_file(tmp_path / "args.yaml"),
    ):
        assert (read.optim, read.learning_rate) == (OptimizerNames(name), 0.5)
    assert dataclasses.replace(args, learning_rate=0.1).optim is OptimizerNames(name)
    assert args.set_optimizer(name, learning_rate=0.2).optim is OptimizerNames(name)


def test_training_args_bin_in_a_process_that_has_not_imported_us(integrated: None, tmp_path: Path) -> None:
    """It failed with a ValueError of the enum, which does not know the name there."""
    torch.save(arguments(tmp_path, optim="momo_adam"), tmp_path / "training_args.bin")
    code = "import sys, torch; args = torch.load(sys.argv[1], weights_only=False); print(repr(args.optim))"
    output = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "training_args.bin")],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert output.strip().splitlines()[-1] == "<OptimizerNames.MOMO_ADAM: 'momo_adam'>"


@dataclasses.dataclass
class OwnDefault(TrainingArguments):
    """As TRL's configurations are: made before ``integrate`` is called, with a learning rate of its own."""

    learning_rate: float = 2e-5


RATES = {
    "left-out": ({}, {"momo": 1.0, "momo_adam": 0.01}, 5e-5),
    "given": ({"learning_rate": 0.3}, {"momo": 0.3, "momo_adam": 0.3}, 0.3),
    "given-as-the-default": ({"learning_rate": 5e-5}, {"momo": 5e-5, "momo_adam": 5e-5}, 5e-5),
}


@pytest.mark.parametrize("cls", [TrainingArguments, Seq2SeqTrainingArguments, OwnDefault])
@pytest.mark.parametrize(("options", "ours", "theirs"), RATES.values(), ids=RATES)
def test_the_learning_rate(
    integrated: None, cls: Any, options: dict[str, float], ours: dict[str, float], theirs: float, tmp_path: Path
) -> None:
    """Left out it is the optimizer's own default, from Python and from the command line; others keep theirs."""

    @dataclasses.dataclass
    class Later(cls):  # type: ignore[misc]
        more: int = 0

    expected = dict.fromkeys(["adamw_torch"], 2e-5 if cls is OwnDefault and not options else theirs) | ours
    for arguments_class in (cls, Later):
        for name, rate in expected.items():
            made = arguments_class(str(tmp_path), optim=name, use_cpu=True, **options)
            words = ["--output_dir", str(tmp_path), "--optim", name, "--use_cpu"]
            words += [f"--{key}={value}" for key, value in options.items()]
            (parsed,) = HfArgumentParser(arguments_class).parse_args_into_dataclasses(words)
            assert made.learning_rate == parsed.learning_rate == rate, (name, arguments_class)
            assert type(made.learning_rate) is type(parsed.learning_rate) is float


def test_the_log_says_which_learning_rate(integrated: None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments(tmp_path, optim="momo_adam")
    assert "learning_rate was not given: momo_adam takes its own default 0.01 as the cap" in caplog.text


@by_name
def test_the_class_is_asked(integrated: None, name: str, tmp_path: Path) -> None:
    """As some trainers do: ``Trainer.get_optimizer_cls_and_kwargs(args)``."""
    cls, options = Trainer.get_optimizer_cls_and_kwargs(arguments(tmp_path, optim=name, optim_args="lower_bound=0.2"))
    assert (cls, options["lower_bound"]) == (hf_momo.get_optimizer_info(name).optimizer_cls, 0.2)


class Overriding(Trainer):
    """A user's subclass: what it overrides stays in force."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return 2.0 * super().compute_loss(*args, **kwargs)  # type: ignore[operator]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        super().log({**logs, "mine": 1.0}, *args, **kwargs)


def test_a_subclass_keeps_what_it_overrides(integrated: None, tmp_path: Path) -> None:
    options = {"optim": "momo_adam", "max_steps": 4, "max_grad_norm": 0.0}
    trainer: Any = Overriding(Classifier(), arguments(tmp_path, **options), train_dataset=class_examples())
    assert isinstance(trainer, Overriding)
    assert type(trainer).__name__ == "Overriding"
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 4
    assert all(entry["mine"] == 1.0 and entry["step_size"] > 0 for entry in logs)
    optimizer = trainer.optimizer.optimizer
    plain: Any = MomoTrainer(Classifier(), arguments(tmp_path, **options), train_dataset=class_examples())
    plain.train()
    ratio = optimizer.last_step.loss_avg / plain.optimizer.optimizer.last_step.loss_avg
    assert ratio == pytest.approx(2.0, rel=0.05)


def test_other_optimizers_train_as_without(tmp_path: Path) -> None:
    def weights() -> list[torch.Tensor]:
        trainer = Trainer(Classifier(), arguments(tmp_path, max_steps=4), train_dataset=class_examples())
        trainer.train()
        return [param.detach() for param in trainer.model.parameters()]  # type: ignore[union-attr]

    before = weights()
    hf_momo.integrate()
    try:
        during = weights()
    finally:
        hf_momo.integrate(undo=True)
    for others in (during, weights()):
        assert all(torch.equal(a, b) for a, b in zip(before, others, strict=True))
