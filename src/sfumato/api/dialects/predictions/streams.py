"""What happens to a prediction as server-sent events, in Replicate's words and in Cog's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import orjson
from fastapi.responses import StreamingResponse

from sfumato.api import events
from sfumato.api.context import ApiContext
from sfumato.api.dialects.predictions.views import logs_of, progress_line
from sfumato.core.events import Event, EventKind
from sfumato.core.job import Job

#: Makes a finished job's prediction.
Show = Callable[[Job], Awaitable[dict[str, Any]]]
#: The `reason` with which Replicate's stream is done.
_REASONS = {EventKind.FAILED: "error", EventKind.CANCELED: "canceled"}
ANSWER: dict[str, Any] = {"content": {events.MEDIA_TYPE: {}}}


def answer(context: ApiContext, frames: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """The frames as they come; ends with them, or when the server is about to stop."""
    return StreamingResponse(
        events.relay(frames, stopping=context.stopping),
        media_type=events.MEDIA_TYPE,
        headers=events.HEADERS,
    )


async def replicate_frames(
    context: ApiContext, job: Job, show: Show, *, after: int = 0
) -> AsyncGenerator[bytes, None]:
    """``output``, ``logs``, ``error`` and ``done``, as Replicate's clients read them.

    A frame's id is the number of an event whose frames are all sent, so that a client that
    connects again with it may hear a picture twice, but never not at all.
    """
    async with aclosing(context.tracking.events(job.id, after=after)) as told:
        async for event in told:
            if event.kind is EventKind.STARTED:
                yield _frame("logs", logs_of(job).rstrip("\n"), id=event.number)
            elif event.kind is EventKind.STEP:
                yield _frame("logs", progress_line(event), id=event.number)
            elif event.kind.terminal:
                async for frame in _replicate_end(context, job, show, event):
                    yield frame


async def _replicate_end(
    context: ApiContext, job: Job, show: Show, event: Event
) -> AsyncGenerator[bytes, None]:
    prediction = await show(await context.tracking.get(job.id))
    for picture in prediction["output"] or ():
        yield _frame("output", picture, id=event.number - 1)
    if event.kind is EventKind.FAILED:
        yield _frame("error", prediction["error"] or "", id=event.number - 1)
    reason = _REASONS.get(event.kind)
    yield _frame("done", {} if reason is None else {"reason": reason}, id=event.number)


async def cog_frames(context: ApiContext, job: Job, show: Show) -> AsyncGenerator[bytes, None]:
    """``start``, ``log``, ``output`` and ``completed``, as Cog's server sends them."""
    async with aclosing(context.tracking.events(job.id)) as told:
        async for event in told:
            if event.kind is EventKind.STARTED:
                identity = (await show(job))["id"]
                yield _frame("start", {"id": identity, "status": "processing"})
                yield _frame("log", {"source": "stdout", "data": logs_of(job)})
            elif event.kind is EventKind.STEP:
                line = f"{progress_line(event)}\n"
                yield _frame("log", {"source": "stdout", "data": line})
            elif event.kind.terminal:
                prediction = await show(await context.tracking.get(job.id))
                for index, picture in enumerate(prediction["output"] or ()):
                    yield _frame("output", {"chunk": picture, "index": index})
                yield _frame("completed", prediction)


def _frame(kind: str, data: Any, *, id: int | None = None) -> bytes:  # noqa: A002 - its name on the wire
    """One event; text as it is, a line each, and anything else as JSON."""
    lines = data.splitlines() or [""] if isinstance(data, str) else [orjson.dumps(data).decode()]
    head = [] if id is None else [f"id: {id}"]
    return "\n".join(
        [*head, f"event: {kind}", *(f"data: {line}" for line in lines), "", ""]
    ).encode()
