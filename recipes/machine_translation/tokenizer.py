"""Tokenizers with a joint byte-pair vocabulary for both languages, trained on the training split only."""

import json
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PAD, EOS, UNK, BOS = "<pad>", "</s>", "<unk>", "<s>"
SPECIAL_TOKENS = [PAD, EOS, UNK, BOS]
END_OF_WORD = "</w>"


def train_tokenizer(sentences: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a cased, byte-level BPE and wrap it for transformers.

    Byte-level tokens need no unknown token, and decoding reproduces the text exactly except for spaces at its ends.

    Args:
        sentences: The training sentences of both languages.
        vocab_size: Size of the vocabulary, including special tokens and the 256 bytes.

    Returns:
        A tokenizer that appends the end token to every sentence.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    # A space before the first word gives it the same tokens as inside a sentence; the decoder removes it.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    return _for_transformers(tokenizer)


def train_token_tokenizer(
    sentences: Sequence[str], *, vocab_size: int | None = None, merges: int | None = None
) -> PreTrainedTokenizerFast:
    """Train a BPE on tokenized text, whose units never cross a space.

    It is the BPE of Sennrich, Haddow and Birch (ACL 2016): characters, with a mark on the last one of a token, are
    merged as long as a pair occurs twice. A character that does not occur in training becomes the unknown token.

    Args:
        sentences: The training sentences of both languages, with tokens separated by spaces.
        vocab_size: Size of the vocabulary, including special tokens and characters.
        merges: Number of merges, instead of ``vocab_size``.

    Returns:
        A tokenizer that appends the end token to every sentence.

    Raises:
        ValueError: If both sizes are given, or neither.
    """
    if (vocab_size is None) == (merges is None):
        raise ValueError(f"give one of vocab_size and merges, not {vocab_size} and {merges}")
    words = {word for sentence in sentences for word in sentence.split()}
    characters = {character for word in words for character in word}
    finals = sorted({word[-1] + END_OF_WORD for word in words})
    if vocab_size is None:
        vocab_size = len(SPECIAL_TOKENS) + len(characters) + len(finals) + (merges or 0)
    tokenizer = _token_bpe(models.BPE(unk_token=UNK, end_of_word_suffix=END_OF_WORD))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        # Otherwise the numbers of the last characters differ from run to run, and these decide which of two equally
        # frequent pairs is merged.
        special_tokens=[*SPECIAL_TOKENS, *finals],
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    learned = json.loads(tokenizer.to_str())["model"]["merges"]
    return _tokenizer_of([(first, second) for first, second in learned], {*characters, *finals})


def token_tokenizer(merges: Sequence[tuple[str, str]], characters: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return the tokenizer of ``train_token_tokenizer`` with given merges, e.g. those of subword-nmt.

    Args:
        merges: Pairs of units in the order in which they were learned; ``</w>`` marks the end of a token.
        characters: Characters of the vocabulary in addition to those in the merges.
    """
    pieces = {piece for character in characters for piece in (character, character + END_OF_WORD)}
    return _tokenizer_of(merges, pieces | {piece for pair in merges for piece in pair})


def _tokenizer_of(merges: Sequence[tuple[str, str]], pieces: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with ids in this order: special tokens, sorted characters, merges as learned."""
    ordered = [*SPECIAL_TOKENS, *sorted(pieces), *("".join(pair) for pair in merges)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(ordered))}
    model = models.BPE(vocab=vocabulary, merges=list(merges), unk_token=UNK, end_of_word_suffix=END_OF_WORD)
    return _for_transformers(_token_bpe(model))


def _token_bpe(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.BPEDecoder(suffix=END_OF_WORD)
    return tokenizer


def _for_transformers(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, tokenizer.token_to_id(EOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        bos_token=BOS,
        clean_up_tokenization_spaces=False,
        # Marian and T5 take no token_type_ids.
        model_input_names=["input_ids", "attention_mask"],
    )
