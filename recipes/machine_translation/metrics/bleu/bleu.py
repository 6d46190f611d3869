"""BLEU and chrF of sacreBLEU as an `evaluate` metric.

Every number is sacreBLEU's own (Post, "A Call for Clarity in Reporting BLEU Scores", WMT 2018); this file only gives
them the interface of `evaluate`, and adds the signatures without which two scores cannot be compared.
"""

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
    predictions: Translations, detokenized.
    references: For each translation a sentence, or a list of them (as many for each).
    tokenize: sacreBLEU's tokenizer, e.g. "13a" (its default), "intl", "zh", "char", "none".
    lowercase: Compare without case.

Returns:
    score: BLEU, 0 to 100.
    counts, totals, precisions: Matching and all n-grams, n = 1 to 4, and their ratio in percent.
    bp, sys_len, ref_len: Brevity penalty and the lengths it comes from, in tokens.
    signature: sacreBLEU's signature of `score`.
    chrf, chrf_signature: chrF, 0 to 100, and its signature.
"""


class Bleu(evaluate.Metric):
    """sacreBLEU's corpus BLEU and chrF."""

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
        alternatives = [[each] if isinstance(each, str) else each for each in references]
        if len({len(each) for each in alternatives}) != 1:
            raise ValueError("references must give as many sentences for each prediction; fill up by repeating one")
        # sacreBLEU wants one list per reference translation of the whole corpus.
        streams = [list(stream) for stream in zip(*alternatives, strict=True)]
        # sacreBLEU takes tokens for a mistake and warns at each call, but for `force`, which changes no number.
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
