"""Answers that are errors, and connections that broke, as kinds of ``ClientError``."""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx
from pydantic import BaseModel, ValidationError

from sfumato.client import errors

_BY_STATUS: Mapping[int, type[errors.ClientError]] = {
    400: errors.InvalidRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.InvalidRequest,
    415: errors.InvalidRequest,
    422: errors.InvalidRequest,
    429: errors.Overloaded,
    503: errors.Overloaded,
}


#: What load balancers say in words of their own while a service restarts behind them.
_FROM_A_PROXY = (429, 502, 503, 504)


class _Problem(BaseModel):
    """RFC 9457's ``application/problem+json``, as the service writes it."""

    detail: str
    code: str
    field: str | None = None
    accepted: str | list[str] | None = None


def error_of(outcome: httpx.Response | httpx.RequestError) -> errors.ClientError:
    """The error for an answer that is none, or for a connection that broke."""
    if isinstance(outcome, httpx.RequestError):
        return _unreachable(outcome)
    try:
        problem = _Problem.model_validate_json(outcome.content)
    except ValidationError:
        if outcome.status_code in _FROM_A_PROXY:
            return errors.Overloaded(
                f"{outcome.request.url.host} answers with status {outcome.status_code}: what stands "
                "before the service does not reach it.",
                code="unavailable",
                status=outcome.status_code,
            )
        return no_service_of_ours(outcome, f"status {outcome.status_code}")
    kind = _BY_STATUS.get(outcome.status_code, errors.ServiceFailed)
    error = kind(
        problem.detail,
        code=problem.code,
        status=outcome.status_code,
        field=problem.field,
        accepted=problem.accepted,
    )
    if isinstance(error, errors.Overloaded):
        error.retry_after = _seconds(outcome.headers.get("Retry-After"))
    return error


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None  # a date; no service of ours writes one


def _unreachable(error: httpx.RequestError) -> errors.Unreachable:
    url = error.request.url
    place = f"{url.scheme}://{url.netloc.decode()}"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        message = (
            f"No service answers at {place} ({_reason(error)}). "
            "Start one with `sfumato serve`, or give its address."
        )
    else:
        message = (
            f"The connection to {place} broke ({_reason(error)}). "
            "A job that was accepted is not lost."
        )
    return errors.Unreachable(message, code="unreachable")


def _reason(error: httpx.RequestError) -> str:
    """Its words without the system's number; its class where it has none, as timeouts have."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__


def no_service_of_ours(response: httpx.Response, finding: str) -> errors.UnexpectedAnswer:
    # An address may hold a password.
    url = response.request.url.copy_with(query=None, username=None, password=None)
    return errors.UnexpectedAnswer(
        f"{url} answers, but not as a Sfumato service of "
        f"this version does ({finding}). Is the address right?",
        code="unexpected_answer",
        status=response.status_code,
    )
