"""A joint byte-pair vocabulary for both languages, trained on the training side only."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PAD, EOS, UNK, BOS = "<pad>", "</s>", "<unk>", "<s>"


def train_tokenizer(sentences: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a cased, byte-level BPE and wrap it for transformers.

    Byte-level pieces need no unknown token, and decoding gives back the text exactly, but for spaces at its ends.

    Args:
        sentences: The training sentences of both languages.
        vocab_size: Pieces in the vocabulary, special tokens and the 256 bytes included.

    Returns:
        A tokenizer that appends the end token to every sentence.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    # With a space before the first word it is the same piece as inside a sentence; the decoder takes that space away.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, EOS, UNK, BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
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
        # A Marian or T5 forward takes no token_type_ids.
        model_input_names=["input_ids", "attention_mask"],
    )
