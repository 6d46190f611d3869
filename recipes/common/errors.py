"""The one exception that a recipe shows its user as a line instead of a trace."""

import os
import sys
from collections.abc import Callable


class RecipeError(Exception):
    """Bad input or settings: the message says what is wrong, where, and what to do."""


class SharedError(RecipeError):
    """A `RecipeError` that every process of a run raises, so that one a machine shows it."""


def run_recipe(main: Callable[[], None]) -> None:
    """Run `main`; an error that is the user's to mend becomes one line on stderr.

    With a `RecipeError` the exit code is 2, as argparse's for a bad flag; where the Hub refuses a run, 1.
    """
    try:
        main()
    except RecipeError as error:
        _print_line(error, every_process=not isinstance(error, SharedError))
        sys.exit(2)
    except RuntimeError as error:
        # Only now: not every script of the recipes needs the Hub.
        from hf_momo.hub_requests import PushError

        if not isinstance(error, PushError):
            raise
        _print_line(error, every_process=False)
        sys.exit(1)


def _print_line(error: Exception, *, every_process: bool) -> None:
    if every_process or int(os.environ.get("LOCAL_RANK", "0")) <= 0:
        # One line, whatever a library's message that was passed on contained.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
