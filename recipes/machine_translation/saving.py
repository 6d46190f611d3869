"""Saving of models so that ``pipeline("translation", model=folder)`` loads them."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY

from hf_momo.utils.files import write_whole
from machine_translation import translation_pipeline


def prepare_for_pipeline(model: Any) -> None:
    """Name the pipeline in the configuration of the model, if transformers has none for translation."""
    # The Trainer disables the cache for training and would save it as disabled.
    model.config.use_cache = True
    if "translation" not in PIPELINE_REGISTRY.get_supported_tasks():
        model.config.custom_pipelines = {
            "translation": {"impl": "translation_pipeline.TranslationPipeline", "pt": ["AutoModelForSeq2SeqLM"]}
        }


def complete_for_pipeline(folder: Path) -> None:
    """Copy the pipeline beside a saved model, and name its tokenizer class as transformers 4 and 5 both know it."""
    shutil.copyfile(translation_pipeline.__file__, folder / "translation_pipeline.py")
    _name_tokenizer_class(folder / "tokenizer_config.json")


def _name_tokenizer_class(path: Path) -> None:
    """Rename the class of a plain fast tokenizer; transformers 5 writes a name that 4 does not know."""
    if not path.exists():
        return
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        write_whole(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
