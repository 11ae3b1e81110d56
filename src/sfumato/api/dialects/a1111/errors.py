"""A1111's errors: FastAPI's, with A1111's own fields beside."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from sfumato.api.problems import Refusal

#: Its clients log in with a user's name and a password: the password is the key.
_LOGIN = {"WWW-Authenticate": 'Basic realm="sfumato", charset="UTF-8"'}


class FieldError(BaseModel):
    """A field that is at fault, as FastAPI tells it."""

    loc: list[str]
    msg: str
    type: str
    ctx: dict[str, Any] | None = None


class A1111Error(BaseModel):
    """What was wrong. Match on ``error``: it is stable."""

    error: str
    detail: str | list[FieldError]
    body: str
    errors: str


#: For a router's ``responses``.
RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": A1111Error} for code in ("4XX", "5XX")
}


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
