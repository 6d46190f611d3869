"""A data set of German-English sentence pairs, made from a small grammar.

The set is synthetic: it allows a translation model to be trained without a download. The model has to learn German
word order, cases, genders, separable verbs, numbers and a few ambiguous words before it translates correctly, so
optimizers can be compared on it. The vocabulary has a few hundred words; the sentences are correct, but most of them
are unlikely ever to be said. A BLEU score on this set says nothing about real text.

Each pair comes from a template, a function that composes phrases and clauses in both languages at once. The words
stand in ``vocabulary.txt``, the templates in the modules that ``grammar.py`` lists.
"""

from __future__ import annotations

import itertools

from .grammar import iterate_distinct

__all__ = ["MAX_PAIRS", "generate"]

# The grammar has more sentences; the test suite generates this many.
MAX_PAIRS = 100_000


def generate(
    num_train: int = 20_000, num_validation: int = 500, num_test: int = 1_000, seed: int = 0
) -> dict[str, list[dict[str, str]]]:
    """Return German-English sentence pairs in three splits.

    No German and no English sentence occurs twice, neither within a split nor across splits. The test split is drawn
    first and the validation split next, so both depend on the seed but not on the size of the train split.

    Args:
        num_train: The number of pairs to train on.
        num_validation: The number of pairs to validate on.
        num_test: The number of pairs to test on.
        seed: The seed; it gives the same pairs on every supported version of Python.

    Returns:
        The splits ``train``, ``validation`` and ``test``, each a list of pairs with the keys ``de`` and ``en``.

    Raises:
        ValueError: If a number is negative, or their sum exceeds ``MAX_PAIRS``.

    Example:
        >>> splits = generate(num_train=3, num_validation=1, num_test=1)
        >>> [len(pairs) for pairs in splits.values()]
        [3, 1, 1]
        >>> sorted(splits["train"][0])
        ['de', 'en']
    """
    counts = {"num_train": num_train, "num_validation": num_validation, "num_test": num_test}
    for name, count in counts.items():
        if count < 0:
            raise ValueError(
                f"{name} must be between 0 and {MAX_PAIRS} but is {count}; pass 0 to leave the split empty"
            )
    total = sum(counts.values())
    if total > MAX_PAIRS:
        raise ValueError(
            f"num_train + num_validation + num_test must be between 0 and {MAX_PAIRS} but is {total} "
            f"(num_train={num_train}, num_validation={num_validation}, num_test={num_test}); ask for fewer pairs"
        )
    pairs = ({"de": german, "en": english} for _, german, english in iterate_distinct(seed))
    test = list(itertools.islice(pairs, num_test))
    validation = list(itertools.islice(pairs, num_validation))
    return {"train": list(itertools.islice(pairs, num_train)), "validation": validation, "test": test}
