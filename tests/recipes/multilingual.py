"""Tiny checkpoints of every family of translation models, with the family's own tokenizer class."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers
from transformers import AutoTokenizer

SENTENCES = ["ein Hund rennt", "a dog runs", "zwei Hunde", "two dogs"]
_SIZES = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
}
_T5_SIZES = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}


def _letters() -> list[str]:
    return sorted(set("".join(SENTENCES)) - {" "})


def _sentencepiece(path: Path) -> Path:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        bos_id=0,
        pad_id=1,
        eos_id=2,
        unk_id=3,
    )
    path.write_bytes(model.getvalue())
    return path


def _pieces(path: Path) -> dict[str, int]:
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return {model.id_to_piece(number): number for number in range(model.get_piece_size())}


def _mbart(folder: Path) -> Any:
    from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *_letters(), *FAIRSEQ_LANGUAGE_CODES, "<mask>"]
    return transformers.MBartTokenizer(vocab=[(piece, -1.0) for piece in pieces])


def _mbart50(folder: Path) -> Any:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *_letters()]
    return transformers.MBart50Tokenizer(vocab=[(piece, -1.0) for piece in pieces])


def _nllb(folder: Path, **options: Any) -> Any:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *_letters()]
    return transformers.NllbTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], **options)


def _m2m_100(folder: Path) -> Any:
    spm = _sentencepiece(folder / "m2m.model")
    (folder / "m2m.json").write_text(json.dumps(_pieces(spm)))
    return transformers.M2M100Tokenizer(vocab_file=str(folder / "m2m.json"), spm_file=str(spm))


def _marian(folder: Path) -> Any:
    spm = _sentencepiece(folder / "marian.model")
    pieces = {**_pieces(spm)}
    pieces["<pad>"] = pieces.pop("<pad>")
    (folder / "marian.json").write_text(json.dumps(pieces))
    return transformers.MarianTokenizer(
        source_spm=str(spm), target_spm=str(spm), vocab=str(folder / "marian.json"), source_lang="de", target_lang="en"
    )


def _t5(folder: Path) -> Any:
    pieces = ["<pad>", "</s>", "<unk>", "▁", *_letters()]
    return transformers.T5Tokenizer(vocab=[(piece, -1.0) for piece in pieces], extra_ids=0)


def _bart(folder: Path) -> Any:
    from tokenizers.pre_tokenizers import ByteLevel

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    return transformers.BartTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])


# Tokenizer, class of the model, its sizes, the token on which its decoder starts, and the codes of the languages.
Family = tuple[Callable[[Path], Any], str, dict[str, int], str | None, tuple[str, str]]
FAMILIES: dict[str, Family] = {
    "marian": (_marian, "MarianMTModel", _SIZES, "<pad>", ("de", "en")),
    "bart": (_bart, "BartForConditionalGeneration", _SIZES, "</s>", ("de", "en")),
    "mbart": (_mbart, "MBartForConditionalGeneration", _SIZES, "en_XX", ("de_DE", "en_XX")),
    "mbart50": (_mbart50, "MBartForConditionalGeneration", _SIZES, "</s>", ("de_DE", "en_XX")),
    "m2m_100": (_m2m_100, "M2M100ForConditionalGeneration", _SIZES, "</s>", ("de", "en")),
    "nllb": (_nllb, "M2M100ForConditionalGeneration", _SIZES, "</s>", ("deu_Latn", "eng_Latn")),
    "nllb_legacy": (
        lambda folder: _nllb(folder, legacy_behaviour=True),
        "M2M100ForConditionalGeneration",
        _SIZES,
        "</s>",
        ("deu_Latn", "eng_Latn"),
    ),
    "t5": (_t5, "T5ForConditionalGeneration", _T5_SIZES, "<pad>", ("de", "en")),
    "mt5": (_t5, "MT5ForConditionalGeneration", _T5_SIZES, "<pad>", ("de", "en")),
}


def write_checkpoint(folder: Path, family: str, **settings: int | None) -> Path:
    """Write a random model of a family with its tokenizer.

    Args:
        folder: Where to write it.
        family: A key of ``FAMILIES``.
        **settings: Written over those in config.json, or with ``generation_`` in front in generation_config.json.
            ``None`` removes one.
    """
    folder.mkdir(parents=True)
    make_tokenizer, model_class, sizes, _, _ = FAMILIES[family]
    tokenizer = make_tokenizer(folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    cls = getattr(transformers, model_class)
    special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
    start = special["pad_token_id"] if family in ("marian", "t5", "mt5") else special["eos_token_id"]
    # M2M100 numbers its language tokens behind the end of its vocabulary.
    config = cls.config_class(**sizes, vocab_size=300, decoder_start_token_id=start, **special)
    model = cls(config)
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=start, **{name: value for name, value in special.items() if value is not None}
    )
    model.save_pretrained(folder)
    for file, prefix in (("config.json", ""), ("generation_config.json", "generation_")):
        content = json.loads((folder / file).read_text())
        for name, value in settings.items():
            if name.startswith("generation_") == bool(prefix):
                content[name.removeprefix(prefix)] = value
        content = {name: value for name, value in content.items() if value is not None}
        (folder / file).write_text(json.dumps(content))
    assert AutoTokenizer.from_pretrained(folder)
    return folder
