"""Every error as an HTTP answer: RFC 9457's ``application/problem+json``, with a stable code.

:data:`STATUSES` is the only table from an error's class to a status; each class of
:mod:`sfumato.core.errors` stands in it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import traceback
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sfumato.api.complaints import complaint
from sfumato.core import errors

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_Handler = Callable[[Request, Exception], Coroutine[Any, Any, Response]]
#: A message may quote what the caller sent; it need not quote all of it.
_MAX_DETAIL = 1000
_RETRY_AFTER = 2.0


class InvalidJson(errors.InvalidRequest):
    code = "invalid_json"


class InvalidMultipart(errors.InvalidRequest):
    code = "invalid_multipart"


class UnsupportedMediaType(errors.InvalidRequest):
    code = "unsupported_media_type"


class BodyTooLarge(errors.InvalidRequest):
    code = "body_too_large"


class RangeNotSatisfiable(errors.InvalidRequest):
    code = "range_not_satisfiable"


class Stopping(errors.Unavailable):
    code = "stopping"


STATUSES: Mapping[type[errors.SfumatoError], HTTPStatus] = {
    errors.SfumatoError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InvalidRequest: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownModel: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownSampler: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownSchedule: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownRuntime: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ModelRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.IdempotencyConflict: HTTPStatus.CONFLICT,
    errors.JobFinished: HTTPStatus.CONFLICT,
    errors.AttemptLost: HTTPStatus.CONFLICT,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.QuotaExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreBusy: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.StartupRefused: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.PortTaken: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.DataFolderInUse: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.SchemaTooNew: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.EngineError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ModelUnusable: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.OutOfMemory: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.NumericalError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ContentBlocked: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.WorkerLost: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.EngineFailure: HTTPStatus.INTERNAL_SERVER_ERROR,
    InvalidJson: HTTPStatus.BAD_REQUEST,
    InvalidMultipart: HTTPStatus.BAD_REQUEST,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    RangeNotSatisfiable: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    Stopping: HTTPStatus.SERVICE_UNAVAILABLE,
}


def status_of(error: errors.SfumatoError) -> HTTPStatus:
    """The status of an error's class, or of the nearest class above it."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """What is said of an error, before it takes the form of an API.

    Attributes:
        code: stable, as ``invalid_request``.
        detail: what was wrong; for people.
        field: of the request that is at fault, with dots between its parts.
        accepted: what would have been right.
    """

    status: HTTPStatus
    code: str
    detail: str
    field: str | None = None
    accepted: str | list[str] | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, error: errors.SfumatoError) -> Refusal:
        """That of an error of ours."""
        return cls(
            status_of(error),
            code=error.code,
            detail=error.message,
            field=error.field,
            accepted=error.accepted,
            headers=headers_of(error),
        )

    @property
    def sentence(self) -> str:
        """What was wrong and what would be right, for an API that has one text for both."""
        if not self.accepted:
            return self.detail
        choices = self.accepted if isinstance(self.accepted, str) else ", ".join(self.accepted)
        return f"{self.detail} Accepted: {choices.rstrip('.')}."


#: The form that an API's errors have on the wire.
Form = Callable[[Refusal], Response]


def problem(refusal: Refusal) -> Response:
    """RFC 9457's form. ``title`` is the code in words, the same at every occurrence."""
    detail = refusal.detail
    body: dict[str, Any] = {
        "type": f"urn:problem-type:sfumato:{refusal.code}",
        "title": refusal.code.replace("_", " ").capitalize(),
        "status": int(refusal.status),
        "detail": detail if len(detail) <= _MAX_DETAIL else detail[:_MAX_DETAIL] + " …",
        "code": refusal.code,
    }
    extensions = {"field": refusal.field, "accepted": refusal.accepted}
    body |= {name: value for name, value in extensions.items() if value is not None}
    return Response(orjson.dumps(body), int(refusal.status), refusal.headers, media_type=MEDIA_TYPE)


