"""The steps that the store's writes are made of, each inside a transaction of the caller's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_

from sfumato.adapters.sql.rows import document, documents, event_values
from sfumato.adapters.sql.schema import attempts, events, jobs
from sfumato.core.events import EventKind, NewEvent
from sfumato.core.job import AttemptOutcome, ImageRecord, JobError, JobStatus, Timings


def is_queued(job_id: str) -> ColumnElement[bool]:
    return and_(jobs.c.id == job_id, jobs.c.status == JobStatus.QUEUED.value)


def is_held(job_id: str, token: int) -> ColumnElement[bool]:
    """Running, under this very token."""
    return and_(
        jobs.c.id == job_id,
        jobs.c.status == JobStatus.RUNNING.value,
        jobs.c.attempt == token,
    )


def change(
    connection: Connection, guard: ColumnElement[bool], *, count: int = 1, **values: Any
) -> Row[Any] | None:
    """Change the one job that meets the guard and take the next ``count`` event numbers for it.

    Answers the row as it is now, its ``last_event`` the last of those numbers; None when no job
    meets the guard, and then nothing has changed.
    """
    statement = (
        jobs.update()
        .where(guard)
        .values(last_event=jobs.c.last_event + count, **values)
        .returning(*jobs.c)
    )
    return connection.execute(statement).one_or_none()


def note(connection: Connection, job_id: str, number: int, event: NewEvent) -> None:
    """Keep an event under a number that :func:`change` took."""
    connection.execute(events.insert(), event_values(job_id, number, event))


def end(
    connection: Connection,
    guard: ColumnElement[bool],
    *,
    status: JobStatus,
    now: float,
    images: Sequence[ImageRecord] = (),
    error: JobError | None = None,
    timings: Timings | None = None,
    notes: Sequence[str] = (),
    failures: int = 0,
) -> bool:
    """End the job that meets the guard: its final status, the terminal event, no more previews.

    ``failures`` is added to its count of failed attempts.
    """
    values: dict[str, Any] = {
        "status": status.value,
        "finished_at": now,
        "lease_until": None,
        "checkpoint": None,
        "images": documents(images),
        "error": document(error) if error is not None else None,
    }
    if timings is not None:
        values["timings"] = document(timings)
    if failures:
        values["failures"] = jobs.c.failures + failures
    row = change(connection, guard, **values)
    if row is None:
        return False
    if notes:
        _add_notes(connection, row, notes)
    with_preview = and_(events.c.job_id == row.id, events.c.preview.is_not(None))
    connection.execute(events.update().where(with_preview).values(preview=None))
    data: dict[str, Any] = {}
    if status is JobStatus.SUCCEEDED:
        data = {"images": len(images)}
    elif error is not None:
        data = {"code": error.code, "message": error.message}
    note(connection, row.id, row.last_event, NewEvent(EventKind(status.value), now, data))
    return True


def end_attempt(
    connection: Connection,
    job_id: str,
    number: int,
    *,
    now: float,
    outcome: AttemptOutcome,
    reason: str | None,
) -> None:
    connection.execute(
        attempts.update()
        .where(attempts.c.job_id == job_id, attempts.c.number == number)
        .values(ended_at=now, outcome=outcome.value, reason=reason)
    )


def _add_notes(connection: Connection, row: Row[Any], notes: Sequence[str]) -> None:
    had = json.loads(row.notes)
    both = [*had, *(note for note in notes if note not in had)]
    connection.execute(jobs.update().where(jobs.c.id == row.id).values(notes=json.dumps(both)))
