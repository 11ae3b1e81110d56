"""Errors as KServe's clients read them: ``{"error": "<text>"}``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from sfumato.api.problems import Refusal
from sfumato.core.errors import SfumatoError


class KServeError(BaseModel):
    """What was wrong, and what would be right."""

    error: str


#: For a router's ``responses``.
RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": KServeError} for code in ("4XX", "5XX")
}


def form(refusal: Refusal) -> Response:
    """One text has it all: the protocol knows no other member."""
    return Response(
        orjson.dumps({"error": refusal.sentence}),
        int(refusal.status),
        refusal.headers,
        media_type="application/json",
    )


class ErrorsOfKServe(APIRoute):
    """A route whose errors have :func:`form`, whatever its path begins with."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await answer(request)
            except SfumatoError as error:
                return form(Refusal.of(error))

        return handle
