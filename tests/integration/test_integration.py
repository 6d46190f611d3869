"""``hf_momo.integrate()``: the names work like built-in ones, and stock optimizers keep the stock Trainer."""

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
from transformers.training_args import OptimizerNames

import hf_momo
from hf_momo import MomoAdam, MomoTrainer, MomoTrainerMixin, list_optimizers

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
    """Everything in transformers that ``integrate`` changes."""
    return {
        "names": list(OptimizerNames),
        "members": dict(OptimizerNames._member_map_),
        "values": dict(OptimizerNames._value2member_map_),
        "hashable": list(getattr(OptimizerNames, "_hashable_values_", [])),
        "attributes": [name for name in vars(OptimizerNames) if name.startswith("MOMO")],
        "static": Trainer.__dict__["get_optimizer_cls_and_kwargs"],
        "init": Trainer.__init__,
        "loop": Trainer._inner_training_loop,
        "post_init": TrainingArguments.__post_init__,
        "defaults": [cls.__init__.__defaults__ for cls in (TrainingArguments, Seq2SeqTrainingArguments)],
        "types": [
            type(cls.__dataclass_fields__["learning_rate"].default)
            for cls in (TrainingArguments, Seq2SeqTrainingArguments)
        ],
    }


def test_undone_leaves_transformers_as_it_was() -> None:
    before = surface()
    for _ in range(2):
        hf_momo.integrate()
        changed = surface()
        hf_momo.integrate()
        assert surface() == changed, "doing it twice changes nothing"
        assert {key for key in before if before[key] != changed[key]} >= {"names", "members", "values", "init", "loop"}
        hf_momo.integrate(undo=True)
        assert surface() == before
        hf_momo.integrate(undo=True)
        assert surface() == before
    with pytest.raises(ValueError, match="momo_adam"):
        TrainingArguments("out", optim="momo_adam")
    assert type(TrainingArguments("out", use_cpu=True).learning_rate) is float


def test_importing_changes_nothing() -> None:
    """Importing is tested in a new process, since this one has imported everything."""
    code = """
from transformers import Trainer, TrainingArguments
from transformers.training_args import OptimizerNames
before = list(OptimizerNames), dict(vars(Trainer)), TrainingArguments.__post_init__
import hf_momo, hf_momo.integration
from hf_momo import MomoTrainer, MomoTrainingArguments, integrate
assert before == (list(OptimizerNames), dict(vars(Trainer)), TrainingArguments.__post_init__)
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
    """Loading failed with a ValueError of the enum, which does not know the name in a new process."""
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
    """A class like TRL's configurations: made before ``integrate`` is called, with another default learning rate."""

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
    """The default is the optimizer's own, in Python and on the command line; other optimizers keep the class's."""

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


@dataclasses.dataclass
class OwnBetas(TrainingArguments):
    adam_beta2: float = 0.95


def test_betas_left_out_are_the_optimizers_own(integrated: None, tmp_path: Path) -> None:
    """A class of arguments that has chosen a beta keeps it, and so does a user who gives the stock default."""
    common = {"output_dir": str(tmp_path), "use_cpu": True}
    for cls, given, optim, expected in (
        (TrainingArguments, {}, "momo_lion", (0.9, 0.99)),
        (TrainingArguments, {"adam_beta2": 0.999}, "momo_lion", (0.9, 0.999)),
        (TrainingArguments, {}, "momo_adam", (0.9, 0.999)),
        (TrainingArguments, {}, "adamw_torch", (0.9, 0.999)),
        (OwnBetas, {}, "momo_lion", (0.9, 0.95)),
        (OwnBetas, {}, "momo_adam", (0.9, 0.95)),
    ):
        words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
        words += ["--output_dir", str(tmp_path), "--use_cpu", "--optim", optim]
        (parsed,) = HfArgumentParser(cls).parse_args_into_dataclasses(words)
        for args in (cls(**common, **given, optim=optim), parsed):
            assert (args.adam_beta1, args.adam_beta2) == expected
            assert type(args.adam_beta1) is type(args.adam_beta2) is float


