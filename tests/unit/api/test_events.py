"""Server-sent events: the encoding, and a stream that cleans up after itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable

from sfumato.api.events import KEEP_ALIVE, PREAMBLE, encode, stream
from sfumato.core.errors import StoreBusy
from sfumato.core.events import Event, EventKind

STEP = Event("job", 4, EventKind.STEP, 0.25, {"step": 1, "steps": 2})
END = Event("job", 5, EventKind.SUCCEEDED, 0.5, {"images": 1})


class Source:
    """A generator of events that tells when it was closed."""

    def __init__(self, events: Iterable[Event], *, then: Exception | None = None) -> None:
        self.closed = asyncio.Event()
        self._events = events
        self._then = then

    async def told(self, *, forever: bool = False) -> AsyncGenerator[Event, None]:
        try:
            for event in self._events:
                yield event
            if self._then is not None:
                raise self._then
            if forever:
                await asyncio.Event().wait()
        finally:
            self.closed.set()


def test_an_event_is_a_number_a_kind_and_json_on_one_line() -> None:
    event = Event("job", 3, EventKind.FAILED, 0.0, {"message": "two\nlines\r\n\u2028"})
    assert encode(event) == (
        b"id: 3\nevent: failed\ndata: "
        b'{"at":"1970-01-01T00:00:00.000+00:00","message":"two\\nlines\\r\\n\xe2\x80\xa8"}\n\n'
    )


async def test_the_stream_ends_with_the_events() -> None:
    source = Source([STEP, END])
    frames = [frame async for frame in stream(source.told(), stopping=asyncio.Event())]
    assert frames == [PREAMBLE, encode(STEP), encode(END)]
    assert source.closed.is_set()


async def test_silence_is_filled_with_comments() -> None:
    source = Source([STEP])
    frames = stream(source.told(forever=True), stopping=asyncio.Event(), keep_alive=0.001)
    assert [await anext(frames) for _ in range(4)] == [PREAMBLE, encode(STEP)] + [KEEP_ALIVE] * 2
    await frames.aclose()
    await source.closed.wait()


async def test_a_server_that_stops_ends_its_streams() -> None:
    source, stopping = Source([STEP]), asyncio.Event()
    frames = stream(source.told(forever=True), stopping=stopping)
    assert [await anext(frames), await anext(frames)] == [PREAMBLE, encode(STEP)]
    stopping.set()
    assert [frame async for frame in frames] == []
    await source.closed.wait()


async def test_a_store_that_fails_ends_the_stream_and_the_watcher_comes_again() -> None:
    source = Source([STEP], then=StoreBusy("locked"))
    frames = [frame async for frame in stream(source.told(), stopping=asyncio.Event())]
    assert frames == [PREAMBLE, encode(STEP)]


async def test_a_watcher_that_is_cancelled_leaves_nothing_behind() -> None:
    source = Source([STEP])
    watched = asyncio.Event()

    async def watch() -> None:
        async for frame in stream(source.told(forever=True), stopping=asyncio.Event()):
            if frame == encode(STEP):
                watched.set()

    watching = asyncio.create_task(watch())
    await watched.wait()
    before = asyncio.all_tasks() - {watching}
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await source.closed.wait()
    await asyncio.gather(*(before - {asyncio.current_task()}), return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}
