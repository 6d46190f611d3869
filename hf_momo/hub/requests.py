"""Requests to the Hub: the meaning of a failure, retries, and error texts without tokens."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from json import JSONDecodeError
from typing import Any, TypeVar

from huggingface_hub import constants, get_token
from huggingface_hub.errors import OfflineModeIsEnabled
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
# Seconds of failures after which no new attempt is made.
PATIENCE = 60.0
# Pauses of 1, 2, 4, ... seconds, unless the Hub asks for another.
_PAUSES = wait_exponential(max=16)
# The Hub counts requests over five minutes.
_LONGEST_RETRY_AFTER = 300.0
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
# HTTP libraries of huggingface_hub before its release 1, from 1 on, and from 2 on.
_HTTP_LIBRARIES = frozenset({"requests", "urllib3", "httpx", "httpcore", "httpx2", "httpcore2"})
_RATE_LIMIT = re.compile(r"\br=0\b.*\bt=(\d+)")
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}")


class UnsavedToken(str):
    """A token that is left out of pickles, such as the ``training_args.bin`` that is pushed with a model."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, tuple[()]]:
        return type(None), ()

    def __deepcopy__(self, memo: Any) -> UnsavedToken:
        return self


def cause_of(problem: BaseException) -> BaseException:
    """Return the HTTP error behind an error of huggingface_hub, or the error itself."""
    cause = problem
    while _status_of(cause) is None and not _is_http(cause) and cause.__cause__ is not None:
        cause = cause.__cause__
    return cause if _is_http(cause) or _status_of(cause) is not None else problem


def _is_http(problem: BaseException) -> bool:
    # Several uploads share a client, which huggingface_hub closes for all of them when one cannot connect.
    closed = isinstance(problem, RuntimeError) and "client has been closed" in str(problem)
    return closed or bool({cls.__module__.partition(".")[0] for cls in type(problem).__mro__} & _HTTP_LIBRARIES)


def _status_of(problem: BaseException) -> int | None:
    status = getattr(getattr(problem, "response", None), "status_code", None)
    return None if status is None else int(status)


def is_transient(problem: BaseException) -> bool:
    """Return whether the same request may succeed later: the Hub is busy, broken or unreachable."""
    if isinstance(problem, OfflineModeIsEnabled):
        return False
    problem = cause_of(problem)
    status = _status_of(problem)
    if status is not None:
        return status in _TRANSIENT
    # A broken Hub, or a proxy in front of it, answers with a web page instead of JSON.
    return _is_http(problem) or isinstance(problem, ConnectionError | TimeoutError | JSONDecodeError)


def describe(problem: BaseException, token: str | None = None) -> str:
    """Return one line on what went wrong with the Hub and what to do about it.

    Args:
        problem: Error raised by huggingface_hub.
        token: Token in use; by default that of the login.

    Returns:
        A sentence without its full stop and without the token.
    """
    token, problem = token or get_token(), cause_of(problem)
    status, hub = _status_of(problem), f"the Hub at {constants.ENDPOINT}"
    message = _text_of(problem)
    if status is None and problem.__cause__ is not None and _text_of(problem.__cause__) not in message:
        message += f": {_text_of(problem.__cause__)}"
    log_in = "log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(problem, OfflineModeIsEnabled):
        text = "HF_HUB_OFFLINE=1 forbids every request to the Hub; unset it"
    elif status == 401:
        reason = "accepts no push without a token" if token is None else "refuses the token"
        text = f"{hub} {reason} (401): {log_in}{'' if token is None else ' to a token with write access'}"
    elif status == 403:
        text = f"the token has no write access to the repository (403): {message}"
    elif status is not None:
        text = f"{hub} answered {status}: {message}"
    elif is_transient(problem):
        text = f"{hub} cannot be reached, or closed the connection ({type(problem).__name__}: {message})"
    else:
        text = f"{type(problem).__name__}: {message}"
    return redact(text, token)


def _text_of(problem: BaseException) -> str:
    """Return the message on one line, without the address of a page about HTTP."""
    return " ".join(re.sub(r"For more information check: \S+", "", str(problem)).split()).rstrip(".")


def redact(text: str, token: str | None) -> str:
    """Return the text without the token and without anything that looks like a token of the Hub."""
    return _TOKEN.sub("<token>", text.replace(token, "<token>") if token else text)


def retrying(
    action: Callable[[], _Result], what: str, *, patience: float = PATIENCE, failed: Exception | None = None
) -> _Result:
    """Call the Hub, and call it again for a while after a transient failure.

    huggingface_hub retries some requests by itself, depending on its release.

    Args:
        action: The call; it must be harmless when made twice.
        what: Name of the action in the line that is logged before every retry.
        patience: Seconds after which no new attempt is made.
        failed: Error of a first attempt that was already made.

    Raises:
        Exception: Error of the last attempt.
    """
    earlier = [] if failed is None else [failed]

    def attempt() -> _Result:
        if earlier:
            raise earlier.pop()
        return action()

    def log(state: RetryCallState) -> None:
        logger.warning("%s: %s; retrying in %g s", what, describe(_error_of(state)), state.upcoming_sleep)

    retries = Retrying(
        retry=retry_if_exception(is_transient),
        wait=_pause,
        stop=stop_after_delay(patience),
        before_sleep=log,
        reraise=True,
    )
    return retries(attempt)


def _error_of(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome is not None else None
    assert error is not None, "tenacity pauses after a failure alone"
    return error


def _pause(state: RetryCallState) -> float:
    headers = getattr(getattr(cause_of(_error_of(state)), "response", None), "headers", None) or {}
    # The Hub sends the number of requests left (r) and the seconds until it resets (t); proxies, the standard header.
    reset = _RATE_LIMIT.search(str(headers.get("RateLimit", "")))
    value = reset[1] if reset else str(headers.get("Retry-After", ""))
    return min(float(value) + 1.0, _LONGEST_RETRY_AFTER) if value.isdigit() else _PAUSES(state)
