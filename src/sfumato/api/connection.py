"""The caller's end of a request: where it thinks that we are, and whether it still waits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from sfumato.api.problems import Stopping

Result = TypeVar("Result")


class ClientGone(Exception):
    """The caller closed the connection; whatever is answered, nobody reads it."""


async def while_connected(
    request: Request, work: Coroutine[Any, Any, Result], *, stopping: asyncio.Event
) -> Result:
    """The result of ``work``, which is cancelled when nobody waits for it any more.

    The request's body must have been read: what comes after it is the disconnect.

    Raises:
        ClientGone: the connection was closed first.
        Stopping: the server is about to stop.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_disconnected(request))
    closing = asyncio.create_task(stopping.wait())
    tasks: set[asyncio.Future[Any]] = {working, leaving, closing}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if leaving.done():
            raise ClientGone
        raise Stopping("The server is about to stop; the job is kept. Ask for it again.")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def base_of(request: Request) -> str:
    """The address at which the caller reached the service, without a slash at its end."""
    return str(request.base_url).rstrip("/")


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
