"""A finished model in a folder from which `pipeline("translation", model=folder)` loads it."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY

from hf_momo.utils.files import write_whole
from machine_translation import translation_pipeline


def prepare_for_pipeline(model: Any) -> None:
    """Let the configuration name the pipeline that will lie beside the model, where transformers has none."""
    # The Trainer switches the cache off for training and would leave it so.
    model.config.use_cache = True
    if "translation" not in PIPELINE_REGISTRY.get_supported_tasks():
        model.config.custom_pipelines = {
            "translation": {"impl": "translation_pipeline.TranslationPipeline", "pt": ["AutoModelForSeq2SeqLM"]}
        }


def complete_for_pipeline(folder: Path) -> None:
    """Put the pipeline beside a saved model, and name its tokenizer as transformers 4 and 5 both know it."""
    shutil.copyfile(translation_pipeline.__file__, folder / "translation_pipeline.py")
    _name_tokenizer_class(folder / "tokenizer_config.json")


def _name_tokenizer_class(path: Path) -> None:
    """Call a plain fast tokenizer what both transformers 4 and 5 call it; 5 writes a name that 4 does not know."""
    if not path.exists():
        return
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        write_whole(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
