"""The lengths of generated translations."""

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import EvalPrediction

from machine_translation.arguments import DataArguments
from machine_translation.evaluation import TranslationScorer
from machine_translation.tokenizer import train_tokenizer


def test_what_fills_up_a_batch_has_no_length() -> None:
    pairs = Dataset.from_dict({"translation": [{"de": "ein Hund", "en": "a dog"}] * 4})
    tokenizer = train_tokenizer(["ein Hund", "a dog"], 270)
    arguments = DataArguments(source_lang="de", target_lang="en")
    scorer = TranslationScorer(tokenizer, DatasetDict({"validation": pairs}), arguments)
    word, end, pad, start = 10, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id
    rows = [
        [start, word, word, end, end, end],  # beam search fills up with end tokens
        [start, word, word, end, pad, pad],  # greedy search with padding
        [start, word, word, end, -100, -100],  # and the Trainer with -100
        [end, word, word, end, pad, pad],  # BART starts on its end token
    ]
    prediction = EvalPrediction(predictions=np.array(rows), label_ids=np.zeros((4, 1)))
    assert scorer(prediction)["gen_len"] == 4.0
    rows[0] = [start, word, word, word, word, word]
    assert scorer(EvalPrediction(predictions=np.array(rows), label_ids=np.zeros((4, 1))))["gen_len"] == 4.5
