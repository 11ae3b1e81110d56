"""What every ``CostBook`` tells of what its ``JobStore`` wrote down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sfumato.core.charges import Charge, CostGroup, CostTotal
from sfumato.core.job import AttemptOutcome, Job, JobError, JobStatus
from sfumato.core.ports import CostBook, JobStore
from tests.contract.jobs import IMAGE, SETTINGS, StoreSuite, claimed, new_job

#: Midnight of 2026-11-21, UTC.
DAY = 20_778 * 86_400.0
DOLLARS = Charge(2.0, 0.5, "USD")


class CostBookContract(StoreSuite):
    @pytest.fixture
    async def book(self) -> CostBook:
        raise NotImplementedError

    async def test_what_an_attempt_took_is_kept_with_its_job(self, store: JobStore) -> None:
        job = await claimed(store, await store.create(new_job()))
        released = AttemptOutcome.RELEASED
        await store.requeue(job.id, 1, outcome=released, reason="r", now=2, charge=DOLLARS)
        assert (await store.get(job.id)).charge == DOLLARS
        await claimed(store, job)
        await store.requeue(job.id, 2, outcome=AttemptOutcome.LOST, reason="gone", now=3)
        await claimed(store, job)
        await finish(store, job, 3, now=4, charge=Charge(1.0, 0.25, "USD"))
        done = await store.get(job.id)
        assert done.charge == Charge(3.0, 0.75, "USD")
        told = {"gpu_seconds": 3.0, "cost": 0.75, "currency": "USD"}
        assert (await store.events(job.id))[-1].data == {"images": 1, **told}

    async def test_every_end_of_a_job_tells_what_it_took(self, store: JobStore) -> None:
        async def charged(job: Job) -> Job:
            await claimed(store, await store.create(job))
            lost = AttemptOutcome.FAILED
            await store.requeue(job.id, 1, outcome=lost, reason="r", now=2, charge=Charge(2.0))
            return job

        failed, canceled, stopped = [await charged(new_job()) for _ in range(3)]
        await store.fail_queued(failed.id, error=JobError("x", "y"), now=3)
        await store.cancel(canceled.id, now=3)
        await claimed(store, stopped)
        await store.cancel(stopped.id, now=3)
        await store.requeue(
            stopped.id, 2, outcome=AttemptOutcome.LOST, reason="r", now=4, charge=Charge(1.0)
        )
        for job, seconds in ((failed, 2.0), (canceled, 2.0), (stopped, 3.0)):
            assert (await store.get(job.id)).charge == Charge(seconds)
            event = (await store.events(job.id))[-1]
            assert event.kind.terminal
            assert event.data["gpu_seconds"] == seconds
            assert "cost" not in event.data

    async def test_a_stale_token_charges_nothing(self, store: JobStore, book: CostBook) -> None:
        job = await claimed(store, await store.create(new_job()))
        assert not await store.finish(
            job.id, 7, status=JobStatus.SUCCEEDED, now=9, charge=DOLLARS, images=[IMAGE]
        )
        assert not (await store.get(job.id)).charge
        assert not await book.totals(by=[], since=0, until=1e12)

    async def test_totals_are_told_apart_as_asked(self, store: JobStore, book: CostBook) -> None:
        for owner, model, runtime, at in (
            ("k1", "sd", "small", DAY),
            ("k1", "xl", "large", DAY + 1),
            ("k2", "xl", "large", DAY + 86_400),
            (None, "sd", "small", DAY + 86_399),
        ):
            job = new_job(runtime=runtime)
            job = replace(job, owner=owner, settings=replace(SETTINGS, model=model))
            await claimed(store, await store.create(job))
            await finish(store, job, 1, now=at, charge=DOLLARS)

        async def told(*by: CostGroup, owner: str | None = None) -> list[CostTotal]:
            return list(await book.totals(by=by, since=DAY, until=DAY + 86_401, owner=owner))

        def total(count: int, **names: str | None) -> CostTotal:
            return CostTotal(count, count, 2.0 * count, 0.5 * count, "USD", **names)

        assert await told() == [total(4)]
        assert await told(CostGroup.KEY) == [total(1), total(2, key="k1"), total(1, key="k2")]
        assert await told(CostGroup.MODEL) == [total(2, model="sd"), total(2, model="xl")]
        assert await told(CostGroup.RUNTIME, owner="k1") == [
            total(1, runtime="large"),
            total(1, runtime="small"),
        ]
        assert await told(CostGroup.DAY, CostGroup.MODEL) == [
            total(2, day="2026-11-21", model="sd"),
            total(1, day="2026-11-21", model="xl"),
            total(1, day="2026-11-22", model="xl"),
        ]
        assert not await told(CostGroup.KEY, owner="k3")

    async def test_the_end_of_the_time_no_longer_counts(
        self, store: JobStore, book: CostBook
    ) -> None:
        job = await store.create(new_job())
        await claimed(store, job)
        await finish(store, job, 1, now=50.0, charge=DOLLARS)
        for since, until, count in ((50.0, 51.0, 1), (0.0, 50.0, 0), (51.0, 60.0, 0)):
            assert len(await book.totals(by=[], since=since, until=until)) == count

    async def test_currencies_and_what_has_no_price_are_told_apart(
        self, store: JobStore, book: CostBook
    ) -> None:
        for charge in (DOLLARS, Charge(1.0), Charge(1.0, 0.25, "EUR"), DOLLARS):
            job = await store.create(new_job())
            await claimed(store, job)
            await finish(store, job, 1, now=5.0, charge=charge)
        assert list(await book.totals(by=[], since=0, until=9)) == [
            CostTotal(1, 1, 1.0, None, None),
            CostTotal(1, 1, 1.0, 0.25, "EUR"),
            CostTotal(2, 2, 4.0, 1.0, "USD"),
        ]

    async def test_a_job_of_several_attempts_is_one(self, store: JobStore, book: CostBook) -> None:
        job = await store.create(new_job())
        await claimed(store, job)
        await store.requeue(
            job.id, 1, outcome=AttemptOutcome.RELEASED, reason="r", now=4, charge=DOLLARS
        )
        await claimed(store, job)
        await finish(store, job, 2, now=5, charge=DOLLARS)
        assert list(await book.totals(by=[], since=0, until=9)) == [
            CostTotal(1, 1, 4.0, 1.0, "USD")
        ]

    async def test_the_book_outlives_the_jobs(self, store: JobStore, book: CostBook) -> None:
        job = await store.create(new_job())
        await claimed(store, job)
        await finish(store, job, 1, now=5, charge=DOLLARS)
        before = await book.totals(by=[CostGroup.MODEL], since=0, until=9)
        assert await store.forget_finished(before=9) == [job.id]
        assert before
        assert await book.totals(by=[CostGroup.MODEL], since=0, until=9) == before


async def finish(store: JobStore, job: Job, token: int, *, now: float, charge: Charge) -> None:
    assert await store.finish(
        job.id, token, status=JobStatus.SUCCEEDED, now=now, images=[IMAGE], charge=charge
    )
