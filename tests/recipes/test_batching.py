"""Batches by tokens, and their order under accelerate and resume."""

import hashlib
import json

import pytest
import torch
from accelerate import Accelerator, skip_first_batches
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_runs import PAIRS
from torch.utils.data import DataLoader
from transformers import M2M100Config, M2M100ForConditionalGeneration

from machine_translation.arguments import DataArguments
from machine_translation.batching import TokenBatchSampler, TranslationCollator, tokenize
from machine_translation.tokenizer import train_tokenizer

lengths_and_bounds = st.tuples(st.lists(st.integers(1, 60), max_size=80), st.integers(1, 200), st.integers(0, 5))
processes = st.integers(2, 9)


def shares_of(lengths: list[int], max_tokens: int, count: int, epoch: int = 0) -> list[list[list[int]]]:
    """Return the batches of an epoch, one list per process."""
    samplers = [TokenBatchSampler(lengths, max_tokens, 3, num_processes=count, process_index=i) for i in range(count)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in samplers]
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
    return shares


@given(lengths_and_bounds)
def test_an_epoch_has_every_sentence_once_within_the_bound(case: tuple[list[int], int, int]) -> None:
    lengths, max_tokens, epoch = case
    sampler = TokenBatchSampler(lengths, max_tokens, seed=3)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= max_tokens


@settings(deadline=None)
@given(lengths_and_bounds, processes)
def test_processes_have_equal_numbers_of_batches_and_miss_no_sentence(
    case: tuple[list[int], int, int], count: int
) -> None:
    lengths, max_tokens, epoch = case
    shares = shares_of(lengths, max_tokens, count, epoch)
    whole = TokenBatchSampler(lengths, max_tokens, seed=3)
    whole.set_epoch(epoch)
    batches = [tuple(batch) for batch in whole]
    dealt = [tuple(batch) for share in shares for batch in share]
    assert len({len(share) for share in shares}) == 1
    assert set(dealt) == set(batches)
    assert len(dealt) - len(batches) == -len(batches) % count
    if len(batches) >= count:
        for one_step in zip(*shares, strict=True):
            assert len({tuple(batch) for batch in one_step}) == count, "a step has the same batch twice"
        assert max(dealt.count(batch) for batch in batches) <= 2


def test_one_process_has_the_batches_that_it_always_had() -> None:
    """The batches of one process are those of the published runs, so that these can be repeated."""
    lengths = torch.randint(5, 60, (300,), generator=torch.Generator().manual_seed(0)).tolist()
    sampler = TokenBatchSampler(lengths, 200, seed=42)
    sampler.set_epoch(3)
    digest = hashlib.sha256(json.dumps(list(sampler)).encode()).hexdigest()
    assert digest == "33d10bf98f5e66a237e056bd2f9a62bb0911800d828c3e2d8fddb63494fce1ac"


