"""Random histories: whatever happens to a job, SQLite and memory tell the same story of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from sfumato.adapters.memory import MemoryCostBook, MemoryJobStore
from sfumato.adapters.sql import Database, SqlCostBook, SqlJobStore
from sfumato.core.charges import NOTHING, Charge, CostGroup
from sfumato.core.errors import SfumatoError
from sfumato.core.events import EventKind, NewEvent
from sfumato.core.job import AttemptOutcome, Job, JobError, JobStatus
from sfumato.core.ports import CostBook, JobStore
from tests.contract.jobs import IMAGE, new_job

_Operation = Callable[[JobStore, str, float], Coroutine[Any, Any, object]]

_ENDINGS = st.sampled_from([JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED])
_TOKENS = st.integers(0, 3)
_CHARGES = st.sampled_from([NOTHING, Charge(0.5), Charge(1.5, 0.25, "USD")])
_ERROR = JobError("engine_failure", "It broke.")


def _finish(token: int, status: JobStatus, charge: Charge) -> _Operation:
    failed = status is JobStatus.FAILED
    return lambda store, job, now: store.finish(
        job,
        token,
        status=status,
        now=now,
        images=[IMAGE] if status is JobStatus.SUCCEEDED else [],
        error=_ERROR if failed else None,
        notes=["cut"],
        charge=charge,
    )


def _step(token: int, preview: str | None) -> _Operation:
    data = {"step": 1, "steps": 2, **({"preview": preview} if preview else {})}
    return lambda store, job, now: store.append(job, token, [NewEvent(EventKind.STEP, now, data)])


def _requeue(token: int, outcome: AttemptOutcome, charge: Charge) -> _Operation:
    return lambda store, job, now: store.requeue(
        job, token, outcome=outcome, reason="why", now=now, checkpoint="c/", charge=charge
    )


_OPERATIONS: st.SearchStrategy[_Operation] = st.one_of(
    st.just(lambda store, job, now: store.claim(job, worker="w", now=now, lease_until=now + 2)),
    st.just(lambda store, job, now: store.cancel(job, now=now)),
    st.just(lambda store, job, now: store.redrive(job, now=now)),
    st.just(lambda store, job, now: store.fail_queued(job, error=_ERROR, now=now)),
    st.just(lambda store, job, now: store.mark_rung([job], now=now)),
    st.just(lambda store, job, now: store.forget_finished(before=now - 4)),
    st.builds(_finish, _TOKENS, _ENDINGS, _CHARGES),
    st.builds(_step, _TOKENS, st.sampled_from([None, "data:,x"])),
    st.builds(
        _requeue,
        _TOKENS,
        st.sampled_from([AttemptOutcome.FAILED, AttemptOutcome.LOST, AttemptOutcome.RELEASED]),
        _CHARGES,
    ),
)


def _execute(statement: str, connection: Connection) -> None:
    connection.exec_driver_sql(statement)


async def answer(operation: _Operation, store: JobStore, job_id: str, now: float) -> object:
    try:
        return await operation(store, job_id, now)
    except SfumatoError as error:
        return type(error), error.message


async def story(store: JobStore, book: CostBook, jobs: list[Job], now: float) -> list[object]:
    """All that a store tells."""
    told: list[object] = [
        list((await store.list()).jobs),
        await store.counts("r"),
        set(await store.leases()),
        {job.id for job in await store.unrung(before=now)},
        {job.id for job in await store.held_by("w")},
        list(await book.totals(by=[CostGroup.RUNTIME], since=0, until=1e12)),
    ]
    for job in jobs:
        told += [list(await store.events(job.id)), list(await store.attempts(job.id))]
    return told


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=st.lists(st.tuples(st.integers(0, 1), _OPERATIONS), max_size=14))
def test_sqlite_and_memory_agree(tmp_path: Path, history: list[tuple[int, _Operation]]) -> None:
    async def play() -> None:
        database = Database.open(f"sqlite:///{tmp_path / 'jobs.db'}")
        sql, memory = SqlJobStore(database), MemoryJobStore()
        books = SqlCostBook(database), MemoryCostBook(memory)
        try:
            jobs = [new_job(at=10.0), new_job(at=11.0, priority=3)]
            for job in jobs:
                await sql.create(job)
                await memory.create(job)
            for now, (which, operation) in enumerate(history, 20):
                job_id = jobs[which].id
                assert await answer(operation, sql, job_id, now) == await answer(
                    operation, memory, job_id, now
                )
                told = [
                    await story(store, book, jobs, now)
                    for store, book in zip((sql, memory), books, strict=True)
                ]
                assert told[0] == told[1]
        finally:
            for statement in ("DELETE FROM jobs", "DELETE FROM charges"):
                await database.write(partial(_execute, statement))
            await database.close()

    asyncio.run(play())
