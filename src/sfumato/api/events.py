"""Server-sent events: a job's numbered events as an EventSource reads them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

import orjson

from sfumato.core.errors import SfumatoError
from sfumato.core.events import Event

log = logging.getLogger(__name__)

#: Proxies close a connection that is silent for long; most wait 30 or 60 seconds.
KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = b": keep-alive\n\n"
#: How long a browser waits before it connects again, in milliseconds.
PREAMBLE = b"retry: 1000\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
MEDIA_TYPE = "text/event-stream"


def encode(event: Event) -> bytes:
    """One event: its number as ``id``, its kind as ``event``, its data and ``at`` as JSON."""
    at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds")
    data = orjson.dumps({"at": at, **event.data})
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.number, event.kind.value.encode(), data)


def stream(
    events: AsyncGenerator[Event, None],
    *,
    stopping: asyncio.Event,
    keep_alive: float = KEEP_ALIVE_SECONDS,
) -> AsyncGenerator[bytes, None]:
    """The events encoded; ends and closes them as :func:`relay` does."""
    return relay(_encoded(events), stopping=stopping, keep_alive=keep_alive)


async def relay(
    frames: AsyncGenerator[bytes, None],
    *,
    stopping: asyncio.Event,
    keep_alive: float = KEEP_ALIVE_SECONDS,
) -> AsyncGenerator[bytes, None]:
    """The frames as they come, with a comment after every ``keep_alive`` seconds of silence.

    Ends with the frames, or when the server is about to stop; closes ``frames`` however it ends,
    from a task of their own, so that they may wait while they clean up.
    """
    ready: asyncio.Queue[bytes | None] = asyncio.Queue()
    # Tasks of their own, because they clean up after a disconnect: a server may cancel this
    # generator at every await, those in a ``finally`` too.
    pump = asyncio.create_task(_pump(frames, ready))
    closing = asyncio.create_task(_close(stopping, ready))
    try:
        while True:
            try:
                async with asyncio.timeout(keep_alive):
                    frame = await ready.get()
            except TimeoutError:
                frame = KEEP_ALIVE
            if frame is None:
                return
            yield frame
    finally:
        pump.cancel()
        closing.cancel()


async def _encoded(events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        yield PREAMBLE
        async for event in events:
            yield encode(event)


async def _pump(frames: AsyncGenerator[bytes, None], ready: asyncio.Queue[bytes | None]) -> None:
    try:
        async with aclosing(frames):
            async for frame in frames:
                ready.put_nowait(frame)
    except SfumatoError as error:
        # The watcher connects again and goes on after the last number it saw.
        log.warning("a stream of events broke off: %s", error)
    finally:
        ready.put_nowait(None)


async def _close(stopping: asyncio.Event, ready: asyncio.Queue[bytes | None]) -> None:
    await stopping.wait()
    ready.put_nowait(None)
