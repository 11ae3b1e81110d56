"""Errors as OpenAI's clients read them: ``{"error": {"message", "type", "param", "code"}}``.

The clients choose their exception by the status, retry 408, 409, 429 and every 5xx unless
``x-should-retry`` says otherwise, and wait for as long as ``Retry-After`` says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel, Field

from sfumato.api.problems import Refusal, problem
from sfumato.api.wanting import failure
from sfumato.core.errors import (
    ContentBlocked,
    NotFound,
    Overloaded,
    QuotaExceeded,
    Unauthorized,
    UnknownModel,
)
from sfumato.core.job import Job, JobStatus

#: Our stable code -> OpenAI's, where it has one that clients match on; other codes stay.
_CODES: Mapping[str, str] = {
    UnknownModel.code: "model_not_found",
    Unauthorized.code: "invalid_api_key",
    Overloaded.code: "rate_limit_exceeded",
    QuotaExceeded.code: "rate_limit_exceeded",
    ContentBlocked.code: "content_policy_violation",
}
#: Of one message; what would be right may be a list of every model.
_MAX_MESSAGE = 1500


class ErrorBody(BaseModel):
    """What was wrong."""

    message: str = Field(examples=["There is no model 'dall-e-3'. Accepted: starter."])
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(examples=["model"])
    code: str | None = Field(examples=["model_not_found"])


class ErrorAnswer(BaseModel):
    """OpenAI's envelope."""

    error: ErrorBody


def form(refusal: Refusal) -> Response:
    """An error of ``/v1/images/``. OpenAI has no 422; an unknown model is its 404."""
    return Response(
        orjson.dumps({"error": described(refusal)}),
        int(_status(refusal)),
        refusal.headers,
        media_type="application/json",
    )


def model_form(refusal: Refusal) -> Response:
    """An error of ``/v1/models``, which the native API and OpenAI share: the native problem, and
    OpenAI's ``error`` beside it, as RFC 9457 lets a problem carry more members."""
    answer = problem(refusal)
    error = described(refusal)
    if refusal.code == NotFound.code:
        error |= {"param": "model", "code": "model_not_found"}
    body = {**orjson.loads(answer.body), "error": error}
    return Response(
        orjson.dumps(body), answer.status_code, refusal.headers, media_type=answer.media_type
    )


def described(refusal: Refusal) -> dict[str, Any]:
    """The members of ``error``."""
    message = refusal.sentence
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + " …"
    return {
        "message": message,
        "type": _type(_status(refusal)),
        "param": refusal.field,
        "code": _CODES.get(refusal.code, refusal.code),
    }


def no_pictures(job: Job) -> Refusal:
    """Why there is no picture of a job that has finished.

    The service has tried it as often as that may help: no client need try it again by itself.
    """
    headers = {"X-Sfumato-Job": job.id, "x-request-id": job.id, "x-should-retry": "false"}
    if job.status is JobStatus.CANCELED:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        return Refusal(status, "canceled", f"Job {job.id} was canceled.", headers=headers)
    return dataclasses.replace(Refusal.of(failure(job)), headers=headers)


def _status(refusal: Refusal) -> HTTPStatus:
    if (refusal.code, refusal.field) == (UnknownModel.code, "model"):
        return HTTPStatus.NOT_FOUND
    unprocessable = refusal.status is HTTPStatus.UNPROCESSABLE_ENTITY
    return HTTPStatus.BAD_REQUEST if unprocessable else refusal.status


def _type(status: HTTPStatus) -> str:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "server_error"
    return "requests" if status is HTTPStatus.TOO_MANY_REQUESTS else "invalid_request_error"
