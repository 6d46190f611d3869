"""Settings from YAML and command line."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from transformers import Seq2SeqTrainingArguments

from common.config import parse_settings
from hf_momo.utils.errors import UsageError


@dataclass
class Settings:
    name: str | None = None
    rate: float = 0.5
    count: int = 1
    shuffle: bool = False
    scale: bool | None = None
    layers: list[int] = field(default_factory=list)


@dataclass
class Data:
    dataset_name: str | None = None
    dataset_revision: str | None = None
    train_file: str | None = None
    test_file: str | None = None


@dataclass
class Other:
    beams: int = 1


def parse(tmp_path: Path, yaml: str | None, *flags: str) -> Any:
    argv = list(flags)
    if yaml is not None:
        (tmp_path / "settings.yaml").write_text(yaml)
        argv += ["--config", str(tmp_path / "settings.yaml")]
    return parse_settings((Settings, Other), "test", argv)


@pytest.mark.parametrize(
    ("yaml", "flags", "expected"),
    [
        (None, [], Settings()),
        ("", [], Settings()),
        ("name: demo\ncount: 3", [], Settings(name="demo", count=3)),
        ("count: 3", ["--count", "4"], Settings(count=4)),
        # YAML 1.1 reads 1e-3 as a string; argparse makes it the number that the user meant.
        ("rate: 1e-3", [], Settings(rate=1e-3)),
        ("rate: -0.5", [], Settings(rate=-0.5)),
        ("shuffle: true\nscale: false", [], Settings(shuffle=True, scale=False)),
        ("shuffle: true", ["--shuffle", "false"], Settings(shuffle=False)),
        ("layers: [1, 2]", [], Settings(layers=[1, 2])),
        ("layers: [1, 2]", ["--layers", "3"], Settings(layers=[3])),
        ("name: null\ncount: 2", [], Settings(count=2)),
    ],
)
def test_yaml_gives_and_command_line_wins(
    tmp_path: Path, yaml: str | None, flags: list[str], expected: Settings
) -> None:
    assert parse(tmp_path, yaml, *flags)[0] == expected


@pytest.mark.parametrize(
    ("yaml", "flags", "expected"),
    [
        ("dataset_name: a\ndataset_revision: b", ["--train_file", "c"], Data(train_file="c")),
        ("dataset_name: a", ["--train_file=c", "--test_file", "d"], Data(train_file="c", test_file="d")),
        ("train_file: a\ntest_file: b", ["--dataset_name", "c"], Data(dataset_name="c")),
        ("train_file: a\ntest_file: b", ["--test_file", "c"], Data(train_file="a", test_file="c")),
        ("dataset_name: a", ["--dataset_revision", "b"], Data(dataset_name="a", dataset_revision="b")),
        # One too many, which the recipe refuses.
        ("", ["--dataset_name", "a", "--train_file", "b"], Data(dataset_name="a", train_file="b")),
    ],
)
def test_data_of_the_command_line_replaces_that_of_the_file(
    tmp_path: Path, yaml: str, flags: list[str], expected: Data
) -> None:
    """A model was fine-tuned on the demo's sentences, as demo.yaml names them, and not on the user's own files."""
    (tmp_path / "settings.yaml").write_text(yaml)
    argv = [*flags, "--config", str(tmp_path / "settings.yaml")]
    assert parse_settings((Data,), "test", argv)[0] == expected


def test_one_file_serves_several_dataclasses(tmp_path: Path) -> None:
    assert parse(tmp_path, "count: 2\nbeams: 5") == (Settings(count=2), Other(beams=5))


def test_training_arguments_take_mappings(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        "output_dir: out\nuse_cpu: true\n"
        "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1.0e-5}\n"
    )
    (arguments,) = parse_settings((Seq2SeqTrainingArguments,), "test", ["--config", str(tmp_path / "settings.yaml")])
    assert arguments.lr_scheduler_kwargs == {"min_lr": 1e-5}


@pytest.mark.parametrize(
    ("yaml", "flags", "trackers"),
    [
        ("report_to: [tensorboard, wandb]", [], ["tensorboard", "wandb"]),
        ("report_to: tensorboard", ["--report_to", "wandb", "trackio"], ["wandb", "trackio"]),
        ("report_to: tensorboard", [], ["tensorboard"]),
        ("report_to: tensorboard", ["--report_to", "none"], []),
    ],
)
def test_several_trackers(tmp_path: Path, yaml: str, flags: list[str], trackers: list[str]) -> None:
    (tmp_path / "settings.yaml").write_text(f"output_dir: out\nuse_cpu: true\n{yaml}\n")
    flags = ["--config", str(tmp_path / "settings.yaml"), *flags]
    (arguments,) = parse_settings((Seq2SeqTrainingArguments,), "test", flags)
    assert arguments.report_to == trackers


def test_help_keeps_the_lines_of_the_description(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings((Settings,), "Train ``x``.\n\n    python recipes/x.py \\\n        --count 3\n", ["--help"])
    assert "Train `x`.\n\n    python recipes/x.py \\\n        --count 3\n" in capsys.readouterr().out


@pytest.mark.skipif(
    not hasattr(Seq2SeqTrainingArguments, "trackio_static_space_id"), reason="transformers 4 copies nothing to a Space"
)
@pytest.mark.parametrize(("word", "value"), [("false", False), ("False", False), ("me/charts", "me/charts")])
def test_trackio_can_be_kept_from_the_hub(word: str, value: str | bool) -> None:
    flags = ["--output_dir", "out", "--use_cpu", "--trackio_static_space_id", word]
    (arguments,) = parse_settings((Seq2SeqTrainingArguments,), "test", flags)
    assert arguments.trackio_static_space_id == value


@pytest.mark.parametrize(
    ("yaml", "flags", "message"),
    [
        ("cuont: 3", [], r"settings\.yaml: cuont is not a setting \(did you mean count\?\)"),
        ("count: three", [], r"settings\.yaml: argument --count: invalid int value: 'three'"),
        ("- count", [], r"settings\.yaml must hold `name: value` lines, not a list"),
        ("count: [", [], r"settings\.yaml is not YAML"),
        (None, ["--cuont", "3"], r"--cuont is not a setting \(did you mean --count\?\)"),
        (None, ["--coun", "3"], r"--coun is not a setting"),
        (None, ["--count", "x"], r"argument --count: invalid int value"),
        (None, ["--config", "nowhere.yaml"], r"--config nowhere\.yaml: No such file"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, yaml: str | None, flags: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(tmp_path, yaml, *flags)


@pytest.mark.parametrize("config", sorted((Path(__file__).parents[2] / "recipes" / "configs").glob("*.yaml")))
def test_configs_open_with_what_they_are(config: Path) -> None:
    header = re.match(r"(?:#.*\n)+", config.read_text())
    assert header is not None
    assert f"--config recipes/configs/{config.name}" in header[0]
    assert all(word in header[0] for word in ("Expected", "# Time", "# Smoke size")), header[0]