def test_the_batches_of_a_step_are_of_like_length() -> None:
    lengths = torch.randint(5, 60, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    shares = shares_of(lengths, 1000, 4)
    longest = [
        [max(lengths[index] for index in batch) for batch in one_step] for one_step in zip(*shares, strict=True)
    ]
    spreads = [max(each) - min(each) for each in longest]
    # Short sentences make large batches, which lie further apart.
    assert max(spreads) <= 6
    assert sum(spreads) / len(spreads) < 4
    first, second = (shares_of(lengths, 1000, 4, epoch) for epoch in (0, 1))
    assert first[0] != second[0]


def test_which_batches_are_seen_twice_changes_with_the_epoch() -> None:
    lengths = torch.randint(5, 60, (400,), generator=torch.Generator().manual_seed(0)).tolist()
    repeated = []
    for epoch in range(8):
        dealt = sorted(index for share in shares_of(lengths, 500, 4, epoch) for batch in share for index in batch)
        repeated.append(frozenset(index for index in dealt if dealt.count(index) == 2))
    assert all(repeated)
    assert len(set(repeated)) >= 4


@pytest.mark.parametrize(("count", "index"), [(1, 1), (2, 2), (2, -1), (0, 0)])
def test_a_process_that_is_none_of_them_is_refused(count: int, index: int) -> None:
    with pytest.raises(ValueError, match="process_index must be in"):
        TokenBatchSampler([1], 10, seed=0, num_processes=count, process_index=index)


def test_batches_are_full_and_of_like_length() -> None:
    lengths = torch.randint(5, 60, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = list(TokenBatchSampler(lengths, 1000, seed=0))
    padded = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    assert sum(lengths) / padded > 0.97
    assert sum(lengths) / len(batches) > 0.9 * 1000


def test_order_depends_on_seed_and_epoch_only() -> None:
    lengths = list(range(5, 45)) * 3

    def batches(seed: int, epoch: int) -> list[list[int]]:
        sampler = TokenBatchSampler(lengths, 100, seed)
        sampler.set_epoch(epoch)
        torch.rand(7)
        return list(sampler)

    assert batches(0, 1) == batches(0, 1)
    assert batches(0, 1) != batches(0, 2)
    assert batches(0, 1) != batches(1, 1)


def test_a_prepared_loader_skips_to_where_a_run_stopped() -> None:
    lengths = [3 + index % 11 for index in range(60)]
    dataset = [torch.tensor([index]) for index in range(60)]

    def loader() -> DataLoader:
        prepared: DataLoader = Accelerator(cpu=True).prepare(
            DataLoader(dataset, batch_sampler=TokenBatchSampler(lengths, 40, seed=1), collate_fn=torch.cat)  # type: ignore[arg-type]
        )
        prepared.set_epoch(2)  # type: ignore[attr-defined]
        return prepared

    unbroken = [batch.tolist() for batch in loader()]
    resumed = [batch.tolist() for batch in skip_first_batches(loader(), 4)]
    assert resumed == unbroken[4:]
    assert len(unbroken) > 6


@pytest.mark.parametrize("max_tokens", [0, -1])
def test_a_bound_below_one_is_refused(max_tokens: int) -> None:
    with pytest.raises(ValueError, match="max_tokens must be at least 1"):
        TokenBatchSampler([1], max_tokens, seed=0)


def test_targets_are_cut_for_training_only() -> None:
    pairs = Dataset.from_dict({"translation": [{"de": german, "en": english} for german, english in PAIRS]})
    tokenizer = train_tokenizer([text for pair in PAIRS for text in pair], 300)
    arguments = DataArguments(source_lang="de", target_lang="en", max_source_length=5, max_target_length=6)
    cut = tokenize(pairs, tokenizer, arguments, cut_targets=True)
    whole = tokenize(pairs, tokenizer, arguments, cut_targets=False)
    assert {len(ids) for ids in cut["input_ids"]} == {5}
    assert {len(ids) for ids in cut["labels"]} == {6}
    assert min(len(ids) for ids in whole["labels"]) > 6
    # A cut sentence still ends: the model must not learn that sentences stop anywhere.
    assert all(ids[-1] == tokenizer.eos_token_id for ids in [*cut["input_ids"], *cut["labels"]])
    assert whole["length"] == [len(ids) for ids in whole["labels"]]


def test_m2m_100_gets_its_decoder_input_also_when_label_smoothing_takes_the_labels() -> None:
    """Fine-tuning an M2M100 model with label smoothing failed in its first step: the decoder had no input."""
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = M2M100Config(vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, **heads)
    config.decoder_start_token_id = 2
    tokenizer = train_tokenizer(["ein Hund", "a dog"], 270)
    model = M2M100ForConditionalGeneration(config)
    batch = TranslationCollator(tokenizer, model=model)(
        [{"input_ids": [5, 6], "labels": [7, 8, 9]}, {"input_ids": [5], "labels": [7]}]
    )
    pad = config.pad_token_id
    assert batch["labels"].tolist() == [[7, 8, 9], [7, -100, -100]]
    assert batch["decoder_input_ids"].tolist() == [[2, 7, 8], [2, 7, pad]]
