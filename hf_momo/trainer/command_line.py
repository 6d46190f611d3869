"""A look at a script's command line before the script runs, so that a typing error costs no model load."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import zip_longest

from transformers.training_args import OptimizerNames

from hf_momo.optimizers.registry import list_optimizers
from hf_momo.trainer.arguments import parsed_optim_args
from hf_momo.utils.errors import UsageError


def check_optim(words: Sequence[str]) -> None:
    """Refuse a misspelt ``--optim``, or ``--optim_args`` that the optimizer does not take.

    A name that resembles none of the Trainer's is left to the script, whose ``--optim`` may be another one.

    Args:
        words: The script's arguments.

    Raises:
        UsageError: If a name is nearly that of an optimizer, or an option is unknown or has a bad value.
    """
    name = _value_of("--optim", words)
    known = [*list_optimizers(), *(str(each.value) for each in OptimizerNames)]
    if name is not None and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        if near:
            ours = ", ".join(list_optimizers())
            raise UsageError(f"--optim: got {name!r}; did you mean {near[0]}? The names of hf_momo are {ours}")
    if name in list_optimizers():
        try:
            parsed_optim_args(str(name), _value_of("--optim_args", words))
        except ValueError as error:
            raise UsageError(f"--optim_args: {str(error).removeprefix('optim_args: ')}") from None


def _value_of(flag: str, words: Sequence[str]) -> str | None:
    """Return the last value that the words give ``flag``, in either of argparse's spellings."""
    value = None
    for word, following in zip_longest(words, words[1:]):
        name, equals, after = word.partition("=")
        if name.replace("-", "_") == flag.replace("-", "_"):
            value = after if equals else following
    return value
