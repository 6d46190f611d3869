"""BLEU and chrF, as a module that ``evaluate.load`` takes."""
