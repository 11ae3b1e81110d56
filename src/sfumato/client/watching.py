"""Following a job's events over connections that may break: what to ask, what came, when to stop.

Server-sent events as the service writes them: the event's number is the ``id``, so a new connection
asks for what came after the last one read.
"""

from __future__ import annotations

import json
import re
import time
from datetime import datetime

import httpx

from sfumato.client import calls, errors, problems, wire
from sfumato.core.events import Event, EventKind

#: The service writes a comment every 15 seconds; a stream that is silent for longer is dead.
_SILENCE_SECONDS = 45.0


class Watch:
    """The state of one watcher, for as many connections as it takes.

    Args:
        after: only events above this number.
        timeout: seconds for the whole watch; None: as long as it takes.
        retries: how many connections in a row may bring nothing.
    """

    def __init__(self, job_id: str, *, after: int, timeout: float | None, retries: int) -> None:
        self.path = calls.events_path(job_id)
        self.ended = False
        self._job_id = job_id
        self._last = after
        self._seconds = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._retries = retries
        self._failures = 0
        self._terminal = False
        self._decoder = EventDecoder(job_id)

    def headers(self) -> dict[str, str]:
        self._decoder = EventDecoder(self._job_id)
        return {"Accept": "text/event-stream", "Last-Event-ID": str(self._last)}

    def read_timeout(self) -> float:
        """Seconds for the next piece of the stream. Raises ``WaitTimeout`` when none are left."""
        if self._deadline is None or self._seconds is None:
            return _SILENCE_SECONDS
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise errors.WaitTimeout(self._job_id, self._seconds)
        return min(_SILENCE_SECONDS, left)

    def opened(self, response: httpx.Response) -> bool:
        """Whether a stream follows. An answer that failed must have been read whole before."""
        if response.status_code == 204:  # the job has finished and every event was told
            self.ended = True
            return False
        if not response.is_success:
            self._fail(problems.error_of(response))
            return False
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise problems.no_service_of_ours(response, "not a stream of events")
        return True

    def feed(self, piece: bytes) -> list[Event]:
        """The events that a piece of the stream completes. Raises ``WaitTimeout``."""
        events = [event for event in self._decoder.feed(piece) if event.number > self._last]
        if events:
            self._last = events[-1].number
            self._terminal = events[-1].kind.terminal
            self._failures = 0
        if not self._terminal:
            self.read_timeout()
        return events

    def closed(self) -> None:
        """The service closed the stream: the job has finished, or the service stops."""
        self.ended = self._terminal
        if not self.ended:
            message = f"The service closed the stream of job {self._job_id} before the job's end."
            self._fail(errors.Unreachable(message, code="unreachable"))

    def broke(self, error: httpx.RequestError) -> None:
        """Raises ``WaitTimeout``, or ``Unreachable`` after too many failures in a row."""
        self.read_timeout()
        self._fail(problems.error_of(error))

    def pause(self) -> float:
        """Seconds before the next connection."""
        return min(wire.retry_delay(max(1, self._failures)), self.read_timeout())

    def _fail(self, error: errors.ClientError) -> None:
        self._failures += 1
        passing = isinstance(error, errors.Unreachable | errors.Overloaded)
        if not passing or self._failures > self._retries:
            raise error


class EventDecoder:
    """Bytes in, events out; a piece may end anywhere. Kinds that this version does not know are
    left out."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._rest = b""

    def feed(self, piece: bytes) -> list[Event]:
        *blocks, self._rest = re.split(rb"\r?\n\r?\n", self._rest + piece)
        return [event for block in blocks if (event := self._event(block)) is not None]

    def _event(self, block: bytes) -> Event | None:
        fields = {}
        for line in block.decode().split("\n"):
            name, _, value = line.rstrip("\r").partition(":")
            fields[name] = value.removeprefix(" ")
        if "data" not in fields or fields.get("event") not in set(EventKind):
            return None
        data = json.loads(fields["data"])
        return Event(
            job_id=self._job_id,
            number=int(fields["id"]),
            kind=EventKind(fields["event"]),
            at=datetime.fromisoformat(data.pop("at")).timestamp(),
            data=data,
        )
