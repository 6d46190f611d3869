"""Training and generation start translations alike, and language codes are checked, for every family of models."""

from pathlib import Path
from typing import Any

import pytest
import translation
from datasets import Dataset, DatasetDict
from recipe_runs import PAIRS, write_json_lines, write_text
from recipes.multilingual import FAMILIES, write_checkpoint
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_momo import MomoSeq2SeqTrainingArguments
from hf_momo.utils.errors import UsageError
from machine_translation.arguments import DataArguments, ModelArguments
from machine_translation.batching import TranslationCollator
from machine_translation.corpus import load_corpus
from machine_translation.languages import language_codes
from machine_translation.model import create_model, load_pretrained
from machine_translation.settings import Settings
from machine_translation.tokenizer import train_tokenizer

# Languages that a checkpoint forces or starts with although another was asked for, and settings that are missing.
SETTINGS: dict[str, dict[str, int | None]] = {
    "complete": {},
    "no start token": {"decoder_start_token_id": None, "generation_decoder_start_token_id": None},
    "start token of generation only": {"decoder_start_token_id": None},
    "start token of training only": {"generation_decoder_start_token_id": None},
    "other start token in generation": {"generation_decoder_start_token_id": 0},
    "another language forced": {"generation_forced_bos_token_id": 7},
}
# No tokenizer of these puts a token in front of a target, so that a checkpoint's own forced token stays.
_UNILINGUAL = ("marian", "t5", "mt5")


def data_of(family: str, **options: Any) -> DataArguments:
    source, target = FAMILIES[family][-1]
    codes = {"source_lang_code": source, "target_lang_code": target}
    return DataArguments(source_lang="de", target_lang="en", **{**codes, **options})


def load(folder: Path, family: str, **options: Any) -> tuple[Any, Any]:
    return load_pretrained(ModelArguments(model_name_or_path=str(folder)), data_of(family, **options))


def training_starts(model: Any, tokenizer: Any, data: DataArguments, tmp_path: Path) -> list[str]:
    """The tokens in front of the first letter of a target that the decoder sees while it learns."""
    arguments = MomoSeq2SeqTrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True)
    corpus = DatasetDict({"train": Dataset.from_dict({"translation": [{"de": "ein Hund", "en": "a dog"}]})})
    encoded = translation.encode(Settings(ModelArguments(), data, arguments), corpus, model, tokenizer)
    row = {name: encoded["train"][0][name] for name in ("input_ids", "attention_mask", "labels")}
    inputs = TranslationCollator(tokenizer, model=model)([row])["decoder_input_ids"][0].tolist()
    tokens = tokenizer.convert_ids_to_tokens(inputs)
    assert tokens[1:] == tokenizer.convert_ids_to_tokens(row["labels"])[: len(tokens) - 1]
    first = next(number for number, token in enumerate(tokens) if token.strip("▁Ġ") in ("", "a", "d"))
    return tokens[:first]


def generation_starts(model: Any, tokenizer: Any, count: int) -> list[str]:
    """The first tokens of a translation, of which those behind the start are generated."""
    output = model.eval().generate(**tokenizer("ein Hund", return_tensors="pt"), max_new_tokens=3, num_beams=1)
    return tokenizer.convert_ids_to_tokens(output[0].tolist()[:count])


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_translations_start_as_in_training(tmp_path: Path, family: str, settings: dict[str, int | None]) -> None:
    """An mBART checkpoint without a start token learned from ``en_XX`` and generated from ``<s>``.

    BLEU was 9.6 where the same weights give 100. A checkpoint that was last trained for another language went on to
    force it.
    """
    model, tokenizer = load(write_checkpoint(tmp_path / "checkpoint", family, **settings), family)
    starts = training_starts(model, tokenizer, data_of(family), tmp_path)
    expected = FAMILIES[family][3]
    assert starts[0] == expected
    forced = model.generation_config.forced_bos_token_id
    # BART puts <s> in front of a target, too, but leaves it to the model to generate it.
    count = 1 + (forced is not None)
    assert generation_starts(model, tokenizer, count) == starts[:count]
    ids = (model.config.decoder_start_token_id, model.generation_config.decoder_start_token_id)
    assert tokenizer.convert_ids_to_tokens(ids) == [expected, expected]
    language = FAMILIES[family][-1][1]
    if family in ("mbart50", "m2m_100", "nllb"):
        assert starts[1].strip("_") == language and forced == tokenizer.convert_tokens_to_ids(starts[1])
    elif family in _UNILINGUAL:
        assert forced == settings.get("generation_forced_bos_token_id")
    # All of it is saved: a fresh process translates alike.
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert loaded("ein Hund")["input_ids"] == tokenizer("ein Hund")["input_ids"]
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "saved")
    assert generation_starts(again, loaded, count) == starts[:count]


