"""The argument classes: names, learning rates, options, the command line, files and pickles."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from trainer.tiny import Classifier, arguments, class_examples, quiet, seq2seq_arguments
from transformers import HfArgumentParser, TrainingArguments
from transformers.training_args import OptimizerNames

from hf_momo import MomoSeq2SeqTrainer, MomoSeq2SeqTrainingArguments, MomoTrainer, MomoTrainingArguments
from hf_momo.optimizers.registry import get_optimizer_info, list_optimizers, unwrap_optimizer

CLASSES = [MomoTrainingArguments, MomoSeq2SeqTrainingArguments]
NAMES = ", ".join(list_optimizers())


@pytest.fixture(params=CLASSES, ids=["causal", "seq2seq"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda **options: request.param(**(quiet(tmp_path) | options))


@pytest.mark.parametrize(
    ("optim", "learning_rate"), [("momo", 1.0), ("momo_adam", 1e-2), ("adamw_torch", 5e-5), ("sgd", 5e-5)]
)
def test_a_learning_rate_left_out_is_the_optimizers_own(make: Any, optim: str, learning_rate: float) -> None:
    assert make(optim=optim).learning_rate == learning_rate
    assert make(optim=optim, learning_rate=3e-4).learning_rate == 3e-4
    assert make(optim=optim, learning_rate=0.0).learning_rate == 0.0


@pytest.mark.parametrize(
    ("optim", "betas"),
    [("momo_lion", (0.9, 0.99)), ("momo_adam", (0.9, 0.999)), ("momo", (0.9, 0.999)), ("adamw_torch", (0.9, 0.999))],
)
def test_betas_left_out_are_the_optimizers_own(make: Any, optim: str, betas: tuple[float, float]) -> None:
    """Lion's betas are not Adam's: the Trainer's defaults would have replaced them."""

    def betas_of(args: Any) -> tuple[float, float, float]:
        return args.adam_beta1, args.adam_beta2, args.adam_epsilon

    assert betas_of(make(optim=optim)) == (*betas, 1e-8)
    assert betas_of(make(optim=optim, adam_beta2=0.999)) == (betas[0], 0.999, 1e-8)
    assert betas_of(make(optim=optim, adam_beta1=0.0, adam_epsilon=0.0)) == (0.0, betas[1], 0.0)
    if optim.startswith("momo"):
        assert betas_of(make(optim="adamw_torch").set_optimizer(optim)) == (*betas, 1e-8)
        assert betas_of(make().set_optimizer(optim, 0.1, 0.0, 0.8, epsilon=1e-6)) == (0.8, betas[1], 1e-6)


def test_betas_reach_lion(tmp_path: Path) -> None:
    for given, betas in (({}, (0.9, 0.99)), ({"adam_beta1": 0.95, "adam_beta2": 0.98}, (0.95, 0.98))):
        args = arguments(tmp_path, optim="momo_lion", **given)
        trainer = MomoTrainer(model=Classifier(), args=args, train_dataset=class_examples())
        groups = unwrap_optimizer(trainer.create_optimizer()).param_groups
        assert [group["betas"] for group in groups] == [betas] * len(groups)


def test_momo_adam_is_the_default(make: Any) -> None:
    assert (make().optim, make().learning_rate) == ("momo_adam", 1e-2)


@pytest.mark.parametrize("name", [member.value for member in OptimizerNames])
def test_every_name_of_the_stock_class_means_what_it_means_there(make: Any, name: str, tmp_path: Path) -> None:
    assert make(optim=name).optim == TrainingArguments(**(quiet(tmp_path) | {"optim": name})).optim
    assert make(optim=OptimizerNames(name)).optim is OptimizerNames(name)


@pytest.mark.parametrize("name", ["momoadam", "Momo", "", "adamw"])
def test_an_unknown_name_gets_the_known_ones(make: Any, name: str) -> None:
    with pytest.raises(ValueError, match=rf"optim: got '{name}', must be one of {NAMES}, adamw_torch"):
        make(optim=name)
    with pytest.raises(ValueError, match=rf"optim: got '{name}', must be one of {NAMES}, adamw_torch"):
        make().set_optimizer(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lower_bond=1", r"momo_adam has no option 'lower_bond'; it has .*lower_bound.*adapt_lower_bound"),
        ("beta=0.9", "momo_adam has no option 'beta'"),
        ("lower_bound", "got 'lower_bound', must be key=value pairs separated by commas"),
        ("lower_bound=", "got 'lower_bound=', must be key=value pairs"),
        ("lower_bound=low", "got lower_bound=low, must be a number"),
        ("adapt_lower_bound=yes", "got adapt_lower_bound=yes, must be true or false"),
        ("lr=1", "lr is set by --learning_rate"),
        ("betas=0.9", "betas is set by --adam_beta1 and --adam_beta2"),
        ("eps=1e-8", "eps is set by --adam_epsilon"),
        ("weight_decay=0.1", "weight_decay is set by --weight_decay"),
    ],
)
def test_bad_optim_args_are_refused_at_once(make: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"optim_args: {message}"):
        make(optim="momo_adam", optim_args=text)


