"""BLEU and chrF of sacreBLEU, as a function and as a metric of ``evaluate``.

Every number is computed by sacreBLEU (Post, "A Call for Clarity in Reporting BLEU Scores", WMT 2018). This module adds
the interface of ``evaluate``, and the signatures without which two scores cannot be compared. ``evaluate`` copies the
file when it loads it, so it imports nothing else of this project.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

_DESCRIPTION = "Corpus BLEU and chrF by sacreBLEU, with their signatures, on detokenized text."

_CITATION = """\
@inproceedings{post-2018-call,
    title = "A Call for Clarity in Reporting {BLEU} Scores",
    author = "Post, Matt",
    booktitle = "Proceedings of the Third Conference on Machine Translation: Research Papers",
    year = "2018",
    url = "https://www.aclweb.org/anthology/W18-6319",
    pages = "186--191",
}
"""

_INPUTS_DESCRIPTION = """
Args:
    predictions: The translations, detokenized.
    references: For each translation a reference, or a list of them, of the same length for each.
    tokenize: sacreBLEU's tokenizer, e.g. "13a" (its default), "intl", "zh", "char", "none".
    lowercase: Whether case is ignored.

Returns:
    score: BLEU, 0 to 100.
    counts, totals, precisions: Matching n-grams and all n-grams for n = 1 to 4, and their ratio in percent.
    bp, sys_len, ref_len: Brevity penalty, and the lengths in tokens of which it is computed.
    signature: sacreBLEU's signature of `score`.
    chrf, chrf_signature: chrF, 0 to 100, and its signature.
"""


def score_corpus(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    tokenize: str | None = None,
    lowercase: bool = False,
) -> dict[str, Any]:
    """Return BLEU and chrF of a corpus with their signatures.

    Args:
        predictions: The translations.
        references: For each translation a reference, or a list of them, of the same length for each.
        tokenize: sacreBLEU's tokenizer; ``None`` for its default.
        lowercase: Whether case is ignored.

    Raises:
        ValueError: If the numbers of references differ.
    """
    alternatives = [[each] if isinstance(each, str) else each for each in references]
    if len({len(each) for each in alternatives}) != 1:
        raise ValueError("references must give as many sentences for each prediction; fill up by repeating one")
    # sacreBLEU takes the first references of all sentences as one list, the second ones as another, and so on.
    streams = [list(stream) for stream in zip(*alternatives, strict=True)]
    # Without `force`, which changes no number, sacreBLEU warns at each call that the text looks tokenized.
    bleu_metric = BLEU(tokenize=tokenize, lowercase=lowercase, force=tokenize == "none")
    chrf_metric = CHRF(lowercase=lowercase)
    bleu = bleu_metric.corpus_score(predictions, streams)
    chrf = chrf_metric.corpus_score(predictions, streams)
    return {
        "score": bleu.score,
        "counts": bleu.counts,
        "totals": bleu.totals,
        "precisions": bleu.precisions,
        "bp": bleu.bp,
        "sys_len": bleu.sys_len,
        "ref_len": bleu.ref_len,
        "signature": str(bleu_metric.get_signature()),
        "chrf": chrf.score,
        "chrf_signature": str(chrf_metric.get_signature()),
    }


class Bleu(evaluate.Metric):
    """Metric of ``evaluate`` that returns sacreBLEU's BLEU and chrF of a corpus."""

    def _info(self) -> evaluate.MetricInfo:
        prediction = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS_DESCRIPTION,
            features=[
                datasets.Features({"predictions": prediction, "references": datasets.Value("string")}),
                datasets.Features({"predictions": prediction, "references": [datasets.Value("string")]}),
            ],
            homepage="https://github.com/mjpost/sacrebleu",
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str] | list[list[str]],
        tokenize: str | None = None,
        lowercase: bool = False,
    ) -> dict[str, Any]:
        return score_corpus(predictions, references, tokenize=tokenize, lowercase=lowercase)
