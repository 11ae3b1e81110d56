"""Errors as these APIs have them: plain text of their Lambda's, JSON of the gateway before it."""

from __future__ import annotations

from http import HTTPStatus

import orjson
from starlette.responses import PlainTextResponse, Response

from sfumato.api.problems import BodyTooLarge, InvalidJson, Refusal

_STRUCTURE = "Incorrect payload structure"


def form(refusal: Refusal) -> Response:
    """An error. There is no 422: what is wrong with a payload is a 400, in words."""
    status, detail = refusal.status, refusal.detail
    if refusal.code == InvalidJson.code:
        text = f"Invalid request format: {detail}"
    elif refusal.code == BodyTooLarge.code:
        text = f"{_STRUCTURE}, payload too large: {detail}"
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        text = "Unsupported HTTP method"
    elif status is HTTPStatus.UNPROCESSABLE_ENTITY:
        status, text = HTTPStatus.BAD_REQUEST, f"{_STRUCTURE}, {detail}{_accepted(refusal)}"
    else:
        body = orjson.dumps({"message": detail})
        return Response(body, int(status), refusal.headers, media_type="application/json")
    return PlainTextResponse(text, int(status), refusal.headers)


def _accepted(refusal: Refusal) -> str:
    """What would have been right; an answer of text has no other place for it."""
    if refusal.accepted is None:
        return ""
    choices = refusal.accepted
    return f" (accepted: {choices if isinstance(choices, str) else ', '.join(choices)})"
