"""Undocumented behaviour of transformers, accelerate and DeepSpeed that hf_momo relies on, one test for each.

A new release that moves one of them fails here by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum
from importlib import import_module
from typing import Any

import accelerate
import pytest
import transformers
from accelerate.optimizer import AcceleratedOptimizer
from packaging.version import Version
from transformers import Trainer, TrainingArguments
from transformers import trainer as trainer_module
from transformers.training_args import OptimizerNames
from transformers.utils import PushInProgress

RELEASE = Version(transformers.__version__).release


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def source(function: Any) -> str:
    return inspect.getsource(function)


INTERNALS: dict[str, Callable[[], bool]] = {
    "OptimizerNames is an enum of strings": lambda: (
        issubclass(OptimizerNames, str) and issubclass(OptimizerNames, Enum)
    ),
    "enum: _member_names_, _member_map_, _value2member_map_": lambda: (
        isinstance(OptimizerNames._member_names_, list)
        and OptimizerNames._member_map_["ADAMW_TORCH"] is OptimizerNames._value2member_map_["adamw_torch"]
    ),
    "Trainer.get_optimizer_cls_and_kwargs(args, model) is static": lambda: (
        isinstance(Trainer.__dict__["get_optimizer_cls_and_kwargs"], staticmethod)
        and parameters(Trainer.get_optimizer_cls_and_kwargs)[:2] == ["args", "model"]
    ),
    "TrainingArguments.__post_init__ makes a member of optim": lambda: (
        "OptimizerNames(self.optim)" in source(TrainingArguments.__post_init__)
    ),
    "TrainingArguments.learning_rate is 5e-5 by default": lambda: (
        float(TrainingArguments.__dataclass_fields__["learning_rate"].default) == 5e-5
    ),
    "Trainer.train runs self._inner_training_loop": lambda: "self._inner_training_loop" in source(Trainer.train),
    "Trainer._load_optimizer_and_scheduler(checkpoint)": lambda: (
        parameters(Trainer._load_optimizer_and_scheduler) == ["self", "checkpoint"]
    ),
    "Trainer._hp_search_setup makes the accelerator anew": lambda: (
        "self.create_accelerator_and_postprocess()" in source(Trainer._hp_search_setup)
    ),
    "Trainer.training_step calls accelerator.backward": lambda: (
        "self.accelerator.backward(loss" in source(Trainer.training_step)
    ),
    "Trainer clips by accelerator.clip_grad_norm_": lambda: (
        "self.accelerator.clip_grad_norm_(" in source(trainer_module)
    ),
    "Trainer._mixed_mesh_grad_norm(model, max_norm)": lambda: (
        not hasattr(Trainer, "_mixed_mesh_grad_norm")
        or parameters(Trainer._mixed_mesh_grad_norm) == ["self", "model", "max_norm"]
    ),
    "Trainer.model_accepts_loss_kwargs": lambda: "self.model_accepts_loss_kwargs" in source(Trainer.training_step),
    "Trainer.compute_loss_func and label_smoother": lambda: (
        "self.compute_loss_func" in source(Trainer.__init__) and "self.label_smoother" in source(Trainer.__init__)
    ),
    "Trainer.create_optimizer asks get_optimizer_cls_and_kwargs": lambda: (
        "get_optimizer_cls_and_kwargs(" in source(Trainer.create_optimizer)
    ),
    "Trainer._run_epoch, from 5 on": lambda: RELEASE < (5,) or callable(getattr(Trainer, "_run_epoch", None)),
    "Trainer._save_checkpoint(model, trial)": lambda: (
        parameters(Trainer._save_checkpoint)[:3] == ["self", "model", "trial"]
    ),
    "Trainer._save_rng_state(output_dir), before trainer_state.json": lambda: (
        parameters(Trainer._save_rng_state) == ["self", "output_dir"]
        and "self._save_rng_state(" in source(Trainer._save_checkpoint)
        and source(Trainer._save_checkpoint).index("self._save_rng_state(")
        < source(Trainer._save_checkpoint).index("TRAINER_STATE_NAME")
    ),
    "Trainer._get_output_dir(trial)": lambda: parameters(Trainer._get_output_dir) == ["self", "trial"],
    "Trainer.is_deepspeed_enabled": lambda: (
        "is_deepspeed_enabled" in source(Trainer.create_accelerator_and_postprocess)
    ),
    "Accelerator._optimizers": lambda: "self._optimizers" in source(accelerate.Accelerator.__init__),
    "Accelerator.sync_gradients and optimizer_step_was_skipped": lambda: (
        isinstance(accelerate.Accelerator.sync_gradients, property)
        and isinstance(accelerate.Accelerator.optimizer_step_was_skipped, property)
    ),
    "Accelerator.backward(loss) divides by the accumulation steps": lambda: (
        "loss = loss / self.gradient_accumulation_steps" in source(accelerate.Accelerator.backward)
    ),
    "Accelerator.free_memory, called by clear, forgets _optimizers": lambda: (
        "self.free_memory(*objects)" in source(accelerate.Accelerator.clear)
        and "self._optimizers = []" in source(accelerate.Accelerator.free_memory)
    ),
    "Accelerator.scaler and deepspeed_engine_wrapped": lambda: (
        "self.scaler" in source(accelerate.Accelerator.__init__)
        and "self.deepspeed_engine_wrapped" in source(accelerate.Accelerator)
    ),
    "FullyShardedDataParallelPlugin: fsdp_version, sharding_strategy, ignored_modules": lambda: (
        {"fsdp_version", "sharding_strategy", "ignored_modules"}
        <= accelerate.utils.FullyShardedDataParallelPlugin.__dataclass_fields__.keys()
    ),
    "AcceleratedOptimizer.optimizer": lambda: "self.optimizer = optimizer" in source(AcceleratedOptimizer.__init__),
}  # fmt: skip


@pytest.mark.parametrize("name", INTERNALS)
def test_transformers_still_has(name: str) -> None:
    assert INTERNALS[name](), f"transformers {transformers.__version__}, accelerate {accelerate.__version__}: {name}"


def is_before(function: Any, *calls: str) -> bool:
    """Whether the source of a function has all calls in this order."""
    places = [source(function).find(call) for call in calls]
    return min(places) >= 0 and places == sorted(places)


PUSHING: dict[str, Callable[[], bool]] = {
    "Trainer.init_hf_repo(token), called by the constructor": lambda: (
        parameters(Trainer.init_hf_repo)[:2] == ["self", "token"] and "self.init_hf_repo()" in source(Trainer.__init__)
    ),
    "Trainer.init_hf_repo sets hub_model_id, then push_in_progress": lambda: is_before(
        Trainer.init_hf_repo, "self.hub_model_id = ", "self.push_in_progress = None"
    ),
    "Trainer.push_to_hub(commit_message, blocking, token, revision)": lambda: (
        parameters(Trainer.push_to_hub)[:5] == ["self", "commit_message", "blocking", "token", "revision"]
    ),
    "Trainer.push_to_hub: repository, model, card, current push, upload": lambda: is_before(
        Trainer.push_to_hub,
        "self.init_hf_repo(",
        "self.save_model(_internal_call=True)",
        "self.create_model_card(",
        "self._finish_current_push()",
        "upload_folder(",
    ),
    "Trainer does not push _* and checkpoint-*": lambda: (
        'ignore_patterns=["_*", f"{PREFIX_CHECKPOINT_DIR}-*"]' in source(Trainer.push_to_hub)
        and trainer_module.PREFIX_CHECKPOINT_DIR == "checkpoint"
    ),
    "Trainer.save_model(output_dir, _internal_call) pushes unless called internally": lambda: (
        parameters(Trainer.save_model) == ["self", "output_dir", "_internal_call"]
        and "self.args.push_to_hub and not _internal_call" in source(Trainer.save_model)
    ),
    "Trainer._save writes the model and the arguments": lambda: (
        "self._save(output_dir" in source(Trainer.save_model) and "torch.save(self.args" in source(Trainer._save)
    ),
    "Trainer._push_from_checkpoint(checkpoint_folder), called by _save_checkpoint": lambda: (
        parameters(Trainer._push_from_checkpoint) == ["self", "checkpoint_folder"]
        and "self._push_from_checkpoint(" in source(Trainer._save_checkpoint)
    ),
    "Trainer._push_from_checkpoint keeps its jobs in push_in_progress": lambda: is_before(
        Trainer._push_from_checkpoint, "PushInProgress(push_jobs)", "self.push_in_progress.jobs.extend(push_jobs)"
    ),
    "Trainer._finish_current_push waits for push_in_progress": lambda: (
        parameters(Trainer._finish_current_push) == ["self"]
        and "self.push_in_progress.wait_until_done()" in source(Trainer._finish_current_push)
    ),
    "PushInProgress: jobs are futures, is_done()": lambda: (
        PushInProgress([future := Future()]).jobs == [future] and not PushInProgress([future]).is_done()
    ),
    "callback_handler.on_push_begin(args, state, control), from 5 on": lambda: (
        RELEASE < (5,)
        or all(
            "self.callback_handler.on_push_begin(self.args, self.state, self.control)" in source(method)
            for method in (Trainer.push_to_hub, Trainer._push_from_checkpoint)
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUSHING)
def test_the_pushing_of_transformers_still_has(name: str) -> None:
    assert PUSHING[name](), f"transformers {transformers.__version__}: {name}"


def zero_classes() -> list[Any]:
    """The optimizers that stand for ZeRO: BF16_Optimizer for stage 1 with bfloat16 and float32 accumulation."""
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    return [BF16_Optimizer, DeepSpeedZeroOptimizer, DeepSpeedZeroOptimizer_Stage3]


def assigned(name: str, cls: Any) -> bool:
    return f"self.{name} = " in source(cls)


def method(cls: Any, name: str) -> str:
    """The source of a method, which DeepSpeed's decorators hide from ``inspect``."""
    return source(cls).partition(f"    def {name}(")[2].partition("\n    def ")[0]