@pytest.mark.parametrize("model_type", ["marian", "m2m_100", "bart", "mbart", "t5"])
def test_models_from_scratch_start_as_in_training(tmp_path: Path, model_type: str) -> None:
    """An mBART model from scratch learned from ``</s>`` and generated from ``<s>``."""
    data = DataArguments(source_lang="de", target_lang="en", forced_bos_token="<unk>")
    sizes = {} if model_type == "t5" else {"d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    tokenizer = train_tokenizer([text for pair in PAIRS for text in pair], 300)
    with pytest.raises(UsageError, match="--forced_bos_token <unk> is not a token"):
        create_model(ModelArguments(model_type=model_type, **sizes), data, tokenizer)
    data.forced_bos_token = None
    model = create_model(ModelArguments(model_type=model_type, **sizes), data, tokenizer)
    starts = training_starts(model, tokenizer, data, tmp_path)
    assert len(starts) == 1 and generation_starts(model, tokenizer, 1) == starts


@pytest.mark.parametrize(("family", "token"), [("marian", "<unk>"), ("t5", "▁"), ("nllb_legacy", "eng_Latn")])
def test_a_forced_token_is_learned(tmp_path: Path, family: str, token: str) -> None:
    """``--forced_bos_token`` was forced on translations that were learned without it."""
    folder = write_checkpoint(tmp_path / "checkpoint", family)
    if token == "<unk>":
        with pytest.raises(UsageError, match="--forced_bos_token <unk> is not a token"):
            load(folder, family, forced_bos_token=token)
        token = "Hund" if "Hund" in AutoTokenizer.from_pretrained(folder).get_vocab() else "ei"
    data = data_of(family, forced_bos_token=token, max_target_length=4)
    model, tokenizer = load_pretrained(ModelArguments(model_name_or_path=str(folder)), data)
    arguments = MomoSeq2SeqTrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True)
    corpus = DatasetDict({"train": Dataset.from_dict({"translation": [{"de": "ein Hund", "en": "a dog runs"}]})})
    labels = translation.encode(Settings(ModelArguments(), data, arguments), corpus, model, tokenizer)["train"][0][
        "labels"
    ]
    assert len(labels) == 4 and tokenizer.convert_ids_to_tokens(labels[0]) == token
    assert generation_starts(model, tokenizer, 2)[1] == token


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("nllb", {"source_lang_code": None}, r"--source_lang de is not .*; give --source_lang_code, e\.g\. deu_Latn"),
        ("nllb", {"target_lang_code": None}, r"--target_lang en is not .*; give --target_lang_code, e\.g\. eng_Latn"),
        ("nllb", {"target_lang_code": "en_XX"}, r"--target_lang_code en_XX is not .*eng_Latn"),
        ("nllb_legacy", {"target_lang_code": "eng_latn"}, r"--target_lang_code eng_latn is not .*eng_Latn"),
        ("nllb", {"target_lang_code": "<mask>"}, r"--target_lang_code <mask> is not a language code"),
        ("mbart", {"source_lang_code": "de"}, r"--source_lang_code de is not .*, e\.g\. de_DE"),
        ("mbart", {"target_lang_code": "eng_Latn"}, r"--target_lang_code eng_Latn is not .*, e\.g\. en_XX"),
        ("mbart50", {"target_lang_code": "en_US"}, r"--target_lang_code en_US is not .*, e\.g\. en_XX"),
        ("mbart50", {"target_lang_code": "nowhere"}, r"--target_lang_code nowhere is not .*en_XX"),
        ("m2m_100", {"source_lang_code": "de_DE"}, r"--source_lang_code de_DE .*, e\.g\. de \(100 codes in all\)"),
        ("m2m_100", {"source_lang_code": "xx"}, r"--source_lang_code xx is not a language code"),
        ("mbart50", {"forced_bos_token": "de_DE"}, r"--forced_bos_token de_DE contradicts the target language en_XX"),
        ("nllb", {"forced_bos_token": "eng"}, r"--forced_bos_token eng is not a token"),
    ],
)  # fmt: skip
def test_unknown_codes_are_refused_with_near_ones(
    tmp_path: Path, family: str, options: dict[str, Any], message: str
) -> None:
    """``--source_lang de`` with NLLB became ``<unk>`` at every sentence, and the run ended with exit status 0."""
    with pytest.raises(UsageError, match=message):
        load(write_checkpoint(tmp_path / "checkpoint", family), family, **options)


@pytest.mark.parametrize(
    ("family", "count"), [("mbart", 25), ("mbart50", 52), ("m2m_100", 100), ("nllb", 202), ("t5", 0)]
)
def test_codes_of_a_tokenizer(tmp_path: Path, family: str, count: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(write_checkpoint(tmp_path / "checkpoint", family))
    codes = language_codes(tokenizer)
    assert len(codes) == count
    assert not codes or set(FAMILIES[family][-1]) <= set(codes)


@pytest.mark.parametrize(
    ("languages", "codes"),
    [(("de", "en"), ("deu_Latn", "eng_Latn")), (("de_DE", "en_XX"), (None, None)), (("de-AT", "en-GB"), (None, None))],
)
def test_data_and_tokenizer_may_name_a_language_differently(
    tmp_path: Path, languages: tuple[str, str], codes: tuple[str | None, str | None]
) -> None:
    """NLLB on a data set with the columns de and en could not be trained: one argument named column and code."""
    source, target = languages
    names = {"source_lang": source, "target_lang": target, "source_lang_code": codes[0], "target_lang_code": codes[1]}
    write_text(tmp_path, "text.en", [english for _, english in PAIRS])
    files = [
        write_json_lines(tmp_path, "pairs.jsonl"),
        write_text(tmp_path, "text.de", [german for german, _ in PAIRS]),
    ]
    for file in files:
        pairs = load_corpus(DataArguments(train_file=str(file), **names), ["train"])["train"]["translation"]
        assert [(pair[source], pair[target]) for pair in pairs] == PAIRS


def test_one_column_is_not_two_languages(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"translation": {"zh": "a", "en": "b"}}\n')
    arguments = DataArguments(source_lang="zh_CN", target_lang="zh_TW", train_file=str(tmp_path / "pairs.jsonl"))
    with pytest.raises(UsageError, match="has only 'zh' for both --source_lang and --target_lang"):
        load_corpus(arguments, ["train"])
