"""Requests to the Hub: what a failure means, when to try again, and no token in what is said of it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from json import JSONDecodeError
from typing import Any, TypeVar

from huggingface_hub import constants, get_token
from huggingface_hub.errors import OfflineModeIsEnabled

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
# A Hub that does not answer for so many seconds is given up.
PATIENCE = 60.0
_LONGEST_PAUSE = 16.0
# The Hub counts requests over five minutes.
_LONGEST_RETRY_AFTER = 300.0
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
# The libraries that huggingface_hub speaks HTTP with: before its release 1, from then on, and from 2 on.
_HTTP_LIBRARIES = frozenset({"requests", "urllib3", "httpx", "httpcore", "httpx2", "httpcore2"})
_RATE_LIMIT = re.compile(r"\br=0\b.*\bt=(\d+)")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}")


class UnsavedToken(str):
    """A token that stays out of pickles, such as the ``training_args.bin`` that is pushed with a model."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, tuple[()]]:
        return type(None), ()

    def __deepcopy__(self, memo: Any) -> UnsavedToken:
        return self


def cause_of(problem: BaseException) -> BaseException:
    """What really happened, where huggingface_hub has raised another error for it."""
    cause = problem
    while _status_of(cause) is None and not _is_http(cause) and cause.__cause__ is not None:
        cause = cause.__cause__
    return cause if _is_http(cause) or _status_of(cause) is not None else problem


def _is_http(problem: BaseException) -> bool:
    # Several uploads share a client, and huggingface_hub closes it for all of them when one cannot connect.
    closed = isinstance(problem, RuntimeError) and "client has been closed" in str(problem)
    return closed or bool({cls.__module__.partition(".")[0] for cls in type(problem).__mro__} & _HTTP_LIBRARIES)


def _status_of(problem: BaseException) -> int | None:
    status = getattr(getattr(problem, "response", None), "status_code", None)
    return None if status is None else int(status)


def is_transient(problem: BaseException) -> bool:
    """Whether the same request may succeed later: the Hub is busy, broken or out of reach, but has not refused."""
    if isinstance(problem, OfflineModeIsEnabled):
        return False
    problem = cause_of(problem)
    status = _status_of(problem)
    if status is not None:
        return status in _TRANSIENT
    # A broken Hub, or a proxy before it, answers with a page where JSON is expected.
    return _is_http(problem) or isinstance(problem, ConnectionError | TimeoutError | JSONDecodeError)


def describe(problem: BaseException, token: str | None = None) -> str:
    """Say in one line what went wrong with the Hub, and what to do about it.

    Args:
        problem: What huggingface_hub raised.
        token: The token in use, if it is not the one of the login.

    Returns:
        A sentence without its full stop, and without the token.
    """
    token, problem = token or get_token(), cause_of(problem)
    status, hub = _status_of(problem), f"the Hub at {constants.ENDPOINT}"
    said = _text_of(problem)
    if status is None and problem.__cause__ is not None and _text_of(problem.__cause__) not in said:
        said += f": {_text_of(problem.__cause__)}"
    log_in = "log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(problem, OfflineModeIsEnabled):
        text = "HF_HUB_OFFLINE=1 keeps everything from the Hub; unset it"
    elif status == 401:
        reason = "takes no push without a token" if token is None else "refuses the token"
        text = f"{hub} {reason} (401): {log_in}{'' if token is None else ' to one that may write'}"
    elif status == 403:
        text = f"the token may not write there (403): {said}"
    elif status is not None:
        text = f"{hub} answered {status}: {said}"
    elif is_transient(problem):
        text = f"{hub} cannot be reached, or cut the connection ({type(problem).__name__}: {said})"
    else:
        text = f"{type(problem).__name__}: {said}"
    return redact(text, token)


def _text_of(problem: BaseException) -> str:
    """On one line, without the address of a page about HTTP."""
    return " ".join(re.sub(r"For more information check: \S+", "", str(problem)).split()).rstrip(".")


def redact(text: str, token: str | None) -> str:
    """The text without the token, and without anything else that looks like one."""
    return _TOKEN.sub("<token>", text.replace(token, "<token>") if token else text)


def retrying(
    action: Callable[[], _Result], what: str, *, patience: float = PATIENCE, failed: Exception | None = None
) -> _Result:
    """Do something at the Hub, and again for a while where it fails for a passing reason.

    huggingface_hub tries some requests again by itself, others and those of its older releases not.

    Args:
        action: What to do. Must be harmless when done twice.
        what: Said in the line that is logged before every new attempt.
        patience: Seconds after which no new attempt is made.
        failed: How it has failed already, if it has.

    Raises:
        Exception: That of the last attempt.
    """
    began, pause, problem = time.monotonic(), 1.0, failed
    while True:
        if problem is None:
            try:
                return action()
            except Exception as error:
                problem = error
        if not is_transient(problem) or time.monotonic() - began > patience:
            raise problem
        seconds = _retry_after(problem) or pause
        logger.warning("%s: %s; trying again in %g s", what, describe(problem), seconds)
        time.sleep(seconds)
        pause, problem = min(2 * pause, _LONGEST_PAUSE), None


def _retry_after(problem: Exception) -> float | None:
    headers = getattr(getattr(cause_of(problem), "response", None), "headers", None) or {}
    # The Hub says how many requests are left (r) and when it counts anew (t), others by the standard's header.
    reset = _RATE_LIMIT.search(str(headers.get("RateLimit", "")))
    value = reset[1] if reset else str(headers.get("Retry-After", ""))
    return min(float(value) + 1.0, _LONGEST_RETRY_AFTER) if value.isdigit() else None
