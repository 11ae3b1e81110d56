"""A1111's errors: FastAPI's, with A1111's own fields beside."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from sfumato.api.problems import STATUSES, Refusal
from sfumato.core.errors import EngineFailure, InvalidRequest, SfumatoError
from sfumato.core.job import Job

#: Its clients log in with a user's name and a password: the password is the key.
_LOGIN = {"WWW-Authenticate": 'Basic realm="sfumato", charset="UTF-8"'}
_BY_CODE = {kind.code: kind for kind in STATUSES}


def form(refusal: Refusal) -> Response:
    """``detail`` is a text, or of a field at fault FastAPI's list; ``error`` is the stable code."""
    detail: Any = refusal.detail
    if refusal.status is HTTPStatus.UNPROCESSABLE_ENTITY:
        place = [] if refusal.field is None else refusal.field.split(".")
        described: dict[str, Any] = {
            "loc": ["body", *place],
            "msg": refusal.detail,
            "type": refusal.code,
        }
        if refusal.accepted is not None:
            described["ctx"] = {"accepted": refusal.accepted}
        detail = [described]
    body = {"error": refusal.code, "detail": detail, "body": "", "errors": refusal.detail}
    headers = dict(refusal.headers)
    if refusal.status is HTTPStatus.UNAUTHORIZED:
        headers |= _LOGIN
    return Response(orjson.dumps(body), int(refusal.status), headers, media_type="application/json")


@contextlib.contextmanager
def in_their_words(names: Mapping[str, str]) -> Iterator[None]:
    """Within it, what is wrong with a field of ours is told of the client's own.

    Args:
        names: what the client calls our fields.
    """
    try:
        yield
    except InvalidRequest as error:
        ours = error.field or ""
        theirs = names.get(ours)
        if theirs is None:
            raise
        # A field whose name is a plain word, as "model", is meant only where the sentence begins.
        plain = ours.isalpha() and not error.message.startswith(ours)
        message = error.message if plain else _replaced(error.message, ours, theirs)
        raise type(error)(message, field=theirs, accepted=error.accepted) from None


def _replaced(text: str, ours: str, theirs: str) -> str:
    return re.sub(rf"(?<![\w.]){re.escape(ours)}(?!\w)", lambda _: theirs, text)


def failure(job: Job) -> SfumatoError:
    """Why a job failed, as it would have been told at once."""
    assert job.error is not None  # noqa: S101 - a failed job has one
    return _BY_CODE.get(job.error.code, EngineFailure)(job.error.message)
