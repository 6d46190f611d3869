"""A finished model in a folder from which `pipeline("translation", model=folder)` loads it."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, Trainer
from transformers.pipelines import PIPELINE_REGISTRY

from common.records import write_text
from machine_translation import translation_pipeline


def save_for_pipeline(trainer: Trainer, generation_config: GenerationConfig) -> None:
    """Save model, tokenizer and generation settings, and the pipeline where transformers has none.

    Args:
        trainer: After training.
        generation_config: As it was before: evaluating writes every default of the day into the model's own.
    """
    folder = Path(str(trainer.args.output_dir))
    model: Any = trainer.model
    config = model.config
    # The Trainer switches the cache off for training and would leave it so.
    config.use_cache = True
    model.generation_config = copy.deepcopy(generation_config)
    brings_pipeline = "translation" not in PIPELINE_REGISTRY.get_supported_tasks()
    if brings_pipeline:
        config.custom_pipelines = {
            "translation": {"impl": "translation_pipeline.TranslationPipeline", "pt": ["AutoModelForSeq2SeqLM"]}
        }
    trainer.save_model()
    if not trainer.is_world_process_zero():
        return
    if brings_pipeline:
        shutil.copyfile(translation_pipeline.__file__, folder / "translation_pipeline.py")
    _name_tokenizer_class(folder / "tokenizer_config.json")


def _name_tokenizer_class(path: Path) -> None:
    """Call a plain fast tokenizer what both transformers 4 and 5 call it; 5 writes a name that 4 does not know."""
    if not path.exists():
        return
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        write_text(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
