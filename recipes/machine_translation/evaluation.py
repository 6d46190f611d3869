"""Translations of a split, their BLEU and chrF, and the files that show them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict
from transformers import EvalPrediction, PreTrainedTokenizerBase

from hf_momo.utils.files import write_whole
from machine_translation.arguments import DataArguments
from machine_translation.card import TOKENIZED_BLEU
from machine_translation.corpus import SPLIT_FLAGS
from machine_translation.metrics import load_bleu
from machine_translation.moses import MosesText

PREDICTIONS_NAME = "generated_predictions.txt"
TOKENIZED_PREDICTIONS_NAME = "generated_predictions.tokenized.txt"


class TranslationScorer:
    """`compute_metrics` of a Trainer: decodes, and scores against the sentences themselves.

    The references are the text of the corpus, not decoded labels: a tokenizer that does not give back the text exactly
    would change what is scored against.

    Where the corpus is Moses-tokenized, translations and references are detokenized for BLEU and chrF, and
    `bleu_tokenized_lowercased` is that of the tokens, as the literature reports for IWSLT14.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, corpus: DatasetDict, arguments: DataArguments) -> None:
        """Set up for the splits that may be evaluated.

        Args:
            tokenizer: Decodes the predictions.
            corpus: The sentence pairs, in the order in which they will be evaluated.
            arguments: Which language is which.
        """
        self.tokenizer = tokenizer
        self.sources = _side(corpus, arguments.source_lang)
        self.references = _side(corpus, arguments.target_lang)
        # Which split the Trainer is about to evaluate; while it trains it is always this one.
        self.split = "validation"
        self._metric = load_bleu()
        self._moses = MosesText(str(arguments.target_lang)) if arguments.moses_tokenized else None
        self._texts = {split: self.detokenize(references) for split, references in self.references.items()}

    def decode(self, token_ids: Any, split: str) -> list[str]:
        """Token ids of a whole split to text, one line each; the -100 with which the Trainer pads is padding."""
        # With several processes the last batch is filled up with sentences from the beginning.
        token_ids = token_ids[: len(self.references[split])]
        token_ids = np.where(token_ids < 0, self.tokenizer.pad_token_id, token_ids)
        texts = self.tokenizer.batch_decode(token_ids, skip_special_tokens=True)
        # A line break inside a translation would shift all that follow in the file against their references.
        return [" ".join(text.splitlines()).strip() for text in texts]

    def detokenize(self, sentences: Sequence[str]) -> list[str]:
        """The text of Moses tokens; where the corpus is text already, the sentences themselves."""
        return list(sentences) if self._moses is None else [self._moses.detokenize(each) for each in sentences]

    def score(self, translations: Sequence[str], split: str) -> dict[str, Any]:
        """All that the metric gives, signatures included.

        Args:
            translations: In the form of the corpus, so tokenized where that is.
            split: Whose references count.
        """
        scores: dict[str, Any] = self._metric.compute(
            predictions=self.detokenize(translations), references=self._texts[split]
        )
        if self._moses is not None:
            tokenized = self._metric.compute(
                predictions=list(translations), references=self.references[split], tokenize="none", lowercase=True
            )
            scores[TOKENIZED_BLEU] = tokenized["score"]
            scores[f"{TOKENIZED_BLEU}_signature"] = tokenized["signature"]
        return scores

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """The numbers for the log while the model trains, and the mean length of what was generated."""
        token_ids = prediction.predictions
        token_ids = token_ids[0] if isinstance(token_ids, tuple) else token_ids
        scores = self.score(self.decode(token_ids, self.split), self.split)
        logged = {"bleu": scores["score"], "chrf": scores["chrf"], "gen_len": float(self._lengths(token_ids).mean())}
        return logged | ({TOKENIZED_BLEU: scores[TOKENIZED_BLEU]} if TOKENIZED_BLEU in scores else {})

    def _lengths(self, token_ids: Any) -> Any:
        # Beam search fills up the shorter translations of a batch with end tokens; some models also start with one.
        ends = token_ids == self.tokenizer.eos_token_id
        ends[:, 0] = False
        beyond_end = np.cumsum(ends, axis=1) > ends
        padding = (token_ids < 0) | (token_ids == self.tokenizer.pad_token_id)
        return np.count_nonzero(~(padding | beyond_end), axis=1)


def write_predictions(folder: Path, translations: Sequence[str], name: str = PREDICTIONS_NAME) -> None:
    """Write one translation a line."""
    write_whole(folder / name, "".join(f"{translation}\n" for translation in translations))


def sample_translations(
    sources: Sequence[str], references: Sequence[str], translations: Sequence[str], count: int = 5
) -> list[dict[str, str]]:
    """Examples spread evenly over the split, so that nobody picked them."""
    step = max(1, len(sources) // count)
    return [
        {"source": sources[i], "reference": references[i], "translation": translations[i]}
        for i in range(0, min(len(sources), step * count), step)
    ]


def describe_corpus(corpus: DatasetDict, arguments: DataArguments) -> dict[str, Any]:
    """What a record says of the data."""
    files = {split: getattr(arguments, flag) for split, flag in SPLIT_FLAGS.items() if split in corpus}
    return {
        "source_lang": arguments.source_lang,
        "target_lang": arguments.target_lang,
        "name": arguments.dataset_name,
        "files": None if arguments.dataset_name else {split: Path(name).name for split, name in files.items()},
        "pairs": {split: len(pairs) for split, pairs in corpus.items()},
    }


def _side(corpus: DatasetDict, language: str | None) -> dict[str, list[str]]:
    return {
        split: [pair[language] for pair in pairs["translation"]] for split, pairs in corpus.items() if split != "train"
    }
