"""One subscription to the store's changes, shared by all who wait in this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from sfumato.core.errors import SfumatoError
from sfumato.core.ports import JobStore

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5


class JobWatcher:
    """Wakes the waiters of a job when it changes, whichever process changed it.

    ``async with`` it before anybody subscribes. A waiter subscribes, then reads the job, then
    waits: so it misses nothing. When the subscription itself breaks, every waiter is woken and
    reads again once it stands anew.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._any: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        standing = asyncio.Event()
        self._task = asyncio.create_task(self._follow(standing), name="job-watcher")
        await standing.wait()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @contextlib.contextmanager
    def subscribe(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set at each change of the job; the waiter clears it."""
        changed = asyncio.Event()
        self._waiters[job_id].add(changed)
        try:
            yield changed
        finally:
            waiters = self._waiters[job_id]
            waiters.discard(changed)
            if not waiters:
                del self._waiters[job_id]

    @contextlib.contextmanager
    def subscribe_all(self) -> Iterator[asyncio.Event]:
        """An event that is set at each change of any job."""
        changed = asyncio.Event()
        self._any.add(changed)
        try:
            yield changed
        finally:
            self._any.discard(changed)

    async def _follow(self, standing: asyncio.Event) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._store.changes()) as changes:
                    async for job_ids in changes:
                        standing.set()
                        self._wake(job_ids)
            except SfumatoError as error:
                log.warning("the subscription to job changes broke (%s); subscribing again", error)
            self._wake(frozenset(self._waiters))
            await asyncio.sleep(_RETRY_SECONDS)

    def _wake(self, job_ids: frozenset[str]) -> None:
        for changed in self._any:
            changed.set()
        for job_id in job_ids:
            for changed in self._waiters.get(job_id, ()):
                changed.set()
