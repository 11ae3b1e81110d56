"""Changes of a database that can't tell of them: looked for, often."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import bindparam, func, select

from sfumato.adapters.sql.schema import events
from sfumato.core.events import EventKind
from sfumato.core.ports import Change

if TYPE_CHECKING:
    from sfumato.adapters.sql.database import Database

_LATEST = select(func.coalesce(func.max(events.c.seq), 0))
_NEWER = select(events.c.seq, events.c.job_id, events.c.kind).where(
    events.c.seq > bindparam("seen")
)

#: Seconds between two looks at the change counter while somebody waits.
_INTERVAL = 0.01
#: Changes come in company: the end of a job follows its last step, the next job its caller's
#: answer. So for a moment after each change the looks come closer.
_CLOSE_INTERVAL, _CLOSE_SECONDS = 0.005, 0.02


class Counter(Protocol):
    """Tells, at little cost, that something was committed."""

    def read(self) -> int: ...

    def close(self) -> None: ...


class PolledSignals:
    """The ``Signals`` of a database with one writer at a time. It watches the change counter, while
    somebody waits and no longer.

    A commit of this process is told at once through :meth:`committed`; another's is seen at the
    next look.
    """

    def __init__(self, database: Database, counter: Counter) -> None:
        self._database = database
        self._counter = counter
        self._waiters: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._seen: int | None = None
        self._changed_at = 0.0

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        self._waiters.add(changed)
        if self._task is None or self._task.done():
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._watch(), name="sql-wakeups")
        try:
            yield changed
        finally:
            self._waiters.discard(changed)
            if not self._waiters and self._task is not None:
                self._task.cancel()
                self._task = None

    async def changes(self) -> AsyncGenerator[frozenset[Change], None]:
        # With one writer, events are numbered in the order in which they are committed.
        with self.subscribe() as changed:
            seen = await self._database.read(lambda c: int(c.scalar(_LATEST) or 0))
            yield frozenset()
            while True:
                await changed.wait()
                changed.clear()
                values = {"seen": seen}
                rows = await self._database.read(lambda c, v=values: c.execute(_NEWER, v).all())  # type: ignore[misc]
                if rows:
                    seen = max(row.seq for row in rows)
                    yield frozenset(Change(row.job_id, EventKind(row.kind)) for row in rows)

    def committed(self) -> None:
        loop = self._loop
        if loop is not None and self._waiters:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._look)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._counter.close()

    def _look(self) -> None:
        """Wake everybody, if anything was committed since the last look: once for each commit,
        though a commit of ours is both told and seen."""
        # A counter that can't be read (the file is being replaced, say) means: look yourself.
        version = None
        with contextlib.suppress(sqlite3.OperationalError):
            version = self._counter.read()
        if version is None or version != self._seen:
            self._seen = version
            self._changed_at = time.monotonic()
            for changed in self._waiters:
                changed.set()

    async def _watch(self) -> None:
        while True:
            self._look()
            close = time.monotonic() - self._changed_at < _CLOSE_SECONDS
            await asyncio.sleep(_CLOSE_INTERVAL if close else _INTERVAL)
