"""Changes as PostgreSQL tells them: NOTIFY from triggers, LISTEN here.

A notification comes after its commit, in the order of commits, so nothing is missed and no polling
is needed; sequence numbers would not do, since a lower one may be committed after a higher.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from sfumato.core.errors import Unavailable
from sfumato.core.events import EventKind
from sfumato.core.ports import Change

log = logging.getLogger(__name__)

#: Channels of the database.
EVENTS, RINGS = "sfumato_events", "sfumato_rings"

_RETRY_SECONDS = 0.25


@dataclass(slots=True, eq=False)
class _Follower:
    """Somebody who wants every change: those that came since he last looked."""

    news: asyncio.Event = field(default_factory=asyncio.Event)
    changes: set[Change] = field(default_factory=set)
    broken: bool = False


class ListenedSignals:
    """The ``Signals`` of PostgreSQL, over one connection of its own, made when first wanted.

    Args:
        connecting: libpq's parameters.
    """

    def __init__(self, connecting: Mapping[str, Any]) -> None:
        self._connecting = dict(connecting)
        self._waiters: set[asyncio.Event] = set()
        self._followers: set[_Follower] = set()
        self._standing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[asyncio.Event]:
        self._begin()
        changed = asyncio.Event()
        self._waiters.add(changed)
        try:
            yield changed
        finally:
            self._waiters.discard(changed)

    async def changes(self) -> AsyncGenerator[frozenset[Change], None]:
        self._begin()
        await self._standing.wait()
        follower = _Follower()
        self._followers.add(follower)
        try:
            yield frozenset()
            while True:
                await follower.news.wait()
                follower.news.clear()
                if follower.broken:
                    raise Unavailable("The connection that tells of changes was lost.")
                found = frozenset(follower.changes)
                follower.changes.clear()
                yield found
        finally:
            self._followers.discard(follower)

    def committed(self) -> None:
        """The server tells it, to this process as to the others."""

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_listening(), name="sql-listen")

    async def _keep_listening(self) -> None:
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError) as error:
                log.warning("no word of changes from the database: %s", _first_line(error))
            finally:
                self._break()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(**self._connecting, autocommit=True)
        async with connection:
            for channel in (EVENTS, RINGS):
                await connection.execute(f"LISTEN {channel}".encode())
            self._standing.set()
            self._wake()  # what came before was not heard
            async for notification in connection.notifies():
                self._hear(notification.channel, notification.payload)

    def _hear(self, channel: str, payload: str) -> None:
        if channel == RINGS:
            self._wake()
            return
        job_id, _, kind = payload.partition(" ")
        change = Change(job_id, EventKind(kind))
        for follower in self._followers:
            follower.changes.add(change)
            follower.news.set()

    def _break(self) -> None:
        self._standing.clear()
        for follower in self._followers:
            follower.broken = True
            follower.news.set()
        self._wake()

    def _wake(self) -> None:
        for changed in self._waiters:
            changed.set()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
