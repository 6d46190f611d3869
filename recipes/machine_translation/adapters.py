"""LoRA adapters (PEFT): the checkpoint is frozen, and small matrices beside its layers are trained."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, Trainer
from transformers.utils.peft_utils import find_adapter_config_file

from hf_momo.utils.errors import UsageError
from machine_translation.arguments import ModelArguments


def base_checkpoint(name: str) -> str | None:
    """Return the checkpoint below a folder or repository of adapters; ``None`` if ``name`` holds a whole model."""
    file = find_adapter_config_file(name)
    return None if file is None else str(json.loads(Path(file).read_text())["base_model_name_or_path"])


def load_adapters(model: Any, name: str) -> Any:
    """Return the model with saved adapters, which can be trained further, and with their generation settings."""
    from peft import PeftModel

    with suppress(OSError):  # PEFT alone does not save them
        model.generation_config = GenerationConfig.from_pretrained(name)
    return PeftModel.from_pretrained(model, name, is_trainable=True)


def add_adapters(model: Any, arguments: ModelArguments) -> Any:
    """Return the model with new adapters, whose parameters are the only ones that are trained.

    Raises:
        UsageError: If PEFT is not installed, or refuses a setting.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UsageError("--use_peft needs PEFT; run `pip install peft`") from error
    targets = arguments.lora_target_modules
    config = LoraConfig(
        task_type="SEQ_2_SEQ_LM",
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        # PEFT takes `all-linear` as a word; in a list it would be the name of a layer.
        target_modules=targets[0] if targets == ["all-linear"] else targets,
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise UsageError(f"--lora_target_modules {' '.join(targets)}, --lora_r {arguments.lora_r}: {error}") from error


def has_adapters(model: Any) -> bool:
    """Return whether PEFT has wrapped the model."""
    return hasattr(model, "get_base_model")


def without_adapters(model: Any) -> Any:
    """Return the model of transformers below the adapters, or the model itself if it has none."""
    return model.get_base_model() if has_adapters(model) else model


def merge_adapters(trainer: Trainer) -> None:
    """Add the adapters of a trained model to its weights, so that it is saved and scored as a whole model."""
    model: Any = trainer.model
    # Of a merged model, PEFT leaves every parameter frozen.
    trainer.model = trainer.model_wrapped = model.merge_and_unload().requires_grad_(True)
