"""Tiny checkpoints of every family of translation models, with the family's own tokenizer class."""

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers
from transformers import AutoTokenizer

PAIRS = [
    ("ein Hund rennt", "a dog runs"),
    ("zwei Hunde", "two dogs"),
    ("Die Frau liest ein Buch.", "The woman is reading a book."),
    ("Zwei Kinder spielen im Garten.", "Two children are playing in the garden."),
    ("Das Mädchen trägt einen roten Hut.", "The girl is wearing a red hat."),
    ("Er öffnet die Tür.", "He opens the door."),
    ("Wo ist der Bahnhof?", "Where is the station?"),
    ("Morgen kommt der Zug um 8 Uhr.", "Tomorrow the train comes at 8 o'clock."),
    (
        "Am Montag geht er in die Schule, am Dienstag zur Arbeit, am Mittwoch zur Mutter und am Sonntag zum See.",
        "On Monday he goes to school, on Tuesday to work, on Wednesday to his mother and on Sunday to the lake.",
    ),
    ("Über dem See steht der Mond.", "The moon stands over the lake."),
]
_SIZES = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    # M2M100 drops whole layers, of which there is one.
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
}
_T5_SIZES = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}


SENTENCES = [sentence for pair in PAIRS for sentence in pair]


def _sentencepiece(path: Path, sentences: Iterable[str], **ids: int) -> Path:
    """Train a SentencePiece model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(list(sentences) * 20),
        model_writer=model,
        vocab_size=160,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    path.write_bytes(model.getvalue())
    return path


def _pieces(path: Path) -> dict[str, int]:
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return {model.id_to_piece(number): number for number in range(model.get_piece_size())}


def _unigrams(folder: Path) -> list[tuple[str, float]]:
    """The pieces of a SentencePiece model with their scores, without the special ones."""
    file = _sentencepiece(folder / "unigrams.model", SENTENCES, unk_id=0, bos_id=-1, eos_id=-1)
    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    return [(model.id_to_piece(number), model.get_score(number)) for number in range(1, model.get_piece_size())]


def _scored(*pieces: str) -> list[tuple[str, float]]:
    return [(piece, 0.0) for piece in pieces]


def _mbart(folder: Path) -> Any:
    from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES

    special = _scored("<s>", "<pad>", "</s>", "<unk>")
    languages = _scored(*FAIRSEQ_LANGUAGE_CODES, "<mask>")
    return transformers.MBartTokenizer(vocab=[*special, *_unigrams(folder), *languages])


def _mbart50(folder: Path) -> Any:
    return transformers.MBart50Tokenizer(vocab=[*_scored("<s>", "<pad>", "</s>", "<unk>"), *_unigrams(folder)])


def _nllb(folder: Path, **options: Any) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Metaspace()
    bpe.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=160, special_tokens=special, show_progress=False)
    )
    learned = json.loads(bpe.to_str())["model"]
    merges = [(first, second) for first, second in learned["merges"]]
    return transformers.NllbTokenizer(vocab=learned["vocab"], merges=merges, **options)


def _m2m_100(folder: Path) -> Any:
    spm = _sentencepiece(folder / "m2m.model", SENTENCES, bos_id=0, pad_id=1, eos_id=2, unk_id=3)
    (folder / "m2m.json").write_text(json.dumps(_pieces(spm)))
    return transformers.M2M100Tokenizer(vocab_file=str(folder / "m2m.json"), spm_file=str(spm))


def _marian(folder: Path) -> Any:
    """A SentencePiece model for each language and one vocabulary, which begins with </s> and ends with <pad>."""
    ids = {"eos_id": 0, "unk_id": 1, "bos_id": -1, "pad_id": -1}
    sides = zip(("source", "target"), zip(*PAIRS, strict=True), strict=True)
    files = {side: _sentencepiece(folder / f"{side}.model", sentences, **ids) for side, sentences in sides}
    vocabulary = dict.fromkeys([*(piece for file in files.values() for piece in _pieces(file)), "<pad>"])
    (folder / "marian.json").write_text(json.dumps({piece: number for number, piece in enumerate(vocabulary)}))
    return transformers.MarianTokenizer(
        source_spm=str(files["source"]),
        target_spm=str(files["target"]),
        vocab=str(folder / "marian.json"),
        source_lang="de",
        target_lang="en",
    )


def _t5(folder: Path) -> Any:
    return transformers.T5Tokenizer(vocab=[*_scored("<pad>", "</s>", "<unk>"), *_unigrams(folder)], extra_ids=0)


def _bart(folder: Path) -> Any:
    from tokenizers.pre_tokenizers import ByteLevel

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    return transformers.BartTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])


# Tokenizer, class of the model, its sizes, the token on which its decoder starts, and the codes of the languages.
Family = tuple[Callable[[Path], Any], str, dict[str, Any], str | None, tuple[str, str]]
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
    config = cls.config_class(**sizes, vocab_size=400, decoder_start_token_id=start, **special)
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
