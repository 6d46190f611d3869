"""The BLEU module returns the scores of sacreBLEU and is loaded by evaluate without a network."""

import os
import subprocess
import sys
from pathlib import Path

import evaluate
import pytest
import sacrebleu

from machine_translation.metrics import BLEU_PATH

PREDICTIONS = ["The dog runs across the green field.", "A man sleeps.", "Two Women are singing a song"]
REFERENCES = ["The dog is running across the green field.", "A man is sleeping.", "Two women sing a song."]
OTHERS = ["A dog runs over a field.", "The man sleeps.", "Two women are singing a song."]


def load_bleu() -> evaluate.EvaluationModule:
    return evaluate.load(str(BLEU_PATH), keep_in_memory=True)


@pytest.mark.parametrize(
    "options", [{}, {"lowercase": True}, {"tokenize": "char"}, {"tokenize": "intl", "lowercase": True}]
)
def test_equals_sacrebleu(options: dict[str, object]) -> None:
    result = load_bleu().compute(predictions=PREDICTIONS, references=REFERENCES, **options)
    expected = sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES], **options)
    assert result["score"] == expected.score > 0
    assert (result["counts"], result["totals"]) == (expected.counts, expected.totals)
    assert (result["bp"], result["sys_len"], result["ref_len"]) == (expected.bp, expected.sys_len, expected.ref_len)
    lowercase = bool(options.get("lowercase"))
    assert result["chrf"] == sacrebleu.CHRF(lowercase=lowercase).corpus_score(PREDICTIONS, [REFERENCES]).score


def test_several_references() -> None:
    both = [list(pair) for pair in zip(REFERENCES, OTHERS, strict=True)]
    result = load_bleu().compute(predictions=PREDICTIONS, references=both)
    assert result["score"] == sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES, OTHERS]).score
    assert result["signature"].startswith("nrefs:2|")


def test_unequal_numbers_of_references_are_refused() -> None:
    with pytest.raises(ValueError, match="as many sentences for each prediction"):
        load_bleu().compute(predictions=PREDICTIONS[:2], references=[["a", "b"], ["c"]])


def test_signatures_say_how_it_was_scored() -> None:
    result = load_bleu().compute(predictions=PREDICTIONS, references=REFERENCES, tokenize="intl", lowercase=True)
    assert result["signature"] == f"nrefs:1|case:lc|eff:no|tok:intl|smooth:exp|version:{sacrebleu.__version__}"
    assert result["chrf_signature"].startswith("nrefs:1|case:lc|eff:yes|nc:6|nw:0")


def test_loads_offline_from_any_folder(tmp_path: Path) -> None:
    script = (
        f"import evaluate; metric = evaluate.load({str(BLEU_PATH)!r})\n"
        f"metric.add_batch(predictions={PREDICTIONS!r}, references={REFERENCES!r})\n"
        "print(metric.compute()['score'])"
    )
    environment = {**os.environ, "HF_EVALUATE_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES]).score
