"""What this package relies on in transformers and accelerate beyond their documentation, one test a thing.

A new release that moves one of them fails here by its name, before anything trains wrongly.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any

import accelerate
import pytest
import transformers
from accelerate.optimizer import AcceleratedOptimizer
from packaging.version import Version
from transformers import Trainer, TrainingArguments
from transformers import trainer as trainer_module
from transformers.training_args import OptimizerNames

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
    "AcceleratedOptimizer.optimizer": lambda: "self.optimizer = optimizer" in source(AcceleratedOptimizer.__init__),
}  # fmt: skip


@pytest.mark.parametrize("name", INTERNALS)
def test_transformers_still_has(name: str) -> None:
    assert INTERNALS[name](), f"transformers {transformers.__version__}, accelerate {accelerate.__version__}: {name}"