def test_the_log_says_which_learning_rate(integrated: None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments(tmp_path, optim="momo_adam")
    assert "learning_rate was not given: momo_adam caps its step at its own default 0.01" in caplog.text


@pytest.mark.parametrize("name", [name for name in NAMES if not hf_momo.get_optimizer_info(name).takes_base])
def test_the_class_is_asked(integrated: None, name: str, tmp_path: Path) -> None:
    """Some trainers call ``Trainer.get_optimizer_cls_and_kwargs(args)``."""
    cls, options = Trainer.get_optimizer_cls_and_kwargs(arguments(tmp_path, optim=name, optim_args="lower_bound=0.2"))
    assert (cls, options["lower_bound"]) == (hf_momo.get_optimizer_info(name).optimizer_cls, 0.2)


class Overriding(Trainer):
    """A user's subclass, whose methods must stay in force."""

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


def test_other_optimizers_train_as_without_integrate(tmp_path: Path) -> None:
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


def stock_errors_and_card(folder: Path) -> dict[str, Any]:
    """Return class, callbacks, error, card and logs of a Trainer with AdamW."""
    trainer: Any = Trainer(
        Classifier(), arguments(folder, optim="adamw_torch", max_steps=1), train_dataset=class_examples()
    )
    with pytest.raises(ValueError, match="Can't find a valid checkpoint at /no/such") as raised:
        trainer.train(resume_from_checkpoint="/no/such")
    trainer.train()
    trainer.create_model_card(model_name="a model")
    return {
        "type": type(trainer),
        "attributes": sorted(vars(trainer)),
        "callbacks": [type(callback) for callback in trainer.callback_handler.callbacks],
        "error": str(raised.value),
        "card": (folder / "README.md").read_text(),
        "log": [sorted(entry) for entry in trainer.state.log_history],
    }


def test_a_trainer_with_another_optimizer_is_the_stock_trainer(tmp_path: Path) -> None:
    """The Trainer had another class, one callback more, other messages for a wrong checkpoint, and another card."""
    before = stock_errors_and_card(tmp_path / "out")
    hf_momo.integrate()
    try:
        during = stock_errors_and_card(tmp_path / "out")
    finally:
        hf_momo.integrate(undo=True)
    assert during == before
    assert during["type"] is Trainer


def test_momo_adds_what_it_needs_and_no_more(integrated: None, tmp_path: Path) -> None:
    """Cards, checkpoints and pushing stay the script's; the mixin adds the loss, the names and the logs."""
    stock: Any = Trainer(Classifier(), arguments(tmp_path), train_dataset=class_examples())
    trainer: Any = Trainer(Classifier(), arguments(tmp_path, optim="momo_adam"), train_dataset=class_examples())
    assert type(trainer).__mro__[1:] == (MomoTrainerMixin, *Trainer.__mro__)
    callbacks = [type(callback) for callback in trainer.callback_handler.callbacks]
    assert callbacks == [type(callback) for callback in stock.callback_handler.callbacks]
    for name in ("create_model_card", "push_to_hub", "save_model", "_save_checkpoint", "train"):
        assert getattr(type(trainer), name) is getattr(Trainer, name), name
    with pytest.raises(ValueError, match="Can't find a valid checkpoint at /no/such"):
        trainer.train(resume_from_checkpoint="/no/such")


def by_set_optimizer(trainer: Any) -> None:
    trainer.args.set_optimizer("momo_adam", learning_rate=0.1)


def by_optimizer(trainer: Any) -> None:
    trainer.optimizer = MomoAdam(trainer.model.parameters(), lr=0.1)


def by_class(trainer: Any) -> None:
    trainer.optimizer_cls_and_kwargs = (MomoAdam, {"lr": 0.1})


@pytest.mark.parametrize("choose", [by_set_optimizer, by_optimizer, by_class])
def test_momo_chosen_after_the_trainer_was_made(integrated: None, choose: Any, tmp_path: Path) -> None:
    trainer: Any = Trainer(
        Classifier(), arguments(tmp_path, optim="adamw_torch", max_steps=3), train_dataset=class_examples()
    )
    assert type(trainer) is Trainer
    choose(trainer)
    trainer.train()
    assert isinstance(trainer, MomoTrainerMixin)
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 3 and all("step_size" in entry for entry in logs)


def test_the_learning_rate_of_a_class_made_later(integrated: None, tmp_path: Path) -> None:
    """TRL's ``SFTConfig`` was made after ``integrate``, and left momo_adam with its own default, a cap of 2e-5."""

    @dataclasses.dataclass
    class Later(TrainingArguments):
        learning_rate: float = 2e-5

    words = ["--output_dir", str(tmp_path), "--use_cpu", "--optim"]
    for more, rate in (["momo_adam"], 0.01), (["momo_adam", "--learning_rate", "2e-5"], 2e-5), (["adamw_torch"], 2e-5):
        (args,) = HfArgumentParser(Later).parse_args_into_dataclasses([*words, *more])
        assert args.learning_rate == rate


@pytest.mark.parametrize("how", ["optimizers", "optimizer_cls_and_kwargs"])
def test_momo_given_to_a_trainer_whose_optim_is_another(integrated: None, how: str, tmp_path: Path) -> None:
    model = Classifier()
    given = {
        "optimizers": (MomoAdam(model.parameters(), lr=0.1), None),
        "optimizer_cls_and_kwargs": (MomoAdam, {"lr": 0.1}),
    }
    trainer: Any = Trainer(
        model, arguments(tmp_path, optim="adamw_torch", max_steps=3), train_dataset=class_examples(),
        **{how: given[how]},
    )  # fmt: skip
    trainer.train()
    assert trainer.optimizer.optimizer.last_step.num_steps == 3


# Names in files saved by earlier versions: the class of the arguments, and the function that makes the enum's member.
OLD_PICKLES = {
    "arguments": ("hf_momo.trainer", "MomoTrainingArguments"),
    "name": ("hf_momo.integration", "optimizer_name"),
}


@pytest.mark.parametrize(("module", "name"), OLD_PICKLES.values(), ids=OLD_PICKLES)
def test_training_args_bin_of_earlier_versions(module: str, name: str, tmp_path: Path) -> None:
    """The code has moved since, and a file must load in a process that has not imported hf_momo."""
    argument = "momo_adam" if name == "optimizer_name" else str(tmp_path)
    # pickle itself would write the present modules. This is a global, its one argument, and a call.
    call = f"c{module}\n{name}\n(V{argument}\ntR."
    path = tmp_path / "old.pkl"
    path.write_bytes(call.encode())
    code = "import pickle, sys; print(repr(getattr(x := pickle.load(open(sys.argv[1], 'rb')), 'optim', x)))"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "momo_adam" in done.stdout.splitlines()[-1]
