"""Metrics as `evaluate` modules that stand in the package, so they load with no network."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluate import EvaluationModule

BLEU_PATH = Path(__file__).parent / "bleu"


def load_bleu() -> "EvaluationModule":
    """Load the BLEU and chrF metric, the same as `evaluate.load(str(machine_translation.metrics.BLEU_PATH))`.

    Returns:
        The metric; its `compute(predictions=..., references=...)` gives what `hf_momo/metrics/bleu/bleu.py` lists.
    """
    import evaluate

    return evaluate.load(str(BLEU_PATH), keep_in_memory=True)
