"""Wakes those who wait for a change, whichever process made it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Iterator

from sfumato.adapters.sql.dialects import ChangeCounter

#: Seconds between two looks at the change counter while somebody waits.
_INTERVAL = 0.01
#: Changes come in company: the end of a job follows its last step, the next job its caller's
#: answer. So for a moment after each change the looks come closer.
_CLOSE_INTERVAL, _CLOSE_SECONDS = 0.002, 0.03


class Wakeups:
    """Watches the change counter, while somebody waits and no longer.

    A commit of this process is told at once through :meth:`notify`; another's is seen at the
    next look.
    """

    def __init__(self, counter: ChangeCounter) -> None:
        self._counter = counter
        self._waiters: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._seen: int | None = None
        self._changed_at = 0.0

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[asyncio.Event]:
        """An event that is set after each change; the waiter clears it, then looks, then waits."""
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

    def notify(self) -> None:
        """Say that this process has committed; called from the writer's thread."""
        loop = self._loop
        if loop is not None and self._waiters:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._look)

    def close(self) -> None:
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
