"""Jobs in dictionaries."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from sfumato.core.charges import NOTHING, Charge
from sfumato.core.cursors import decode_cursor, encode_cursor
from sfumato.core.errors import Conflict, IdempotencyConflict, NotFound
from sfumato.core.events import Event, EventKind, NewEvent
from sfumato.core.job import (
    Attempt,
    AttemptOutcome,
    ImageRecord,
    Job,
    JobError,
    JobStatus,
    Timings,
)
from sfumato.core.keys import Usage
from sfumato.core.ports import (
    COUNTED_AHEAD,
    Change,
    JobCounts,
    JobPage,
    Lease,
)


class MemoryJobStore:
    """The ``JobStore`` port; forgets everything with its process."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._attempts: dict[str, list[Attempt]] = defaultdict(list)
        self._events: dict[str, list[Event]] = defaultdict(list)
        self._keys: dict[str, str] = {}
        self._watchers: set[asyncio.Queue[Change]] = set()
        #: The book of costs: what each attempt took, with its job and when it ended.
        self.charges: list[tuple[Job, float, int, Charge]] = []

    async def create(self, job: Job, *, idempotency_key: str | None = None) -> Job:
        if idempotency_key is not None and idempotency_key in self._keys:
            first = self._jobs[self._keys[idempotency_key]]
            if first.request.canonical_hash() != job.request.canonical_hash():
                raise IdempotencyConflict(
                    f"This idempotency key was used for another request, job {first.id}. "
                    "Use a new key for a new request; the first job is untouched.",
                    field="Idempotency-Key",
                )
            return first
        if job.id in self._jobs:
            raise Conflict(f"There is a job {job.id} already; it is untouched.", field="id")
        if idempotency_key is not None:
            self._keys[idempotency_key] = job.id
        self._jobs[job.id] = job
        self._note(job.id, NewEvent(EventKind.QUEUED, job.created_at))
        return job

    async def get(self, job_id: str) -> Job:
        try:
            return self._jobs[job_id]
        except KeyError:
            raise NotFound(f"There is no job {job_id!r}.") from None

    async def find_by_key(self, idempotency_key: str) -> Job | None:
        return self._jobs.get(self._keys.get(idempotency_key, ""))

    async def list(
        self,
        *,
        status: JobStatus | None = None,
        owner: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        before = decode_cursor(cursor) if cursor is not None else None
        jobs = sorted(
            (
                job
                for job in self._jobs.values()
                if status in (None, job.status)
                and owner in (None, job.owner)
                and (before is None or _age(job) < before)
            ),
            key=_age,
            reverse=True,
        )
        page = jobs[:limit]
        return JobPage(page, encode_cursor(*_age(page[-1])) if len(jobs) > limit else None)

    def last_event(self, job_id: str) -> int:
        """The number of its latest event; 0 where there is no such job."""
        return len(self._events.get(job_id, ()))

    async def usage(self, owner: str, *, since: float) -> Usage:
        theirs = [job for job in self._jobs.values() if job.owner == owner]
        recent = [job for job in theirs if job.created_at >= since]
        return Usage(
            open_jobs=sum(not job.status.finished for job in theirs),
            images=sum(job.request.num_images for job in recent),
            gpu_seconds=sum(job.charge.gpu_seconds for job in recent),
        )

    async def counts(self, runtime: str) -> JobCounts:
        queued = [j for j in self._of(JobStatus.QUEUED) if j.runtime == runtime]
        running = [j for j in self._of(JobStatus.RUNNING) if j.runtime == runtime]
        oldest = min((job.created_at for job in queued), default=None)
        return JobCounts(len(queued), len(running), oldest)

    async def queued_ahead(self, job: Job) -> int:
        ahead = sum(
            other.runtime == job.runtime and _turn(other) < _turn(job)
            for other in self._of(JobStatus.QUEUED)
        )
        return min(ahead, COUNTED_AHEAD)

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        return tuple(self._attempts.get(job_id, ()))

    async def claim(
        self, job_id: str, *, worker: str, now: float, lease_until: float
    ) -> Job | None:
        job = self._jobs.get(job_id)
        if job is None or job.status is not JobStatus.QUEUED:
            return None
        claimed = job.becoming(
            JobStatus.RUNNING,
            attempt=job.attempt + 1,
            worker=worker,
            started_at=now,
            lease_until=lease_until,
        )
        self._jobs[job_id] = claimed
        self._attempts[job_id].append(Attempt(claimed.attempt, worker, now))
        data = {"attempt": claimed.attempt, "worker": worker}
        self._note(job_id, NewEvent(EventKind.STARTED, now, data))
        return claimed

    async def extend_lease(self, job_id: str, token: int, *, lease_until: float) -> bool:
        job = self._held(job_id, token)
        if job is None:
            return False
        self._jobs[job_id] = replace(job, lease_until=lease_until)
        return True

    async def append(self, job_id: str, token: int, events: Sequence[NewEvent]) -> bool:
        if self._held(job_id, token) is None:
            return False
        for event in events:
            self._note(job_id, event)
        return True

    async def finish(
        self,
        job_id: str,
        token: int,
        *,
        status: JobStatus,
        now: float,
        images: Sequence[ImageRecord] = (),
        error: JobError | None = None,
        timings: Timings | None = None,
        notes: Sequence[str] = (),
        charge: Charge = NOTHING,
    ) -> bool:
        job = self._held(job_id, token)
        if job is None:
            return False
        job = self._charged(job, now, len(images), charge)
        outcome = AttemptOutcome(status.value)
        self._end_attempt(job_id, now, outcome, error.message if error else None)
        fresh = [note for note in notes if note not in job.notes]
        failed = status is JobStatus.FAILED
        self._end(
            job.becoming(
                status,
                finished_at=now,
                lease_until=None,
                images=tuple(images),
                error=error,
                timings=timings or job.timings,
                notes=(*job.notes, *fresh),
                failures=job.failures + failed,
                checkpoint=None,
            )
        )
        return True

    async def requeue(
        self,
        job_id: str,
        token: int,
        *,
        outcome: AttemptOutcome,
        reason: str,
        now: float,
        checkpoint: str | None = None,
        charge: Charge = NOTHING,
    ) -> bool:
        job = self._held(job_id, token)
        if job is None:
            return False
        job = self._charged(job, now, 0, charge)
        self._end_attempt(job_id, now, outcome, reason)
        if job.cancel_requested:
            self._end(job.becoming(JobStatus.CANCELED, finished_at=now, lease_until=None))
            return True
        self._jobs[job_id] = job.becoming(
            JobStatus.QUEUED,
            lease_until=None,
            worker=None,
            rung_at=now,
            failures=job.failures + (outcome is AttemptOutcome.FAILED),
            losses=job.losses + (outcome is AttemptOutcome.LOST),
            checkpoint=checkpoint,
        )
        self._note(job_id, NewEvent(EventKind.QUEUED, now, {"reason": reason}))
        return True

    async def cancel(self, job_id: str, *, now: float) -> Job:
        job = await self.get(job_id)
        if job.status is JobStatus.QUEUED:
            self._end(job.becoming(JobStatus.CANCELED, finished_at=now, cancel_requested=True))
        elif job.status is JobStatus.RUNNING and not job.cancel_requested:
            self._jobs[job_id] = replace(job, cancel_requested=True)
            self._note(job_id, NewEvent(EventKind.CANCELING, now))
        return self._jobs[job_id]

    async def fail_queued(self, job_id: str, *, error: JobError, now: float) -> bool:
        job = self._jobs.get(job_id)
        if job is None or job.status is not JobStatus.QUEUED:
            return False
        self._end(job.becoming(JobStatus.FAILED, finished_at=now, error=error))
        return True

    async def redrive(self, job_id: str, *, now: float) -> Job | None:
        job = await self.get(job_id)
        if job.status is not JobStatus.FAILED:
            return None
        self._jobs[job_id] = replace(
            job,
            status=JobStatus.QUEUED,
            finished_at=None,
            cancel_requested=False,
            error=None,
            failures=0,
            losses=0,
            rung_at=now,
        )
        self._note(job_id, NewEvent(EventKind.QUEUED, now, {"reason": "redriven"}))
        return self._jobs[job_id]

    async def events(self, job_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        return tuple(self._events.get(job_id, ())[max(0, after) :][:limit])

    async def leases(self) -> Sequence[Lease]:
        return [
            Lease(job.id, job.attempt, job.lease_until)
            for job in self._of(JobStatus.RUNNING)
            if job.lease_until is not None
        ]

    async def held_by(self, worker: str) -> Sequence[Job]:
        return [job for job in self._of(JobStatus.RUNNING) if job.worker == worker]

    async def unrung(
        self, *, before: float, after: float = math.inf, limit: int = 100
    ) -> Sequence[Job]:
        waiting = (job for job in self._of(JobStatus.QUEUED) if not before <= job.rung_at <= after)
        return sorted(waiting, key=lambda job: job.rung_at)[:limit]

    async def mark_rung(self, job_ids: Sequence[str], *, now: float) -> None:
        for job_id in job_ids:
            if job_id in self._jobs:
                self._jobs[job_id] = replace(self._jobs[job_id], rung_at=now)

    async def forget_finished(self, *, before: float, limit: int = 100) -> Sequence[str]:
        old = [
            job.id
            for job in self._jobs.values()
            if job.finished_at is not None and job.finished_at < before
        ][:limit]
        for job_id in old:
            del self._jobs[job_id]
            self._events.pop(job_id, None)
            self._attempts.pop(job_id, None)
        self._keys = {key: job_id for key, job_id in self._keys.items() if job_id not in old}
        return old

    async def changes(self) -> AsyncGenerator[frozenset[Change], None]:
        changed: asyncio.Queue[Change] = asyncio.Queue()
        self._watchers.add(changed)
        try:
            yield frozenset()
            while True:
                changes = {await changed.get()}
                while not changed.empty():
                    changes.add(changed.get_nowait())
                yield frozenset(changes)
        finally:
            self._watchers.discard(changed)

    async def close(self) -> None:
        """Nothing is held open."""

    def _of(self, status: JobStatus) -> Sequence[Job]:
        return [job for job in self._jobs.values() if job.status is status]

    def _held(self, job_id: str, token: int) -> Job | None:
        job = self._jobs.get(job_id)
        ours = job is not None and job.status is JobStatus.RUNNING and job.attempt == token
        return job if ours else None

    def _charged(self, job: Job, now: float, images: int, charge: Charge) -> Job:
        """With what an attempt took, which is written down."""
        if images or charge:
            self.charges.append((job, now, images, charge))
        return replace(job, charge=job.charge + charge)

    def _end_attempt(
        self, job_id: str, now: float, outcome: AttemptOutcome, reason: str | None
    ) -> None:
        attempts = self._attempts[job_id]
        attempts[-1] = replace(attempts[-1], ended_at=now, outcome=outcome, reason=reason)

    def _end(self, job: Job) -> None:
        """Keep a job that has finished, without the previews of its steps."""
        job = replace(job, checkpoint=None)
        self._jobs[job.id] = job
        self._events[job.id] = [_without_preview(event) for event in self._events[job.id]]
        data: dict[str, Any] = {}
        if job.status is JobStatus.SUCCEEDED:
            data = {"images": len(job.images)}
        elif job.error is not None:
            data = {"code": job.error.code, "message": job.error.message}
        data |= job.charge.told()
        self._note(job.id, NewEvent(EventKind(job.status.value), job.finished_at or 0.0, data))

    def _note(self, job_id: str, event: NewEvent) -> None:
        events = self._events[job_id]
        events.append(Event(job_id, len(events) + 1, event.kind, event.at, dict(event.data)))
        for watcher in self._watchers:
            watcher.put_nowait(Change(job_id, event.kind))


def _turn(job: Job) -> tuple[int, float, str]:
    """Order in the queue: higher priority first, then older."""
    return -job.request.priority, job.created_at, job.id


def _age(job: Job) -> tuple[float, str]:
    return job.created_at, job.id


def _without_preview(event: Event) -> Event:
    return replace(event, data={k: v for k, v in event.data.items() if k != "preview"})