def test_optim_args_of_stock_optimizers_are_not_ours_to_judge(make: Any) -> None:
    assert make(optim="adamw_torch", optim_args="foo=bar").optim_args == "foo=bar"


@pytest.mark.parametrize(
    ("optim", "text", "expected"),
    [
        ("momo_adam", None, {"adapt_lower_bound": False, "initial_lower_bound": 0.0}),
        ("momo_adam", "", {"adapt_lower_bound": False, "initial_lower_bound": 0.0}),
        (
            "momo_adam",
            "adapt_lower_bound=true,lower_bound=0.5",
            {"adapt_lower_bound": True, "initial_lower_bound": 0.5},
        ),
        ("momo_adam", " adapt_lower_bound = True , lower_bound = -1e3 ,", {"initial_lower_bound": -1000.0}),
        ("momo_adam", "weight_decay_form=adamw", {"weight_decay_form": "adamw"}),
        ("momo_adam", "lower_bound=auto", {"initial_lower_bound": 0.0}),
        ("momo", "beta=0.5,bias_correction=1", {"momentum": 0.5, "bias_correction": True}),
        ("momo", "kernel=eager", {}),
    ],
)
def test_optim_args_reach_the_optimizer_typed(
    tmp_path: Path, optim: str, text: str | None, expected: dict[str, Any]
) -> None:
    args = arguments(tmp_path, optim=optim, optim_args=text, weight_decay=0.25, adam_beta2=0.95, adam_epsilon=1e-6)
    trainer = MomoTrainer(model=Classifier(), args=args, train_dataset=class_examples())
    groups = unwrap_optimizer(trainer.create_optimizer()).param_groups
    assert {key: groups[0][key] for key in expected} == expected
    assert [group["weight_decay"] for group in groups] == [0.25, 0.0]
    if optim == "momo_adam":
        assert (groups[0]["betas"], groups[0]["eps"]) == ((0.9, 0.95), 1e-6)


def test_set_optimizer(make: Any) -> None:
    args = make(optim="adamw_torch").set_optimizer("momo", learning_rate=2.0, args="beta=0.8")
    assert (args.optim, args.learning_rate, args.optim_args) == ("momo", 2.0, "beta=0.8")
    args = make(optim="adamw_torch").set_optimizer("momo_adam", beta2=0.95, weight_decay=0.1)
    assert (args.optim, args.learning_rate, args.adam_beta2, args.weight_decay) == ("momo_adam", 1e-2, 0.95, 0.1)
    assert make().set_optimizer("momo", 3.0).learning_rate == 3.0
    assert make().set_optimizer(learning_rate=0.5).optim == "momo_adam"
    args = make(optim="momo").set_optimizer("adamw_torch", learning_rate=1e-3)
    assert (args.optim, args.learning_rate) == (OptimizerNames.ADAMW_TORCH, 1e-3)
    with pytest.raises(ValueError, match="optim_args: momo has no option 'betas'"):
        make().set_optimizer("momo", args="betas=0.9")


