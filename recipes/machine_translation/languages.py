"""Language codes of tokenizers, and the tokens with which the decoder starts in training and in generation."""

import difflib
import math
import re
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

from hf_momo.utils.errors import UsageError
from machine_translation.arguments import DataArguments

# Architectures whose decoder starts on the end token where the checkpoint does not say; the others start on padding.
_START_ON_END = ("bart", "blenderbot", "m2m_100", "mbart", "nllb-moe")
_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Error messages list at most this many codes in full.
_SHORT_LIST = 60


def set_languages(tokenizer: PreTrainedTokenizerBase, arguments: DataArguments, name: str) -> None:
    """Set the languages of a multilingual tokenizer (mBART, mBART-50, M2M100, NLLB); do nothing to others.

    Args:
        tokenizer: The tokenizer.
        arguments: The languages, and their codes where those differ.
        name: What error messages call the tokenizer.

    Raises:
        UsageError: If the tokenizer does not know a code, with the nearest that it knows.
    """
    known = language_codes(tokenizer)
    if not known:
        return
    for side in ("source", "target"):
        code, flag = code_of(arguments, side), f"--{side}_lang_code"
        if code not in known and f"__{code}__" not in known:
            given = flag if getattr(arguments, f"{side}_lang_code") else f"--{side}_lang"
            near = _near(code, known)
            raise UsageError(f"{given} {code} is not a language code of {name}; give {flag}, e.g. {near}")
    multilingual: Any = tokenizer
    multilingual.src_lang, multilingual.tgt_lang = code_of(arguments, "source"), code_of(arguments, "target")
    # Saved with the tokenizer, so that a pipeline of the trained model reads the same source language.
    tokenizer.init_kwargs |= {"src_lang": multilingual.src_lang, "tgt_lang": multilingual.tgt_lang}


def language_codes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the language codes of a multilingual tokenizer; none if it puts no language token to its sentences."""
    if not (hasattr(tokenizer, "src_lang") and hasattr(tokenizer, "tgt_lang")):
        return []
    # M2M100 writes `en` as `__en__`; mBART and mBART-50 have a table; NLLB has its codes as special tokens.
    tokens: dict[str, str] = getattr(tokenizer, "lang_code_to_token", {})
    if not tokens:
        named = {getattr(tokenizer, each, None) for each in _NAMED_TOKENS}
        codes = getattr(tokenizer, "lang_code_to_id", None) or [
            token for token in tokenizer.all_special_tokens if token not in named
        ]
        tokens = {code: code for code in codes}
    unknown = tokenizer.unk_token_id
    return [code for code, token in tokens.items() if tokenizer.convert_tokens_to_ids(token) not in (None, unknown)]


def language_of(code: str | None) -> str:
    """Return the language of a code: ``de`` for ``de``, ``de_DE`` and ``de-AT``."""
    return re.split("[_-]", str(code))[0]


def code_of(arguments: DataArguments, side: str) -> str:
    """Return the tokenizer's code of the ``source`` or ``target`` language."""
    return str(getattr(arguments, f"{side}_lang_code") or getattr(arguments, f"{side}_lang"))


def align_generation(model: Any, tokenizer: PreTrainedTokenizerBase, forced_bos_token: str | None = None) -> None:
    """Let generation start with the tokens with which training starts.

    The start token of training is read off the decoder inputs that the model makes of a sentence: mBART and PLBart
    take the language token at the end of the target, all others the ``decoder_start_token_id`` of their
    configuration. It is written to the configuration and the generation configuration. If the tokenizer puts the
    language in front of a target (mBART-50, M2M100, NLLB), generation is forced to put it there, too.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with its languages set.
        forced_bos_token: The token to force in place of the one that the checkpoint names.

    Raises:
        UsageError: If the token does not exist, or is not the language that the tokenizer puts in front of a target.
    """
    generation, config = model.generation_config, model.config
    default = config.eos_token_id if config.model_type in _START_ON_END else config.pad_token_id
    # MarianConfig's default, 58100, exists in the vocabulary of one checkpoint.
    size = getattr(config, "vocab_size", math.inf)
    candidates = (getattr(config, "decoder_start_token_id", None), generation.decoder_start_token_id, default)
    config.decoder_start_token_id = next(each for each in candidates if each is not None and each < size)
    start = int(decoder_inputs(model, torch.tensor([_probe(tokenizer)]))[0, 0])
    config.decoder_start_token_id = generation.decoder_start_token_id = start
    generation.forced_bos_token_id = _forced_token(generation.forced_bos_token_id, tokenizer, forced_bos_token)
    # Generation parameters in the model's own configuration would contradict those of generation.
    if getattr(config, "forced_bos_token_id", None) is not None:
        config.forced_bos_token_id = None


def decoder_inputs(model: Any, labels: Tensor) -> Tensor:
    """Return what the decoder is given for labels: them shifted to the right, behind the start token."""
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        inputs: Tensor = model.prepare_decoder_input_ids_from_labels(labels=labels)
    else:
        # The others (M2M100, NLLB) do this in their forward, where label smoothing has taken the labels away.
        inputs = shift_tokens_right(labels, model.config.pad_token_id, model.config.decoder_start_token_id)
    return inputs


def starts_with(tokenizer: PreTrainedTokenizerBase, token_id: int) -> bool:
    """Return whether the tokenizer itself puts a token in front of every target."""
    return _probe(tokenizer)[0] == token_id


def _probe(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids: list[int] = tokenizer(text_target="a")["input_ids"]
    return ids


def _forced_token(of_checkpoint: int | None, tokenizer: PreTrainedTokenizerBase, asked: str | None) -> int | None:
    codes = language_codes(tokenizer)
    multilingual: Any = tokenizer
    first = _probe(tokenizer)[0]
    # M2M100 writes the code `en` as `__en__`.
    token_of_language = str(getattr(tokenizer, "tgt_lang", "")).strip("_")
    of_language = bool(codes) and str(tokenizer.convert_ids_to_tokens(first)).strip("_") == token_of_language
    if asked is not None:
        token = multilingual.convert_tokens_to_ids(asked)
        if token is None or token == tokenizer.unk_token_id:
            raise UsageError(f"--forced_bos_token {asked} is not a token of the tokenizer")
        if of_language and token != first:
            raise UsageError(
                f"--forced_bos_token {asked} contradicts the target language {multilingual.tgt_lang}, whose token is "
                f"{tokenizer.convert_ids_to_tokens(first)}; leave it out, or give another --target_lang_code"
            )
        return int(token)
    # A checkpoint may still force the language that it was trained on last.
    return (first if of_language else None) if codes else of_checkpoint


def _near(code: str, known: list[str]) -> str:
    """List the codes that begin like ``code`` or are spelt like it first, then the others if they are few."""
    base = language_of(code).lower()
    alike = [each for each in known if each.lower().strip("_").startswith(base[:2])]
    spelt = difflib.get_close_matches(code, known, n=3, cutoff=0.5)
    near = list(dict.fromkeys([*sorted(alike, key=lambda each: not each.lower().startswith(base)), *spelt]))[:8]
    if len(known) <= _SHORT_LIST or not near:
        near += [each for each in known if each not in near]
        return ", ".join(near)
    return f"{', '.join(near)} ({len(known)} codes in all)"
