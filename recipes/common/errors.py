"""The one exception that a recipe shows its user as a line instead of a trace."""

import os
import sys
from collections.abc import Callable


class RecipeError(Exception):
    """Bad input or settings: the message says what is wrong, where, and what to do."""


class SharedError(RecipeError):
    """A `RecipeError` that every process of a run raises, so that one a machine shows it."""


def run_recipe(main: Callable[[], None]) -> None:
    """Run `main`; a `RecipeError` becomes one line on stderr and exit code 2, as argparse does for a bad flag."""
    try:
        main()
    except RecipeError as error:
        if not isinstance(error, SharedError) or int(os.environ.get("LOCAL_RANK", "0")) <= 0:
            # One line, whatever a library's message that was passed on contained.
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
