"""Reading jobs, waiting for them, taking them back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from sfumato.core.errors import JobFinished, NotFound
from sfumato.core.events import Event
from sfumato.core.job import Attempt, Job, JobStatus
from sfumato.core.ports import (
    COUNTED_AHEAD,
    Clock,
    ImageStore,
    JobPage,
    JobQueue,
    JobStore,
    StoredObject,
)
from sfumato.services.doorbell import ring
from sfumato.services.watching import JobWatcher


class Tracking:
    """Hop 8 of a request's life: whoever watches sees the numbered events.

    Args:
        why_waiting: tells, for a runtime, why the job at the head of its queue is not running.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        queue: JobQueue,
        images: ImageStore,
        watcher: JobWatcher,
        clock: Clock,
        why_waiting: Callable[[str], str | None] = lambda _runtime: None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._images = images
        self._watcher = watcher
        self._clock = clock
        self._why_waiting = why_waiting

    async def get(self, job_id: str) -> Job:
        """Raises ``NotFound``."""
        return await self._store.get(job_id)

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        return await self._store.attempts(job_id)

    async def list(
        self, *, status: JobStatus | None = None, limit: int = 50, cursor: str | None = None
    ) -> JobPage:
        """Newest first."""
        return await self._store.list(status=status, limit=limit, cursor=cursor)

    async def wait(self, job_id: str, *, timeout: float) -> Job:
        """The job once it has finished, or as it is after ``timeout`` seconds.

        Raises ``NotFound``.
        """
        with self._watcher.subscribe(job_id) as changed:
            job = await self._store.get(job_id)
            try:
                async with asyncio.timeout(timeout):
                    while not job.status.finished:
                        await changed.wait()
                        changed.clear()
                        job = await self._store.get(job_id)
            except TimeoutError:
                return await self._store.get(job_id)
            return job

    async def events(self, job_id: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """Every event with a number above ``after``, as it happens; ends when the job has finished
        and its last event is told.

        Raises ``NotFound``, before the first event.
        """
        with self._watcher.subscribe(job_id, progress=True) as changed:
            while True:
                changed.clear()
                # The status is read first: when it is final, every event is there to be read.
                finished = (await self._store.get(job_id)).status.finished
                events = await self._store.events(job_id, after=after)
                for event in events:
                    yield event
                    after = event.number
                if finished and not events:
                    return
                if not events:
                    await changed.wait()

    async def waiting_reason(self, job: Job) -> str | None:
        """Why a queued job does not run yet; None for every other status."""
        if job.status is not JobStatus.QUEUED:
            return None
        ahead = await self._store.queued_ahead(job)
        if ahead:
            more = " or more" if ahead == COUNTED_AHEAD else ""
            return f"queued behind {ahead}{more}"
        return self._why_waiting(job.runtime) or "waiting for a worker to answer"

    async def image(self, job_id: str, index: int) -> StoredObject:
        """A stored picture, by its index in the job.

        Raises ``NotFound``, with the reason: no such job, not ready yet, or no such index.
        """
        return await self._images.get(await self._key_of(job_id, index))

    async def image_url(self, job_id: str, index: int, *, expires: float) -> str | None:
        """Where anybody can read a picture for ``expires`` seconds; None where only we can.

        Raises ``NotFound``, as :meth:`image` does.
        """
        return await self._images.download_url(await self._key_of(job_id, index), expires=expires)

    async def _key_of(self, job_id: str, index: int) -> str:
        job = await self._store.get(job_id)
        for image in job.images:
            if image.index == index:
                return image.key
        if job.status.finished:
            raise NotFound(f"Job {job_id} has {len(job.images)} image(s); there is no {index}.")
        raise NotFound(f"Job {job_id} is {job.status}; its images are there once it succeeded.")

    async def cancel(self, job_id: str) -> Job:
        """Take a job back: at once while it is queued, within one step while it runs.

        Canceling a canceled job again is harmless.

        Raises:
            NotFound: no such job.
            JobFinished: it has succeeded or failed already.
        """
        job = await self._store.cancel(job_id, now=self._clock.now())
        if job.status in (JobStatus.SUCCEEDED, JobStatus.FAILED):
            raise JobFinished(f"Job {job_id} has {job.status} already; there is nothing to cancel.")
        return job

    async def redrive(self, job_id: str) -> Job:
        """Queue a failed job again.

        Raises ``NotFound``, or ``JobFinished`` when it did not fail.
        """
        job = await self._store.redrive(job_id, now=self._clock.now())
        if job is None:
            status = (await self._store.get(job_id)).status
            raise JobFinished(f"Job {job_id} is {status}; only a failed job can be redriven.")
        await ring(job, store=self._store, queue=self._queue)
        return job
