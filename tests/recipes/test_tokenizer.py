"""Round trips of text through the joint vocabulary, and its ids."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipe_runs import PAIRS
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from machine_translation.tokenizer import train_token_tokenizer, train_tokenizer

SENTENCES = [text for pair in PAIRS for text in pair]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(SENTENCES, 320)


@pytest.mark.parametrize("text", [*SENTENCES, "Ça va? Übergrößenträger, naïve 日本語 🙂 . , ' s n't", "two  spaces"])
def test_round_trip(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_round_trip_of_any_text(text: str) -> None:
    whole = train_tokenizer(SENTENCES, 280)
    # Text that looks like a special token is one.
    if not any(token in text for token in whole.all_special_tokens):
        assert whole.decode(whole(text)["input_ids"], skip_special_tokens=True).strip() == text.strip()


def test_size_and_case(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == 320
    assert tokenizer("Hund")["input_ids"] != tokenizer("hund")["input_ids"]
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id}) == 4


def test_targets_are_encoded_as_sources(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer(text_target=SENTENCES[0])["input_ids"] == tokenizer(SENTENCES[0])["input_ids"]


def test_saved_and_loaded(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in SENTENCES:
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert loaded.decode(loaded(text)["input_ids"], skip_special_tokens=True) == text


def test_pieces_of_tokens_have_the_same_numbers_whenever_they_are_learned() -> None:
    """A resumed run trained its tokenizer anew, with other ids for the same units, and translated to wrong words."""
    sentences = [f"{a}{b} {b}{a} {a} {b}" for a in "abcdefghijkl" for b in "mnopqrstuvwx"]
    learned = [train_token_tokenizer(sentences, merges=60).backend_tokenizer.to_str() for _ in range(5)]
    assert len(set(learned)) == 1
