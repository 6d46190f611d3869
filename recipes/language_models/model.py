"""The model and its tokenizer: pretrained, or from scratch."""

import difflib
import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from hf_momo.utils.errors import UsageError
from language_models.arguments import ModelArguments

END_OF_TEXT = "<|endoftext|>"
# One token for each byte, and the end of a text.
SMALLEST_VOCABULARY = 257


def load_tokenizer(args: ModelArguments) -> PreTrainedTokenizerBase | None:
    """Return the pretrained tokenizer, or ``None`` where one is to be learned from the text.

    Raises:
        UsageError: If it cannot be loaded.
    """
    name = args.tokenizer_name or args.model_name_or_path
    if name is None:
        return None
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UsageError(f"no tokenizer can be loaded from {name}: {error}") from error
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer learned from a text; it decodes to exactly the text that was encoded.

    Args:
        texts: The training text.
        vocab_size: The number of tokens, including the 256 bytes and the end of a text.

    Raises:
        UsageError: If ``vocab_size`` is below 257.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise UsageError(f"--vocab_size {vocab_size}: must be {SMALLEST_VOCABULARY} (bytes alone) or more")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, clean_up_tokenization_spaces=False
    )


def prepare_model(args: ModelArguments, tokenizer: PreTrainedTokenizerBase, block_size: int) -> PreTrainedModel:
    """Return the pretrained model, or a new one of the given size.

    Args:
        args: The settings of the model.
        tokenizer: The tokenizer of the model.
        block_size: The length of sequences that the model must accept.

    Raises:
        UsageError: If the model cannot be loaded, does not have a setting, or accepts only shorter sequences.
    """
    try:
        model = (
            _load(args, block_size) if args.model_name_or_path is not None else _create(args, tokenizer, block_size)
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"the model cannot be created or loaded: {error}") from error
    return model


def _check_length(config: Any, block_size: int) -> None:
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and block_size > longest:
        raise UsageError(f"--block_size {block_size}: the model takes at most {longest} tokens")


def _load(args: ModelArguments, block_size: int) -> PreTrainedModel:
    _check_length(AutoConfig.from_pretrained(str(args.model_name_or_path)), block_size)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(str(args.model_name_or_path))
    return model


def _create(args: ModelArguments, tokenizer: PreTrainedTokenizerBase, block_size: int) -> PreTrainedModel:
    settings: Any = json.loads(args.model_config or "{}")
    if not isinstance(settings, dict):
        raise UsageError(f"--model_config {args.model_config}: must be a JSON object")
    special: dict[str, Any] = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    length = {"max_position_embeddings": block_size}
    config = AutoConfig.for_model(args.model_type, vocab_size=len(tokenizer), **special)
    known = [name for name in (*config.to_dict(), *config.attribute_map) if not name.startswith("_")]
    for name in settings:
        if name not in known:
            nearest = "".join(f" (did you mean {near}?)" for near in difflib.get_close_matches(name, known, n=1))
            raise UsageError(f"--model_config: {args.model_type} has no setting {name}{nearest}")
    config = AutoConfig.for_model(args.model_type, **({"vocab_size": len(tokenizer)} | special | length | settings))
    # Checked before the model is created, which may take long.
    _check_length(config, block_size)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model
