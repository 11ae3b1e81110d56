"""Reading jobs, waiting for them, taking them back."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Self

from sfumato.core.errors import JobFinished, NotFound
from sfumato.core.events import Event
from sfumato.core.inputs import input_key
from sfumato.core.job import Attempt, Job, JobStatus
from sfumato.core.keys import TRUSTED, Caller, Scope
from sfumato.core.ports import (
    COUNTED_AHEAD,
    NO_MEASURES,
    Clock,
    ImageStore,
    JobPage,
    JobQueue,
    JobStore,
    Measures,
    StoredObject,
    WebhookStore,
)
from sfumato.core.webhooks import Telling, WebhookDelivery, WebhookState
from sfumato.services.doorbell import ring
from sfumato.services.inputs import input_of
from sfumato.services.waiting import WaitingReasons
from sfumato.services.watching import JobWatcher
from sfumato.services.webhooks import WebhookSecrets


class Tracking:
    """Hop 8 of a request's life: whoever watches sees the numbered events.

    Args:
        waiting: tells, for a runtime, why the job at the head of its queue is not running.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        queue: JobQueue,
        images: ImageStore,
        watcher: JobWatcher,
        clock: Clock,
        hooks: WebhookStore,
        waiting: WaitingReasons | None = None,
        measures: Measures = NO_MEASURES,
    ) -> None:
        self._store = store
        self._queue = queue
        self._images = images
        self._watcher = watcher
        self._clock = clock
        self._hooks = hooks
        self._secrets = WebhookSecrets(hooks)
        self._waiting = waiting or WaitingReasons(lambda _runtime: None)
        self._measures = measures
        self._caller = TRUSTED

    def for_caller(self, caller: Caller) -> Self:
        """The same for one caller, for whom others' jobs do not exist."""
        his = copy.copy(self)
        his._caller = caller  # noqa: SLF001 - its own
        return his

    async def get(self, job_id: str) -> Job:
        """Raises ``NotFound``, also for a job that the caller may not see."""
        job = await self._store.get(job_id)
        if not self._caller.may_see(job.owner):
            raise NotFound(f"There is no job {job_id!r}.")
        return job

    async def find_by_key(self, idempotency_key: str) -> Job | None:
        """The job that the caller made with that key; None where there is none."""
        job = await self._store.find_by_key(self._caller.scoped(idempotency_key))
        return job if job is not None and self._caller.may_see(job.owner) else None

    async def happened(self, job_id: str, *, after: int = 0) -> Sequence[Event]:
        """Up to a thousand events with a number above ``after``, without waiting for more.

        Raises ``NotFound``.
        """
        await self.get(job_id)
        return await self._store.events(job_id, after=after)

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        """Raises ``NotFound``."""
        await self.get(job_id)
        return await self._store.attempts(job_id)

    async def list(
        self, *, status: JobStatus | None = None, limit: int = 50, cursor: str | None = None
    ) -> JobPage:
        """Newest first: everybody's, or the caller's own, as his key allows.

        Raises ``Forbidden``.
        """
        owner = None
        if not self._caller.may(Scope.READ_ALL):
            self._caller.check(Scope.READ_OWN)
            owner = self._caller.id
        return await self._store.list(status=status, owner=owner, limit=limit, cursor=cursor)

    async def wait(self, job_id: str, *, timeout: float) -> Job:
        """The job once it has finished, or as it is after ``timeout`` seconds.

        Raises ``NotFound``.
        """
        with self._watcher.subscribe(job_id) as changed:
            job = await self.get(job_id)
            try:
                async with asyncio.timeout(timeout):
                    while not job.status.finished:
                        await changed.wait()
                        changed.clear()
                        job = await self.get(job_id)
            except TimeoutError:
                return await self.get(job_id)
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
                finished = (await self.get(job_id)).status.finished
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
        if not ahead:
            reason = await self._waiting.of(job.runtime)
            return reason or "waiting for a worker to answer"
        more = " or more" if ahead == COUNTED_AHEAD else ""
        behind = f"queued behind {ahead}{more}"
        reason = await self._waiting.in_cluster(job.runtime)
        return behind if reason is None else f"{behind}; {reason}"

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

    async def input(self, job_id: str, sha256: str) -> StoredObject:
        """A picture that a job brought along. Raises ``NotFound``."""
        image = input_of(await self.get(job_id), sha256)
        stored = await self._images.get(input_key(job_id, image.sha256))
        return StoredObject(stored.data, image.media_type)

    async def _key_of(self, job_id: str, index: int) -> str:
        job = await self.get(job_id)
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
            Forbidden: the caller may only look at it.
            JobFinished: it has succeeded or failed already.
        """
        before = await self.get(job_id)
        self._caller.check_change(before.owner)
        job = await self._store.cancel(job_id, now=self._clock.now())
        if (before.status, job.status) == (JobStatus.QUEUED, JobStatus.CANCELED):
            self._measures.ended(job.runtime, job.status)
        if job.status in (JobStatus.SUCCEEDED, JobStatus.FAILED):
            raise JobFinished(f"Job {job_id} has {job.status} already; there is nothing to cancel.")
        return job

    async def webhook(self, job_id: str) -> tuple[Telling, Sequence[WebhookDelivery]]:
        """How far a job's webhook is, and what was tried, newest first. Raises ``NotFound``."""
        await self.get(job_id)
        return await self._hooks.get(job_id), await self._hooks.deliveries(job_id)

    async def replay_webhook(
        self, job_id: str, *, after: int = 0
    ) -> tuple[Telling, Sequence[WebhookDelivery]]:
        """Tell a job's events above a number again.

        Raises ``NotFound``, or ``Forbidden`` where the caller may only look at the job.
        """
        self._caller.check_change((await self.get(job_id)).owner)
        telling = await self._hooks.get(job_id)
        again = replace(
            telling,
            state=WebhookState.OPEN,
            after=min(after, telling.after),
            tries=0,
            failing_since=None,
            next_at=0.0,
        )
        await self._hooks.save(again)
        self._watcher.wake_all()
        return again, await self._hooks.deliveries(job_id)

    async def webhook_secret(self) -> str:
        """What the caller's webhooks are signed with. Raises ``Forbidden``."""
        self._caller.check(Scope.GENERATE)
        return await self._secrets.shown(self._caller.id)

    async def redrive(self, job_id: str) -> Job:
        """Queue a failed job again.

        Raises ``NotFound``, or ``JobFinished`` when it did not fail.
        """
        self._caller.check_change((await self.get(job_id)).owner)
        job = await self._store.redrive(job_id, now=self._clock.now())
        if job is None:
            status = (await self.get(job_id)).status
            raise JobFinished(f"Job {job_id} is {status}; only a failed job can be redriven.")
        await ring(job, store=self._store, queue=self._queue)
        return job
