"""The error of a user's mistake, which every command prints as one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class UsageError(Exception):
    """Bad input or settings: the message names the argument, its value, what is legal and what to do.

    Attributes:
        exit_status: What a command that ends with this error returns; 2 is that of ``argparse`` for a bad flag.
    """

    exit_status = 2


class SharedUsageError(UsageError):
    """A ``UsageError`` that every process of a run raises, of which one process per machine prints it."""


class PushError(UsageError):
    """Something was not pushed to the Hub. The message says why, and how to push it later."""

    exit_status = 1


def run_command(main: Callable[[], int | None], name: str = "error") -> int:
    """Run ``main`` and return its exit status; a ``UsageError`` becomes one line on stderr.

    Args:
        main: Returns the exit status, or ``None`` for 0.
        name: What the line begins with, before the colon.
    """
    try:
        return main() or 0
    except UsageError as error:
        by_every_process = not isinstance(error, SharedUsageError | PushError)
        if by_every_process or int(os.environ.get("LOCAL_RANK", "0")) <= 0:
            # One line, whatever the message of a library that was passed on contains.
            print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
