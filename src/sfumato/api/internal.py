"""Probes and metrics, on a port of their own: for the cluster, never for callers.

No framework: a worker has it too, and must start fast.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

_Message = MutableMapping[str, Any]
_App = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]],
    Awaitable[None],
]


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: its status, and its body with its media type."""

    status: int
    body: bytes
    media_type: str = "text/plain; charset=utf-8"

    @classmethod
    def of_text(cls, status: int, text: str) -> Page:
        return cls(status, f"{text}\n".encode())


#: Pages by their path. Each is called with the ``Accept`` header and answers at once, on a thread
#: that is neither the event loop's nor the engine's.
Pages = Mapping[str, Callable[[str], Page]]

_NOT_FOUND = Page.of_text(404, "There is no such page.")
_NOT_ALLOWED = Page.of_text(405, "Only GET and HEAD are answered here.")
_BROKEN = Page.of_text(500, "This page is broken; the log says how.")


def create_internal_app(pages: Pages) -> _App:
    """An ASGI application that answers ``GET`` and ``HEAD`` of these pages."""

    async def answer(
        scope: _Message,
        _receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        page = _page(pages, scope)
        headers = [
            (b"content-type", page.media_type.encode()),
            (b"content-length", str(len(page.body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else page.body
        await send({"type": "http.response.body", "body": body})

    return answer


def _page(pages: Pages, scope: _Message) -> Page:
    make = pages.get(scope["path"])
    if make is None:
        return _NOT_FOUND
    if scope["method"] not in ("GET", "HEAD"):
        return _NOT_ALLOWED
    accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    try:
        return make(accept.decode("latin-1"))
    except Exception:
        log.exception("the page %s is broken", scope["path"])
        return _BROKEN
