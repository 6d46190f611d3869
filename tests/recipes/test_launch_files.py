"""The launch files of recipes/accelerate/: how accelerate reads them, and the processes that they start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from invariants.launching import needs_cpu_events
from recipes.launching import LAUNCH_FILES, ROOT, TRANSLATION, environment, launch, read_json
from safetensors.torch import load_file
from torch.distributed.fsdp import OffloadPolicy
from translation import Settings, check_settings

from hf_momo import MomoSeq2SeqTrainingArguments
from hf_momo.utils.errors import UsageError
from machine_translation.arguments import DataArguments, ModelArguments

NAMES = ["ddp", "deepspeed_zero2", "deepspeed_zero3", "fsdp2", "multi_node"]
CAUSAL_LM = Path(__file__).with_name("causal_lm.py")
AGREEMENT = Path(__file__).with_name("agreement.py")


def arguments_of(name: str) -> Any:
    """Return the arguments of ``accelerate launch`` after it has read the file."""
    parser = launch_command_parser()
    args = parser.parse_args(["--config_file", str(LAUNCH_FILES / f"{name}.yaml"), "script.py"])
    known = set(vars(args))
    config: ClusterConfig = load_config_from_file(args.config_file)
    # accelerate accepts any key in these sections and ignores unknown ones.
    assert set(config.deepspeed_config) | set(config.fsdp_config) <= known
    return _validate_launch_command(args)[0]


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "FSDP_")):
            monkeypatch.delenv(name)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]


def test_there_are_these() -> None:
    assert sorted(path.stem for path in LAUNCH_FILES.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_reads_it(name: str) -> None:
    config = load_config_from_file(str(LAUNCH_FILES / f"{name}.yaml"))
    assert isinstance(config, ClusterConfig)
    kinds = {"fsdp2": DistributedType.FSDP, "deepspeed": DistributedType.DEEPSPEED}
    assert config.distributed_type == kinds.get(name.split("_")[0], DistributedType.MULTI_GPU)
    machines = {"multi_node": (2, 8)}
    assert (config.num_machines, config.num_processes) == machines.get(name, (1, 2))
    # Set by the flags of the recipe.
    assert config.mixed_precision is None
    arguments_of(name)


@pytest.mark.parametrize("name", ["ddp", "multi_node"])
def test_ddp_shards_nothing(name: str) -> None:
    args = arguments_of(name)
    assert args.multi_gpu
    assert not args.use_fsdp
    assert not args.use_deepspeed


def test_fsdp2_makes_fsdp2(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in prepare_multi_gpu_env(arguments_of("fsdp2")).items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert type(plugin.cpu_offload) is OffloadPolicy


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_makes_the_stage_without_offloading(
    clean_environment: None, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    args = arguments_of(f"deepspeed_zero{stage}")
    args.deepspeed_fields_from_accelerate_config = ""
    for name, value in prepare_deepspeed_cmd_env(args)[1].items():
        monkeypatch.setenv(name, value)
    plugin = DeepSpeedPlugin()
    zero = plugin.deepspeed_config["zero_optimization"]
    assert zero["stage"] == stage
    assert zero["offload_optimizer"]["device"] == zero["offload_param"]["device"] == "none"
    assert zero["stage3_gather_16bit_weights_on_model_save"] is (stage == 3)
    # Set by the Trainer.
    assert plugin.deepspeed_config["gradient_accumulation_steps"] == "auto"
    assert plugin.deepspeed_config["gradient_clipping"] == "auto"


PATHS = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "recipes")))


@needs_cpu_events
def test_fsdp2_trains_a_causal_language_model_as_one_process(tmp_path: Path) -> None:
    launch("fsdp2", CAUSAL_LM, tmp_path / "two", cwd=tmp_path, PYTHONPATH=PATHS)
    command = [sys.executable, str(CAUSAL_LM), str(tmp_path / "one")]
    done = subprocess.run(command, env=environment(PYTHONPATH=PATHS), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-6000:]
    two, one = (read_json(tmp_path / name / "run.json") for name in ("two", "one"))
    assert (two["parameters"], one["parameters"]) == (["DTensor"], ["Tensor"])
    # float32 gradients are summed in another order.
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["step_size"] == pytest.approx(one["step_size"], rel=1e-4)
    assert sum(one["step_capped"]) < len(one["loss"]), "a binding cap hides what the step size depends on"
    saved, reference = (load_file(tmp_path / name / "model.safetensors") for name in ("two", "one"))
    for name in reference:
        torch.testing.assert_close(saved[name], reference[name], rtol=1e-3, atol=1e-4)


def refusal(done: subprocess.CompletedProcess[str]) -> set[str]:
    assert done.returncode != 0
    return {line for line in done.stderr.splitlines() if line.startswith("error: ")}


TRAIN = ["--dataset_name", "embedded", "--source_lang", "de", "--target_lang", "en", "--do_train"]


def test_translation_refuses_fsdp(tmp_path: Path, clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    training = MomoSeq2SeqTrainingArguments(str(tmp_path / "run"), use_cpu=True, do_train=True)
    settings = Settings(ModelArguments(), DataArguments(), training)
    check_settings(settings)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as the launch file does
    with pytest.raises(UsageError, match="FSDP does not support translation models"):
        check_settings(settings)


def test_sharded_training_without_gpus_is_refused(tmp_path: Path) -> None:
    """Accelerate alone would let each process train separately, and both write the same files."""
    (error,) = refusal(launch("fsdp2", TRANSLATION, *TRAIN, cwd=tmp_path, check=False))
    assert "2 processes were started, but found no device on which to train together; FSDP needs GPUs" in error
    assert list(tmp_path.iterdir()) == []


def test_processes_agree(tmp_path: Path) -> None:
    done = launch("ddp", AGREEMENT, tmp_path, cwd=tmp_path, PYTHONPATH=PATHS)
    assert [(tmp_path / f"rank{rank}").read_text() for rank in range(2)] == ["made by 0, 2"] * 2
    assert done.stdout.splitlines().count("once") == 1


def test_an_error_of_one_process_ends_all_and_is_shown_once(tmp_path: Path) -> None:
    done = launch("ddp", AGREEMENT, tmp_path, "fail", cwd=tmp_path, check=False, PYTHONPATH=PATHS)
    assert done.stderr.splitlines().count("error: the second process has no data") == 1
    assert refusal(done) == {"error: the second process has no data"}
    assert list(tmp_path.iterdir()) == []
