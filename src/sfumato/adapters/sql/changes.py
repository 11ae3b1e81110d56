"""The steps that the store's writes are made of, each inside a transaction of the caller's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, func
from sqlalchemy.sql.dml import ReturningUpdate

from sfumato.adapters.sql.rows import charge_of, document, documents, event_values
from sfumato.adapters.sql.schema import attempts, events, jobs
from sfumato.core.charges import Charge
from sfumato.core.events import EventKind, NewEvent
from sfumato.core.job import AttemptOutcome, ImageRecord, JobError, JobStatus, Timings


def _change(*guard: ColumnElement[bool]) -> ReturningUpdate[Any]:
    """A change of the one job that meets the guard. Built once, as to build one costs more than to
    run it; the columns to set are the parameters that carry a column's name."""
    return (
        jobs.update()
        .where(jobs.c.id == bindparam("job"), *guard)
        .values(last_event=jobs.c.last_event + bindparam("events", 1))
        .returning(*jobs.c)
    )


def _counting(statement: ReturningUpdate[Any]) -> ReturningUpdate[Any]:
    """The same, and what the parameters name is added to the counts."""
    return statement.values(
        attempt=jobs.c.attempt + bindparam("more_attempts", 0),
        failures=jobs.c.failures + bindparam("more_failures", 0),
        losses=jobs.c.losses + bindparam("more_losses", 0),
    )


def _charging(statement: ReturningUpdate[Any]) -> ReturningUpdate[Any]:
    """The same, and what :func:`charged` names is added to what the job has taken."""
    more = bindparam("more_cost", None, type_=jobs.c.cost.type)
    currency = bindparam("its_currency", None, type_=jobs.c.currency.type)
    return statement.values(
        gpu_seconds=func.coalesce(jobs.c.gpu_seconds, 0.0) + bindparam("more_gpu_seconds", 0.0),
        cost=func.coalesce(jobs.c.cost + more, more, jobs.c.cost),
        currency=func.coalesce(currency, jobs.c.currency),
    )


_is_running = jobs.c.status == JobStatus.RUNNING.value
#: Running under this very token. ``HELD`` and its kin need the parameter ``token``.
_is_held = and_(_is_running, jobs.c.attempt == bindparam("token"))

QUEUED = _counting(_change(jobs.c.status == JobStatus.QUEUED.value))
HELD = _counting(_change(_is_held))
#: ``HELD``, for the end of its attempt.
ENDING = _charging(HELD)
CANCELED_MEANWHILE = _charging(_change(_is_held, jobs.c.cancel_requested))
RUNNING_UNASKED = _change(_is_running, jobs.c.cancel_requested.is_(False))
FAILED = _change(jobs.c.status == JobStatus.FAILED.value)

EXTEND_LEASE = jobs.update().where(jobs.c.id == bindparam("job"), _is_held)

_DROP_PREVIEWS = (
    events.update()
    .where(events.c.job_id == bindparam("job"), events.c.preview.is_not(None))
    .values(preview=None)
)
_END_ATTEMPT = attempts.update().where(
    attempts.c.job_id == bindparam("job"), attempts.c.number == bindparam("token")
)
_SET_NOTES = jobs.update().where(jobs.c.id == bindparam("job"))
#: Inline: nobody asks for the row's number.
_NOTE = events.insert().inline()


def change(
    connection: Connection, statement: ReturningUpdate[Any], job_id: str, **values: Any
) -> Row[Any] | None:
    """Change the job, if it meets the statement's guard, and take its next event number; more of
    them with ``events=n``.

    Answers the row as it is now, its ``last_event`` the last number taken; None when the guard
    was not met, and then nothing has changed.
    """
    return connection.execute(statement, {"job": job_id, **values}).one_or_none()


def charged(charge: Charge) -> dict[str, Any]:
    """For ``ENDING`` and ``CANCELED_MEANWHILE``."""
    return {
        "more_gpu_seconds": charge.gpu_seconds,
        "more_cost": charge.cost,
        "its_currency": charge.currency,
    }


def note(connection: Connection, job_id: str, number: int, event: NewEvent) -> None:
    """Keep an event under a number that :func:`change` took."""
    connection.execute(_NOTE, event_values(job_id, number, event))


def end(
    connection: Connection,
    statement: ReturningUpdate[Any],
    job_id: str,
    *,
    status: JobStatus,
    now: float,
    images: Sequence[ImageRecord] = (),
    error: JobError | None = None,
    timings: Timings | None = None,
    notes: Sequence[str] = (),
    **values: Any,
) -> Row[Any] | None:
    """End the job, if it meets the guard: its final status, the terminal event, no more previews.

    Answers its row, but for the notes; None when the guard was not met.
    """
    if timings is not None:
        values["timings"] = document(timings)
    row = change(
        connection,
        statement,
        job_id,
        status=status.value,
        finished_at=now,
        lease_until=None,
        checkpoint=None,
        images=documents(images),
        error=document(error) if error is not None else None,
        **values,
    )
    if row is None:
        return None
    if notes:
        had = json.loads(row.notes)
        both = [*had, *(note for note in notes if note not in had)]
        connection.execute(_SET_NOTES, {"job": job_id, "notes": json.dumps(both)})
    connection.execute(_DROP_PREVIEWS, {"job": job_id})
    data: dict[str, Any] = {}
    if status is JobStatus.SUCCEEDED:
        data = {"images": len(images)}
    elif error is not None:
        data = {"code": error.code, "message": error.message}
    data |= charge_of(row).told()
    note(connection, job_id, row.last_event, NewEvent(EventKind(status.value), now, data))
    return row


def end_attempt(
    connection: Connection,
    job_id: str,
    token: int,
    *,
    now: float,
    outcome: AttemptOutcome,
    reason: str | None,
) -> None:
    values = {"ended_at": now, "outcome": outcome.value, "reason": reason}
    connection.execute(_END_ATTEMPT, {"job": job_id, "token": token, **values})