def headers_of(error: errors.SfumatoError) -> dict[str, str]:
    """``Retry-After``, in whole seconds, where trying again may help; how to log in, where one
    must."""
    if status_of(error) is HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": "Bearer"}
    if status_of(error) not in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return {}
    seconds = error.retry_after if isinstance(error, errors.Overloaded) else _RETRY_AFTER
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def install(
    app: FastAPI, *, stopping: asyncio.Event, forms: Mapping[str, Form] | None = None
) -> None:
    """Answer every error of the app in its API's form.

    Args:
        stopping: set when the server is about to stop.
        forms: of these paths and those below them, the longest first; "/" is that path alone.
            Everywhere else it is :func:`problem`.
    """
    longest_first = sorted((forms or {}).items(), key=lambda item: -len(item[0]))

    def answer(path: str, refusal: Refusal) -> Response:
        for prefix, form in longest_first:
            if path == prefix or (prefix != "/" and path.startswith(f"{prefix.rstrip('/')}/")):
                return form(refusal)
        return problem(refusal)

    def handler(refusal_of: Callable[[Request, Any], Refusal]) -> _Handler:
        async def handle(request: Request, error: Exception) -> Response:
            return answer(request.url.path, refusal_of(request, error))

        return handle

    app.add_exception_handler(errors.SfumatoError, handler(lambda _, error: Refusal.of(error)))
    app.add_exception_handler(RequestValidationError, handler(_invalid_parameter))
    app.add_exception_handler(HTTPException, handler(_of_the_router))
    app.add_middleware(LastResort, stopping=stopping, answer=answer)


def _invalid_parameter(_request: Request, error: RequestValidationError) -> Refusal:
    """A path or query parameter that FastAPI refused; bodies are read by :mod:`sfumato.api.body`."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"][1:])) or str(first["loc"][0])
    expected = first.get("ctx", {}).get("expected")
    return Refusal(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        code=errors.InvalidRequest.code,
        detail=complaint(cast(ErrorDetails, first), name),
        field=name,
        accepted=str(expected) if expected is not None else None,
    )


def _of_the_router(request: Request, error: HTTPException) -> Refusal:
    """The router's own answers: no such path, wrong method."""
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.NOT_FOUND:
        return Refusal(status, code="no_such_path", detail="Nothing lives at this path; see /docs.")
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _methods(request)
        return Refusal(
            status,
            code="method_not_allowed",
            detail=f"{request.method} is not allowed here.",
            accepted=allowed,
            headers={"Allow": ", ".join(allowed)},
        )
    code = status.phrase.lower().replace(" ", "_")
    return Refusal(status, code=code, detail=str(error.detail), headers=error.headers or {})


def _methods(request: Request) -> list[str]:
    """Every method of the request's path; the router names those of the first route alone."""
    return sorted(
        method.upper()
        for template, operations in request.app.openapi()["paths"].items()
        if compile_path(template)[0].fullmatch(request.url.path)
        for method in operations
    )


class LastResort:
    """Turns a defect of ours into a plain 500: no internals to the caller, no prompt to the log.

    The log gets the error's class and its frames. Not its message: that may quote a request.
    A request that a stopping server gives up is no defect: its caller is told to ask again.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        stopping: asyncio.Event,
        answer: Callable[[str, Refusal], Response],
    ) -> None:
        self._app = app
        self._stopping = stopping
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        answer = partial(self._answer, scope["path"])

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            return  # it left before its body was read; there is nobody to answer
        except asyncio.CancelledError:
            if started or not self._stopping.is_set():
                raise
            given_up = Stopping(
                "The server stopped before this was done; whether it was is not known. Ask again, "
                "with the same Idempotency-Key where there was one."
            )
            await answer(Refusal.of(given_up))(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - the one place that must
            log.error(  # noqa: TRY400 - log.exception would write the message
                "%s %s failed with %s\n%s",
                scope["method"],
                scope["path"],
                type(error).__name__,
                "".join(traceback.format_tb(error.__traceback__)),
            )
            if started:
                # Half an answer must not pass for a whole one: let the server cut the connection.
                raise ConnectionAbortedError from None
            defect = Refusal(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                code=errors.SfumatoError.code,
                detail="A defect in the service; its log has the details. "
                "Jobs that were accepted are not lost.",
            )
            await answer(defect)(scope, receive, send)
