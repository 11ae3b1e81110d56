"""A picture as it comes into being: OpenAI's events, made of the job's own.

``….partial_image`` are the engine's previews, at most as many as were asked for and no two within
the same part of the steps; then comes ``….completed``, or ``error``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from fastapi.responses import StreamingResponse

from sfumato.api import events
from sfumato.api.context import ApiContext
from sfumato.api.dialects.openai.answers import USAGE, encoded, headers, looks
from sfumato.api.dialects.openai.errors import described, no_pictures
from sfumato.api.problems import Refusal, Stopping
from sfumato.api.wanting import take_back
from sfumato.core.errors import SfumatoError
from sfumato.core.events import Event, EventKind
from sfumato.core.job import Job, JobStatus


def streamed(
    context: ApiContext, job: Job, *, kind: str, partial_images: int, quality: str
) -> StreamingResponse:
    """The answer to a caller that asked for a stream.

    Args:
        kind: what the events' names begin with: ``image_generation`` or ``image_edit``.
        quality: that was asked for.
    """
    told = ImageStream(context, job, kind=kind, partial_images=partial_images, quality=quality)
    return StreamingResponse(
        told.frames(), media_type=events.MEDIA_TYPE, headers={**events.HEADERS, **headers(job)}
    )


class ImageStream:
    """The events of one job. A caller that leaves before the last takes the job back."""

    def __init__(
        self, context: ApiContext, job: Job, *, kind: str, partial_images: int, quality: str
    ) -> None:
        self._context = context
        self._job = job
        self._kind = kind
        self._quality = quality
        self._partials = Partials(partial_images)
        self._told = False

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Encoded; ends with the last event, or with an error when the server is about to stop."""
        stopping = self._context.stopping
        async with aclosing(events.relay(self._until_told(), stopping=stopping)) as relayed:
            async for frame in relayed:
                yield frame
        if stopping.is_set() and not self._told:
            yield self._error(
                Refusal.of(Stopping("The server is about to stop; the job is kept. Ask again."))
            )

    async def _until_told(self) -> AsyncGenerator[bytes, None]:
        try:
            try:
                async with aclosing(self._context.tracking.events(self._job.id)) as happened:
                    async for event in happened:
                        if self._partials.wants(event):
                            yield self._partial(event)
                last = await self._last()
            except SfumatoError as error:  # the answer has begun: no status can say it any more
                last = self._error(Refusal.of(error))
            self._told = True
            yield last
        finally:
            if not self._told and not self._context.stopping.is_set():
                await take_back(self._context, self._job)

    def _partial(self, event: Event) -> bytes:
        """A preview, in the format that it really has."""
        kind, _, data = str(event.data["preview"]).partition(";base64,")
        shown = {"output_format": kind.removeprefix("data:image/"), "b64_json": data}
        index = self._partials.sent - 1
        return self._event("partial_image", event.at, **shown, partial_image_index=index)

    async def _last(self) -> bytes:
        job = await self._context.tracking.get(self._job.id)
        if job.status is not JobStatus.SUCCEEDED:
            return self._error(no_pictures(job))
        data = await encoded(self._context, job, 0)
        return self._event("completed", self._context.clock.now(), b64_json=data, usage=USAGE)

    def _event(self, name: str, at: float, **fields: Any) -> bytes:
        kind = f"{self._kind}.{name}"
        return _frame(
            kind, {"type": kind, "created_at": int(at), **looks(self._job, self._quality), **fields}
        )

    def _error(self, refusal: Refusal) -> bytes:
        return _frame("error", {"type": "error", "error": described(refusal)})


class Partials:
    """Chooses the previews that are told: at most one within each part of the steps.

    Args:
        most: how many; the steps are divided into one part more, the first of which has none.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._part = 0
        self.sent = 0

    def wants(self, event: Event) -> bool:
        """Whether this event's preview is to be told; it then counts as told."""
        if event.kind is not EventKind.STEP or "preview" not in event.data:
            return False
        part = event.data["step"] * (self._most + 1) // event.data["steps"]
        if part <= self._part or self.sent == self._most:
            return False
        self._part = part
        self.sent += 1
        return True


def _frame(kind: str, data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps(data))
