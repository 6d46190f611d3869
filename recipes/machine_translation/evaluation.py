"""Decoded translations, their BLEU and chrF, and the files and samples of them."""

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
from machine_translation.languages import language_of
from machine_translation.metrics.bleu.bleu import score_corpus
from machine_translation.moses import MosesText

PREDICTIONS_NAME = "generated_predictions.txt"
TOKENIZED_PREDICTIONS_NAME = "generated_predictions.tokenized.txt"


class TranslationScorer:
    """``compute_metrics`` of a Trainer, which decodes predictions and scores them against the sentences of the corpus.

    The references are not decoded labels, because a tokenizer that does not reproduce text exactly would change them.

    For a Moses-tokenized corpus, BLEU and chrF are computed on detokenized translations and references, and
    ``bleu_tokenized_lowercased`` on the tokens, as the literature does for IWSLT14.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, corpus: DatasetDict, arguments: DataArguments) -> None:
        """Create a scorer for the splits of a corpus.

        Args:
            tokenizer: The tokenizer that decodes the predictions.
            corpus: The sentence pairs, in the order in which they are evaluated.
            arguments: The languages, and whether the corpus is tokenized.
        """
        self.tokenizer = tokenizer
        self.sources = _side(corpus, arguments.source_lang)
        self.references = _side(corpus, arguments.target_lang)
        # The split that the Trainer evaluates next; during training always the validation.
        self.split = "validation"
        self._moses = MosesText(language_of(arguments.target_lang)) if arguments.moses_tokenized else None
        self._texts = {split: self.detokenize(references) for split, references in self.references.items()}

    def decode(self, token_ids: Any, split: str) -> list[str]:
        """Return the text of the token ids of a whole split; -100, with which the Trainer pads, is padding, too."""
        # With several processes, the last batch is filled up with sentences from the beginning.
        token_ids = token_ids[: len(self.references[split])]
        token_ids = np.where(token_ids < 0, self.tokenizer.pad_token_id, token_ids)
        texts = self.tokenizer.batch_decode(token_ids, skip_special_tokens=True)
        # A line break in a translation would shift the following lines of the file against their references.
        return [" ".join(text.splitlines()).strip() for text in texts]

    def detokenize(self, sentences: Sequence[str]) -> list[str]:
        """Return the text of Moses tokens, or the sentences themselves if the corpus is not tokenized."""
        return list(sentences) if self._moses is None else [self._moses.detokenize(each) for each in sentences]

    def score(self, translations: Sequence[str], split: str) -> dict[str, Any]:
        """Return all scores with their signatures.

        Args:
            translations: The translations, tokenized if the corpus is.
            split: The split with the references.
        """
        scores = score_corpus(self.detokenize(translations), self._texts[split])
        if self._moses is not None:
            tokenized = score_corpus(translations, self.references[split], tokenize="none", lowercase=True)
            scores[TOKENIZED_BLEU] = tokenized["score"]
            scores[f"{TOKENIZED_BLEU}_signature"] = tokenized["signature"]
        return scores

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the scores to log during training and the mean length of the translations in tokens."""
        token_ids = prediction.predictions
        token_ids = token_ids[0] if isinstance(token_ids, tuple) else token_ids
        scores = self.score(self.decode(token_ids, self.split), self.split)
        logged = {"bleu": scores["score"], "chrf": scores["chrf"], "gen_len": float(self._lengths(token_ids).mean())}
        return logged | ({TOKENIZED_BLEU: scores[TOKENIZED_BLEU]} if TOKENIZED_BLEU in scores else {})

    def _lengths(self, token_ids: Any) -> Any:
        # Beam search pads shorter translations with end tokens, and some models also start with one.
        ends = token_ids == self.tokenizer.eos_token_id
        ends[:, 0] = False
        beyond_end = np.cumsum(ends, axis=1) > ends
        padding = (token_ids < 0) | (token_ids == self.tokenizer.pad_token_id)
        return np.count_nonzero(~(padding | beyond_end), axis=1)


def write_predictions(folder: Path, translations: Sequence[str], name: str = PREDICTIONS_NAME) -> None:
    """Write one translation per line."""
    write_whole(folder / name, "".join(f"{translation}\n" for translation in translations))


def sample_translations(
    sources: Sequence[str], references: Sequence[str], translations: Sequence[str], count: int = 5
) -> list[dict[str, str]]:
    """Return examples at equal distances over the split, so that they are not hand-picked."""
    step = max(1, len(sources) // count)
    return [
        {"source": sources[i], "reference": references[i], "translation": translations[i]}
        for i in range(0, min(len(sources), step * count), step)
    ]


def describe_corpus(corpus: DatasetDict, arguments: DataArguments) -> dict[str, Any]:
    """Return the description of the data for the record of the run."""
    files = {split: getattr(arguments, flag) for split, flag in SPLIT_FLAGS.items() if split in corpus}
    return {
        "source_lang": language_of(arguments.source_lang),
        "target_lang": language_of(arguments.target_lang),
        "name": arguments.dataset_name,
        "files": None if arguments.dataset_name else {split: Path(name).name for split, name in files.items()},
        "pairs": {split: len(pairs) for split, pairs in corpus.items()},
    }


def _side(corpus: DatasetDict, language: str | None) -> dict[str, list[str]]:
    return {
        split: [pair[language] for pair in pairs["translation"]] for split, pairs in corpus.items() if split != "train"
    }
