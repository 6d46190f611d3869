"""Encoder-decoder models: from scratch, or from a pretrained checkpoint."""

from typing import Any

from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_momo.utils.errors import UsageError
from machine_translation.adapters import add_adapters, base_checkpoint, load_adapters
from machine_translation.arguments import DataArguments, ModelArguments
from machine_translation.languages import align_generation, set_languages

_DROPOUTS = ("dropout", "attention_dropout", "activation_dropout")
_SIZES = (
    *("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads"),
    *("encoder_ffn_dim", "decoder_ffn_dim", "activation_function", *_DROPOUTS),
    *("max_position_embeddings", "scale_embedding"),
)


def create_model(
    arguments: ModelArguments, data: DataArguments, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """Return an encoder-decoder with random weights for a tokenizer.

    Raises:
        UsageError: If there is no such architecture, or it has no such setting.
    """
    set_languages(tokenizer, data, "the tokenizer")
    config = _scratch_config(arguments, data, tokenizer)
    try:
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config)
    except ValueError as error:
        raise UsageError(f"--model_type {arguments.model_type} with these sizes: {error}") from error
    model.generation_config = GenerationConfig(
        max_length=data.max_target_length,
        num_beams=data.num_beams or 1,
        length_penalty=1.0 if data.length_penalty is None else data.length_penalty,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
        bos_token_id=config.bos_token_id,
    )
    align_generation(model, tokenizer, data.forced_bos_token)
    _freeze_unsaved(model)
    return model


def _scratch_config(arguments: ModelArguments, data: DataArguments, tokenizer: PreTrainedTokenizerBase) -> Any:
    if arguments.model_type not in CONFIG_MAPPING:
        raise UsageError(
            f"--model_type {arguments.model_type} is not an architecture of transformers; give e.g. marian or m2m_100"
        )
    known = CONFIG_MAPPING[arguments.model_type]()
    sizes = {name: value for name in _SIZES if (value := getattr(arguments, name)) is not None}
    if unknown := [name for name in sizes if not hasattr(known, name)]:
        raise UsageError(
            f"--{unknown[0]} is not a setting of --model_type {arguments.model_type}; "
            "give marian, m2m_100, bart or mbart, or fine-tune with --model_name_or_path"
        )
    longest = max(data.max_source_length, data.max_target_length)
    if longest > sizes.get("max_position_embeddings", longest):
        raise UsageError(
            f"--max_position_embeddings {sizes['max_position_embeddings']} is shorter than the longest sequence, "
            f"{longest} tokens (--max_source_length, --max_target_length)"
        )
    # Marian's decoder starts on the padding token. Others number positions from the first token that is not padding.
    start = tokenizer.pad_token_id if arguments.model_type == "marian" else tokenizer.bos_token_id
    layerdrop = {name: 0.0 for name in ("encoder_layerdrop", "decoder_layerdrop") if hasattr(known, name)}
    return AutoConfig.for_model(
        arguments.model_type,
        **sizes,
        **layerdrop,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        decoder_start_token_id=start,
        # The defaults of Marian and BART are tokens of their own vocabularies.
        forced_bos_token_id=None,
        forced_eos_token_id=None,
        tie_word_embeddings=True,
    )


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer for a model from scratch.

    Raises:
        UsageError: If it cannot be loaded, or has no end or padding token.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # transformers and tokenizers raise a dozen kinds
        raise UsageError(
            f"--tokenizer_name {name} could not be loaded: {_reason(error)} Give a folder with a tokenizer.json, such "
            "as prepare_iwslt14.py writes, or a Hub id when there is a network"
        ) from error
    for role in ("pad_token_id", "eos_token_id"):
        if getattr(tokenizer, role) is None:
            raise UsageError(f"--tokenizer_name {name} has no {role.removesuffix('_id')}; give one that has")
    return tokenizer


def load_pretrained(arguments: ModelArguments, data: DataArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a checkpoint, or adapters with their checkpoint, and its tokenizer, and set them up for the two languages.

    Raises:
        UsageError: If the checkpoint cannot be loaded, is not an encoder-decoder, or does not know a language.
    """
    name = str(arguments.model_name_or_path)
    try:
        base = base_checkpoint(name)
        config = AutoConfig.from_pretrained(base or name)
        for dropout in _DROPOUTS:
            # T5 has one rate for all.
            name_in_config = "dropout_rate" if dropout == "dropout" and hasattr(config, "dropout_rate") else dropout
            if (value := getattr(arguments, dropout)) is not None and hasattr(config, name_in_config):
                setattr(config, name_in_config, value)
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSeq2SeqLM.from_pretrained(base or name, config=config)
        if base is not None:
            model = load_adapters(model, name)
    except Exception as error:  # transformers, safetensors and tokenizers raise a dozen kinds
        raise UsageError(
            f"--model_name_or_path {name} could not be loaded: {_reason(error)} Give the folder of an encoder-decoder "
            "model with its tokenizer, or a Hub id when there is a network"
        ) from error
    if data.source_prefix is None:
        data.source_prefix = getattr(model.config, "prefix", None)
    # A pipeline of the saved model puts it before every sentence.
    model.config.prefix = data.source_prefix
    set_languages(tokenizer, data, f"--model_name_or_path {name}")
    _complete_generation(model.generation_config, data)
    align_generation(model, tokenizer, data.forced_bos_token)
    _freeze_unsaved(model)
    if arguments.use_peft and base is None:
        model = add_adapters(model, arguments)
    return model, tokenizer


def _freeze_unsaved(model: Any) -> None:
    """Freeze what is not saved: Marian's sinusoidal positions, which transformers 5 trains, and recomputes on load."""
    for name in getattr(model, "_keys_to_ignore_on_save", None) or ():
        model.get_parameter(name).requires_grad_(False)


def _complete_generation(generation: GenerationConfig, data: DataArguments) -> None:
    """Save the settings with which the translations are scored, so that a pipeline translates with them."""
    # T5 names no length, and transformers then stops after 20 tokens, which is the default of version 4.
    if generation.max_new_tokens is None and generation.max_length in (None, 20):
        generation.max_length = data.max_target_length
    if data.num_beams is not None:
        generation.num_beams = data.num_beams
    if data.length_penalty is not None:
        generation.length_penalty = data.length_penalty
    if generation.num_beams in (None, 1):
        # Settings of beam search alone; transformers refuses to save them without beams.
        generation.early_stopping, generation.length_penalty = False, 1.0


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