class TestCommandLine:
    def parse(self, args_class: Any, *words: str) -> Any:
        common = ["--output_dir", "somewhere", "--use_cpu", "--report_to", "none"]
        return HfArgumentParser(args_class).parse_args_into_dataclasses([*common, *words])[0]

    @pytest.mark.parametrize("args_class", CLASSES)
    def test_every_flag(self, args_class: Any) -> None:
        words = "--optim momo_adam --learning_rate 1e-3 --optim_args adapt_lower_bound=true,lower_bound=0.5"
        args = self.parse(args_class, *words.split())
        assert type(args) is args_class
        assert (args.optim, args.learning_rate) == ("momo_adam", 1e-3)
        assert args.optim_args == "adapt_lower_bound=true,lower_bound=0.5"

    @pytest.mark.parametrize("args_class", CLASSES)
    def test_left_out(self, args_class: Any) -> None:
        assert self.parse(args_class).learning_rate == 1e-2
        assert self.parse(args_class, "--optim", "momo").learning_rate == 1.0
        assert self.parse(args_class, "--optim", "adamw_torch").learning_rate == 5e-5

    def test_a_typing_error(self) -> None:
        with pytest.raises(ValueError, match="optim: got 'momo_adm', must be one of momo, momo_adam"):
            self.parse(MomoTrainingArguments, "--optim", "momo_adm")

    def test_the_help_names_them(self) -> None:
        text = " ".join(HfArgumentParser(MomoTrainingArguments).format_help().split())
        assert f"The optimizer: {NAMES}, or any of the Trainer's own." in text
        for name in list_optimizers():
            assert f"{get_optimizer_info(name).defaults['lr']:g} for {name}" in text
        assert "Cap on the step size" in text

    @pytest.mark.parametrize("args_class", CLASSES)
    def test_a_dictionary_and_files(self, args_class: Any, tmp_path: Path) -> None:
        content = {
            "output_dir": str(tmp_path),
            "use_cpu": True,
            "report_to": "none",
            "optim": "momo",
            "optim_args": "beta=0.5",
        }
        parser = HfArgumentParser(args_class)
        (tmp_path / "args.json").write_text(json.dumps(content))
        (tmp_path / "args.yaml").write_text("\n".join(f"{key}: {value}" for key, value in content.items()))
        for args in (
            parser.parse_dict(content)[0],
            parser.parse_json_file(str(tmp_path / "args.json"))[0],
            parser.parse_yaml_file(str(tmp_path / "args.yaml"))[0],
        ):
            assert (args.optim, args.optim_args, args.learning_rate) == ("momo", "beta=0.5", 1.0)


class TestOnDisk:
    def test_dictionaries_and_json(self, make: Any) -> None:
        args = make(optim="momo", learning_rate=2.0)
        assert args.to_dict()["optim"] == "momo"
        assert json.loads(args.to_json_string())["optim"] == "momo"
        assert args.to_sanitized_dict()["optim"] == "momo"
        assert args.to_sanitized_dict()["learning_rate"] == 2.0
        assert "optim='momo'" in str(args).replace("optim=momo", "optim='momo'")

    def test_replace(self, make: Any) -> None:
        args = make(optim="momo", optim_args="beta=0.5", learning_rate=2.0)
        other = dataclasses.replace(args, learning_rate=3.0)
        assert (other.optim, other.optim_args, other.learning_rate) == ("momo", "beta=0.5", 3.0)
        assert dataclasses.replace(args, optim="momo_adam", optim_args=None).optim == "momo_adam"

    # to_dict of transformers 4 contains this key, and its own constructor warns of it.
    @pytest.mark.filterwarnings("ignore:`--push_to_hub_token` is deprecated:FutureWarning")
    def test_a_dictionary_makes_the_same_arguments(self, tmp_path: Path) -> None:
        args = arguments(tmp_path, optim="momo", optim_args="beta=0.5", learning_rate=2.0)
        again = HfArgumentParser(MomoTrainingArguments).parse_dict(args.to_dict(), allow_extra_keys=True)[0]
        assert again.to_dict() == args.to_dict()

    def test_training_args_bin_loads_where_nothing_was_imported(self, tmp_path: Path) -> None:
        for folder, args, trainer_class in (
            (tmp_path / "one", arguments(tmp_path, optim="momo", optim_args="beta=0.5"), MomoTrainer),
            (tmp_path / "two", seq2seq_arguments(tmp_path, learning_rate=0.1), MomoSeq2SeqTrainer),
        ):
            trainer_class(model=Classifier(), args=args, train_dataset=class_examples()).save_model(folder)
            assert torch.load(folder / "training_args.bin", weights_only=False) == args
        script = (
            "import sys, torch\n"
            "for path in sys.argv[1:]:\n"
            "    args = torch.load(path + '/training_args.bin', weights_only=False)\n"
            "    print(type(args).__name__, args.optim, args.learning_rate, args.optim_args)\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "one"), str(tmp_path / "two")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout.splitlines() == [
            "MomoTrainingArguments momo 1.0 beta=0.5",
            "MomoSeq2SeqTrainingArguments momo_adam 0.1 None",
        ]
