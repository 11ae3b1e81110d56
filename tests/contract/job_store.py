"""What every ``JobStore`` keeps: its jobs, their attempts, their events, and what recovery asks of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sfumato.core.errors import NotFound
from sfumato.core.events import EventKind, NewEvent
from sfumato.core.job import JobStatus
from sfumato.core.ports import JobStore
from tests.contract.job_attempts import JobAttemptsContract
from tests.contract.job_records import JobRecordsContract
from tests.contract.jobs import claimed, new_job


class JobStoreContract(JobRecordsContract, JobAttemptsContract):
    """Inherit it, and give it a ``store``."""

    # -- events ----------------------------------------------------------------------------------

    async def test_events_are_numbered_without_gaps_whoever_writes(self, store: JobStore) -> None:
        job = await claimed(store, await store.create(new_job()))

        def step(n: int) -> Sequence[NewEvent]:
            return [NewEvent(EventKind.STEP, n, {"step": n}), NewEvent(EventKind.IMAGE, n)]

        await asyncio.gather(*(store.append(job.id, 1, step(n)) for n in range(20)))
        numbers = [event.number for event in await store.events(job.id)]
        assert numbers == list(range(1, 43))
        assert [e.number for e in await store.events(job.id, after=40)] == [41, 42]
        assert [e.number for e in await store.events(job.id, after=1, limit=2)] == [2, 3]

    async def test_previews_are_dropped_once_the_job_has_finished(self, store: JobStore) -> None:
        job = await claimed(store, await store.create(new_job()))
        data = {"step": 1, "preview": "data:,x", "image": 0}
        await store.append(job.id, 1, [NewEvent(EventKind.STEP, 5, data)])
        assert (await store.events(job.id))[-1].data == data
        await store.finish(job.id, 1, status=JobStatus.SUCCEEDED, now=9)
        assert (await store.events(job.id))[-2].data == {"step": 1, "image": 0}

    async def test_changes_tell_every_job_that_changed(
        self, store: JobStore, elsewhere: JobStore
    ) -> None:
        changes = store.changes()
        assert await anext(changes) == frozenset()
        jobs = [await (store, elsewhere)[n % 2].create(new_job()) for n in range(6)]
        missing = {job.id for job in jobs}
        while missing:
            missing -= {change.job_id for change in await anext(changes)}
        won = await claimed(elsewhere, jobs[0])
        assert await anext(changes) == {(won.id, EventKind.STARTED)}
        await elsewhere.append(won.id, 1, [NewEvent(EventKind.STEP, 4)])
        assert await anext(changes) == {(won.id, EventKind.STEP)}
        await store.cancel(won.id, now=5)
        assert await anext(changes) == {(won.id, EventKind.CANCELING)}
        await changes.aclose()

    # -- what recovery asks ----------------------------------------------------------------------

    async def test_leases_and_held_jobs_are_found(self, store: JobStore) -> None:
        job, other = await store.create(new_job()), await store.create(new_job())
        await store.claim(job.id, worker="w1", now=1, lease_until=10)
        await store.claim(other.id, worker="w2", now=1, lease_until=20)
        await store.create(new_job())
        assert set(await store.leases()) == {(job.id, 1, 10), (other.id, 1, 20)}
        assert [j.id for j in await store.held_by("w2")] == [other.id]
        assert await store.extend_lease(job.id, 1, lease_until=30)
        assert set(await store.leases()) == {(job.id, 1, 30), (other.id, 1, 20)}

    async def test_unrung_jobs_are_found_oldest_first(self, store: JobStore) -> None:
        old, young = await store.create(new_job(at=10)), await store.create(new_job(at=20))
        running = await claimed(store, await store.create(new_job(at=5)))
        assert [j.id for j in await store.unrung(before=30)] == [old.id, young.id]
        assert [j.id for j in await store.unrung(before=30, limit=1)] == [old.id]
        await store.mark_rung([old.id, running.id], now=50)
        assert [j.id for j in await store.unrung(before=30)] == [young.id]
        await store.mark_rung([], now=60)
        assert [j.id for j in await store.unrung(before=15, after=40)] == [old.id]

    async def test_finished_jobs_are_forgotten_with_all_they_had(self, store: JobStore) -> None:
        old = await store.create(new_job(), idempotency_key="k")
        await claimed(store, old)
        await store.finish(old.id, 1, status=JobStatus.SUCCEEDED, now=10)
        waiting = await store.create(new_job())
        assert list(await store.forget_finished(before=10)) == []
        assert list(await store.forget_finished(before=11)) == [old.id]
        with pytest.raises(NotFound):
            await store.get(old.id)
        assert not await store.events(old.id)
        assert not await store.attempts(old.id)
        assert (await store.get(waiting.id)).status is JobStatus.QUEUED
        fresh = await store.create(new_job(prompt="new"), idempotency_key="k")
        assert fresh.id != old.id