def parameters_of_zero_3() -> Any:
    from deepspeed.runtime.zero import partition_parameters

    return partition_parameters


DEEPSPEED: dict[str, Callable[[], bool]] = {
    "optimizer, the one that ZeRO wraps": lambda: all(assigned("optimizer", cls) for cls in zero_classes()),
    "clip_grad": lambda: all(assigned("clip_grad", cls) for cls in zero_classes()),
    "_global_grad_norm, set before the step": lambda: all(
        method(cls, "step").index("self._global_grad_norm = ") < max(
            method(cls, "step").rfind(call) for call in ("self._optimizer_step(", "self.optimizer.step(")
        )
        for cls in zero_classes()
    ),
    "clipping by 1 / max(1, (norm + 1e-6) / clip_grad)": lambda: all(
        "+ 1e-6) / self.clip_grad" in method(cls, "unscale_and_clip_grads") for cls in zero_classes()[1:]
    ),
    "ZeRO-3: fp32_partitioned_groups_flat and fp16_groups": lambda: (
        assigned("fp32_partitioned_groups_flat", zero_classes()[2]) and assigned("fp16_groups", zero_classes()[2])
    ),
    "ZeRO-3 steps once per sub-group": lambda: (
        "for sub_group_id, group in enumerate(self.fp16_groups)" in method(zero_classes()[2], "step")
    ),
    "parameters of ZeRO-3: ds_numel, ds_process_group, partition_numel": lambda: all(
        text in source(parameters_of_zero_3())
        for text in ("param.ds_numel = ", "param.ds_process_group = ", "param.partition_numel = ")
    ),
    "DeepSpeedEngine.gradient_accumulation_steps": lambda: callable(
        import_module("deepspeed").DeepSpeedEngine.gradient_accumulation_steps
    ),
    "DeepSpeedEngine.backward(scale_wrt_gas)": lambda: (
        "scale_wrt_gas" in method(import_module("deepspeed").DeepSpeedEngine, "backward")
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", DEEPSPEED)
def test_deepspeed_still_has(name: str) -> None:
    deepspeed = pytest.importorskip("deepspeed")
    assert DEEPSPEED[name](), f"deepspeed {deepspeed.__version__}: {name}"
