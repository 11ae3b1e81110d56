"""The truth about jobs, in SQL. Every change of state is one guarded UPDATE and its event."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, or_, select, tuple_

from sfumato.adapters.sql import changes, cost_book
from sfumato.adapters.sql.database import Database
from sfumato.adapters.sql.rows import attempt_of, event_of, job_of, job_values
from sfumato.adapters.sql.schema import attempts, events, jobs
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
from sfumato.core.ports import COUNTED_AHEAD, Change, JobCounts, JobPage, Lease

_NEW_ATTEMPT = attempts.insert()
_JOB = select(jobs).where(jobs.c.id == bindparam("wanted"))
_OF_KEY = select(jobs).where(jobs.c.idempotency_key == bindparam("key"))
_COUNTS = (
    select(jobs.c.status, func.count(), func.min(jobs.c.created_at))
    .where(jobs.c.runtime == bindparam("of_runtime"))
    .where(jobs.c.status.in_([JobStatus.QUEUED.value, JobStatus.RUNNING.value]))
    .group_by(jobs.c.status)
)
_AHEAD = select(jobs.c.id).where(
    jobs.c.runtime == bindparam("of_runtime"),
    jobs.c.status == JobStatus.QUEUED.value,
    or_(
        jobs.c.priority > bindparam("its_priority"),
        and_(
            jobs.c.priority == bindparam("its_priority"),
            tuple_(jobs.c.created_at, jobs.c.id)
            < tuple_(bindparam("its_time"), bindparam("its_id")),
        ),
    ),
)
_COUNT_AHEAD = select(func.count()).select_from(_AHEAD.limit(COUNTED_AHEAD).subquery())
_IS_OPEN = jobs.c.status.in_([JobStatus.QUEUED.value, JobStatus.RUNNING.value])
_IS_RECENT = jobs.c.created_at >= bindparam("since")
_USAGE = select(
    func.count().filter(_IS_OPEN).label("open_jobs"),
    func.coalesce(func.sum(jobs.c.num_images).filter(_IS_RECENT), 0).label("images"),
    func.coalesce(func.sum(jobs.c.gpu_seconds).filter(_IS_RECENT), 0.0).label("gpu_seconds"),
).where(jobs.c.owner == bindparam("of_owner"), or_(_IS_OPEN, _IS_RECENT))
_LEASES = select(jobs.c.id, jobs.c.attempt, jobs.c.lease_until).where(
    jobs.c.status == JobStatus.RUNNING.value
)
_EVENTS = (
    select(events)
    .where(events.c.job_id == bindparam("of_job"), events.c.number > bindparam("after"))
    .order_by(events.c.number)
    .limit(bindparam("at_most"))
)


class SqlJobStore:
    """The ``JobStore`` port."""

    def __init__(self, database: Database) -> None:
        self._database = database
        new_job = database.insert(jobs).on_conflict_do_nothing()
        self._new_job = new_job.execution_options(preserve_rowcount=True)

    # -- reading ---------------------------------------------------------------------------------

    async def get(self, job_id: str) -> Job:
        return await self._database.read(lambda connection: _get(connection, job_id))

    async def find_by_key(self, idempotency_key: str) -> Job | None:
        values = {"key": idempotency_key}
        row = await self._database.read(lambda c: c.execute(_OF_KEY, values).one_or_none())
        return None if row is None else job_of(row)

    async def list(
        self,
        *,
        status: JobStatus | None = None,
        owner: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        statement = select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
        if status is not None:
            statement = statement.where(jobs.c.status == status.value)
        if owner is not None:
            statement = statement.where(jobs.c.owner == owner)
        if cursor is not None:
            statement = statement.where(
                tuple_(jobs.c.created_at, jobs.c.id) < tuple_(*decode_cursor(cursor))
            )
        found = await self._jobs(statement.limit(limit + 1))
        page = found[:limit]
        more = len(found) > limit
        return JobPage(page, encode_cursor(page[-1].created_at, page[-1].id) if more else None)

    async def usage(self, owner: str, *, since: float) -> Usage:
        values = {"of_owner": owner, "since": since}
        row = await self._database.read(lambda c: c.execute(_USAGE, values).one())
        return Usage(row.open_jobs, row.images, row.gpu_seconds)

    async def counts(self, runtime: str) -> JobCounts:
        values = {"of_runtime": runtime}
        rows = await self._database.read(lambda c: c.execute(_COUNTS, values).all())
        by_status = {status: (count, oldest) for status, count, oldest in rows}
        queued, oldest = by_status.get(JobStatus.QUEUED.value, (0, None))
        running, _ = by_status.get(JobStatus.RUNNING.value, (0, None))
        return JobCounts(queued, running, oldest)

    async def queued_ahead(self, job: Job) -> int:
        values = {
            "of_runtime": job.runtime,
            "its_priority": job.request.priority,
            "its_time": job.created_at,
            "its_id": job.id,
        }
        return await self._database.read(lambda c: int(c.scalar(_COUNT_AHEAD, values) or 0))

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        statement = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [attempt_of(row) for row in rows]

    async def events(self, job_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        values = {"of_job": job_id, "after": after, "at_most": limit}
        rows = await self._database.read(lambda c: c.execute(_EVENTS, values).all())
        return [event_of(row) for row in rows]

    async def leases(self) -> Sequence[Lease]:
        rows = await self._database.read(lambda c: c.execute(_LEASES).all())
        return [Lease(*row) for row in rows]

    async def held_by(self, worker: str) -> Sequence[Job]:
        theirs = and_(jobs.c.status == JobStatus.RUNNING.value, jobs.c.worker == worker)
        return await self._jobs(select(jobs).where(theirs))

    async def unrung(
        self, *, before: float, after: float = math.inf, limit: int = 100
    ) -> Sequence[Job]:
        when = or_(jobs.c.rung_at < before, jobs.c.rung_at > after)
        waiting = and_(jobs.c.status == JobStatus.QUEUED.value, when)
        return await self._jobs(select(jobs).where(waiting).order_by(jobs.c.rung_at).limit(limit))

    def changes(self) -> AsyncGenerator[frozenset[Change], None]:
        return self._database.signals.changes()

    async def close(self) -> None:
        """The database is closed by whoever opened it."""

    async def _jobs(self, statement: Any) -> Sequence[Job]:
        rows: Sequence[Row[Any]] = await self._database.read(lambda c: c.execute(statement).all())
        return [job_of(row) for row in rows]

    # -- writing ---------------------------------------------------------------------------------

    async def create(self, job: Job, *, idempotency_key: str | None = None) -> Job:
        values = job_values(job, idempotency_key)

        def work(connection: Connection) -> Row[Any] | None:
            if connection.execute(self._new_job, values).rowcount == 0:
                first = connection.execute(_OF_KEY, {"key": idempotency_key}).one_or_none()
                if first is not None:
                    return _same_request(first, values["request_hash"])
                raise Conflict(f"There is a job {job.id} already; it is untouched.", field="id")
            changes.note(connection, job.id, 1, NewEvent(EventKind.QUEUED, job.created_at))
            return None

        first = await self._database.write(work)
        return job if first is None else job_of(first)

    async def claim(
        self, job_id: str, *, worker: str, now: float, lease_until: float
    ) -> Job | None:
        def work(connection: Connection) -> Row[Any] | None:
            row = changes.change(
                connection,
                changes.QUEUED,
                job_id,
                status=JobStatus.RUNNING.value,
                more_attempts=1,
                worker=worker,
                started_at=now,
                lease_until=lease_until,
            )
            if row is not None:
                connection.execute(
                    _NEW_ATTEMPT,
                    {"job_id": job_id, "number": row.attempt, "worker": worker, "started_at": now},
                )
                data = {"attempt": row.attempt, "worker": worker}
                event = NewEvent(EventKind.STARTED, now, data)
                changes.note(connection, job_id, row.last_event, event)
            return row

        # A claim that a power cut takes back leaves its job queued, as if it had never been.
        row = await self._database.write(work, durable=False)
        return None if row is None else job_of(row)

    async def extend_lease(self, job_id: str, token: int, *, lease_until: float) -> bool:
        values = {"job": job_id, "token": token, "lease_until": lease_until}
        extended = await self._database.write(
            lambda c: c.execute(changes.EXTEND_LEASE, values).rowcount, durable=False
        )
        return extended == 1

    async def append(self, job_id: str, token: int, events: Sequence[NewEvent]) -> bool:
        def work(connection: Connection) -> bool:
            row = changes.change(connection, changes.HELD, job_id, token=token, events=len(events))
            if row is None:
                return False
            first = row.last_event - len(events) + 1
            for number, event in enumerate(events, first):
                changes.note(connection, job_id, number, event)
            return True

        return await self._database.write(work, durable=False)

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
        outcome = AttemptOutcome(status.value)

        def work(connection: Connection) -> bool:
            job = changes.end(
                connection,
                changes.ENDING,
                job_id,
                token=token,
                status=status,
                now=now,
                images=images,
                error=error,
                timings=timings,
                notes=notes,
                more_failures=int(status is JobStatus.FAILED),
                **changes.charged(charge),
            )
            if job is None:
                return False
            reason = error.message if error is not None else None
            changes.end_attempt(connection, job_id, token, now=now, outcome=outcome, reason=reason)
            cost_book.enter(connection, job, now=now, images=len(images), charge=charge)
            return True

        return await self._database.write(work)

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
        charged = changes.charged(charge)

        def work(connection: Connection) -> bool:
            job = changes.end(
                connection,
                changes.CANCELED_MEANWHILE,
                job_id,
                token=token,
                status=JobStatus.CANCELED,
                now=now,
                **charged,
            )
            if job is None:
                job = changes.change(
                    connection,
                    changes.ENDING,
                    job_id,
                    token=token,
                    status=JobStatus.QUEUED.value,
                    worker=None,
                    lease_until=None,
                    rung_at=now,
                    more_failures=int(outcome is AttemptOutcome.FAILED),
                    more_losses=int(outcome is AttemptOutcome.LOST),
                    checkpoint=checkpoint,
                    **charged,
                )
                if job is None:
                    return False
                event = NewEvent(EventKind.QUEUED, now, {"reason": reason})
                changes.note(connection, job_id, job.last_event, event)
            changes.end_attempt(connection, job_id, token, now=now, outcome=outcome, reason=reason)
            cost_book.enter(connection, job, now=now, images=0, charge=charge)
            return True

        return await self._database.write(work)

    async def cancel(self, job_id: str, *, now: float) -> Job:
        def work(connection: Connection) -> Job:
            ended = changes.end(
                connection,
                changes.QUEUED,
                job_id,
                status=JobStatus.CANCELED,
                now=now,
                cancel_requested=True,
            )
            if ended is None:
                row = changes.change(
                    connection, changes.RUNNING_UNASKED, job_id, cancel_requested=True
                )
                if row is not None:
                    event = NewEvent(EventKind.CANCELING, now)
                    changes.note(connection, job_id, row.last_event, event)
            return _get(connection, job_id)

        return await self._database.write(work)

    async def fail_queued(self, job_id: str, *, error: JobError, now: float) -> bool:
        failed = JobStatus.FAILED
        job = await self._database.write(
            lambda c: changes.end(c, changes.QUEUED, job_id, status=failed, now=now, error=error)
        )
        return job is not None

    async def redrive(self, job_id: str, *, now: float) -> Job | None:
        def work(connection: Connection) -> Row[Any] | None:
            row = changes.change(
                connection,
                changes.FAILED,
                job_id,
                status=JobStatus.QUEUED.value,
                finished_at=None,
                cancel_requested=False,
                error=None,
                failures=0,
                losses=0,
                rung_at=now,
            )
            if row is None:
                _get(connection, job_id)
            else:
                event = NewEvent(EventKind.QUEUED, now, {"reason": "redriven"})
                changes.note(connection, job_id, row.last_event, event)
            return row

        row = await self._database.write(work)
        return None if row is None else job_of(row)

    async def mark_rung(self, job_ids: Sequence[str], *, now: float) -> None:
        statement = jobs.update().where(jobs.c.id.in_(job_ids)).values(rung_at=now)
        await self._database.write(lambda c: c.execute(statement), durable=False)

    async def forget_finished(self, *, before: float, limit: int = 100) -> Sequence[str]:
        old = select(jobs.c.id).where(jobs.c.finished_at < before).limit(limit)
        statement = jobs.delete().where(jobs.c.id.in_(old)).returning(jobs.c.id)
        return await self._database.write(lambda c: list(c.execute(statement).scalars()))


def _get(connection: Connection, job_id: str) -> Job:
    row = connection.execute(_JOB, {"wanted": job_id}).one_or_none()
    if row is None:
        raise NotFound(f"There is no job {job_id!r}.")
    return job_of(row)


def _same_request(first: Row[Any], request_hash: str) -> Row[Any]:
    if first.request_hash != request_hash:
        raise IdempotencyConflict(
            f"This idempotency key was used for another request, job {first.id}. "
            "Use a new key for a new request; the first job is untouched.",
            field="Idempotency-Key",
        )
    return first
