"""One subscription to the store's changes, shared by all who wait in this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

from sfumato.core.errors import SfumatoError
from sfumato.core.ports import Change, JobStore

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
#: In place of a job's id: every job.
_ANY = ""


class JobWatcher:
    """Wakes the waiters of a job when it changes, whichever process changed it.

    ``async with`` it before anybody subscribes. A waiter subscribes, then reads the job, then
    waits: so it misses nothing. When the subscription itself breaks, every waiter is woken and
    reads again once it stands anew.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._all: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._states: dict[str, set[asyncio.Event]] = defaultdict(set)
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
    def subscribe(self, job_id: str, *, progress: bool = False) -> Iterator[asyncio.Event]:
        """An event that is set when the job changes; the waiter clears it.

        Args:
            progress: whether it is also set when an attempt only got further.
        """
        with self._enrolled(self._all if progress else self._states, job_id) as changed:
            yield changed

    @contextlib.contextmanager
    def subscribe_all(self, *, progress: bool = False) -> Iterator[asyncio.Event]:
        """An event that is set when any job changes.

        Args:
            progress: whether it is also set when an attempt only got further.
        """
        with self._enrolled(self._all if progress else self._states, _ANY) as changed:
            yield changed

    def wake_all(self) -> None:
        """For what is no change of a job's own, as a webhook that is to be told again."""
        self._set(self._all, _ANY)

    @contextlib.contextmanager
    def _enrolled(
        self, waiters: dict[str, set[asyncio.Event]], job_id: str
    ) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        waiters[job_id].add(changed)
        try:
            yield changed
        finally:
            waiters[job_id].discard(changed)
            if not waiters[job_id]:
                del waiters[job_id]

    async def _follow(self, standing: asyncio.Event) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._store.changes()) as changes:
                    async for items in changes:
                        if not items:  # it stands; what came before was not heard
                            standing.set()
                            self._wake_everybody()
                        self._wake(items)
            except SfumatoError as error:
                log.warning("the subscription to job changes broke (%s); subscribing again", error)
            await asyncio.sleep(_RETRY_SECONDS)

    def _wake(self, changes: frozenset[Change]) -> None:
        for change in changes:
            self._set(self._all, change.job_id)
            self._set(self._all, _ANY)
            if not change.kind.progress:
                self._set(self._states, change.job_id)
                self._set(self._states, _ANY)

    def _wake_everybody(self) -> None:
        for waiters in (self._all, self._states):
            for job_id in waiters:
                self._set(waiters, job_id)

    @staticmethod
    def _set(waiters: Mapping[str, set[asyncio.Event]], job_id: str) -> None:
        for changed in waiters.get(job_id, ()):
            changed.set()
