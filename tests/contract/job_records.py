"""What a ``JobStore`` keeps of jobs: made once, got, found by their keys, listed and counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sfumato.core.charges import Charge
from sfumato.core.errors import Conflict, IdempotencyConflict, InvalidRequest, NotFound
from sfumato.core.job import Job, JobStatus
from sfumato.core.keys import Usage
from sfumato.core.ports import JobStore
from tests.contract.jobs import StoreSuite, claimed, kinds, new_job


class JobRecordsContract(StoreSuite):
    """Inherited by :class:`~tests.contract.job_store.JobStoreContract`."""

    async def test_a_job_comes_back_as_it_was_made(self, store: JobStore) -> None:
        job = new_job(
            prompt="schön \N{SNOWMAN}", seed=2**64 - 1, metadata={"a": [1, None]}, priority=-3
        )
        assert await store.create(job) == job
        assert await store.get(job.id) == job
        assert await kinds(store, job) == ["queued"]

    async def test_an_unknown_job_is_not_found(self, store: JobStore) -> None:
        with pytest.raises(NotFound, match="nowhere"):
            await store.get("nowhere")
        with pytest.raises(NotFound):
            await store.cancel("nowhere", now=1)
        assert await store.events("nowhere") in ([], ())

    async def test_an_idempotency_key_makes_one_job(self, store: JobStore) -> None:
        first = new_job()
        await store.create(first, idempotency_key="k")
        again = await store.create(new_job(at=200), idempotency_key="k")
        assert again.id == first.id
        assert len((await store.list()).jobs) == 1
        with pytest.raises(IdempotencyConflict, match=first.id):
            await store.create(new_job(prompt="another"), idempotency_key="k")
        await store.create(new_job(prompt="another"), idempotency_key="l")
        assert len((await store.list()).jobs) == 2

    async def test_a_job_is_found_by_its_key(self, store: JobStore, elsewhere: JobStore) -> None:
        job = await store.create(new_job(), idempotency_key="k")
        await store.create(new_job())
        assert await elsewhere.find_by_key("k") == job
        assert await store.find_by_key("l") is None
        assert await store.find_by_key("") is None
        won = await claimed(store, job)
        await store.finish(job.id, won.attempt, status=JobStatus.CANCELED, now=102)
        assert await store.forget_finished(before=200) == [job.id]
        assert await store.find_by_key("k") is None

    async def test_many_at_once_with_one_key_make_one_job(self, store: JobStore) -> None:
        made = await asyncio.gather(
            *(store.create(new_job(), idempotency_key="k") for _ in range(20))
        )
        assert len({job.id for job in made}) == 1

    async def test_an_id_is_used_once(self, store: JobStore) -> None:
        job = await store.create(new_job())
        usurper = replace(new_job(prompt="another"), id=job.id)
        answers = await asyncio.gather(
            store.create(new_job()), store.create(usurper), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [Job, Conflict]
        assert await store.get(job.id) == job

    async def test_a_conflict_does_not_harm_its_neighbours(self, store: JobStore) -> None:
        await store.create(new_job(), idempotency_key="k")
        answers = await asyncio.gather(
            *(store.create(new_job(prompt=f"p{n}")) for n in range(10)),
            store.create(new_job(prompt="conflict"), idempotency_key="k"),
            *(store.create(new_job(prompt=f"q{n}")) for n in range(10)),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, IdempotencyConflict) for answer in answers) == 1
        assert len((await store.list()).jobs) == 21

    async def test_pages_go_from_new_to_old_without_gap_or_repeat(self, store: JobStore) -> None:
        jobs = [new_job(at=100.0 + n // 2) for n in range(7)]  # two share each moment
        for job in jobs:
            await store.create(job)
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.list(limit=3, cursor=cursor)
            seen += [job.id for job in page.jobs]
            cursor = page.cursor
            if cursor is None:
                break
        expected = sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)
        assert seen == [job.id for job in expected]

    async def test_jobs_have_owners_who_can_be_asked_for(self, store: JobStore) -> None:
        mine = replace(new_job(at=100), owner="k1")
        for job in (mine, replace(new_job(at=101), owner="k2"), new_job(at=102)):
            await store.create(job)
        assert await store.get(mine.id) == mine
        assert list((await store.list(owner="k1")).jobs) == [mine]
        assert list((await store.list(owner="k3")).jobs) == []

    async def test_what_a_key_uses_is_told(self, store: JobStore) -> None:
        old, ended, waiting = (
            replace(new_job(at=at, num_images=images), owner="k1")
            for at, images in ((100, 2), (200, 3), (300, 4))
        )
        for job in (old, ended, waiting, replace(new_job(at=300), owner="k2")):
            await store.create(job)
        for job in (old, ended):
            held = await claimed(store, job)
            await store.finish(
                job.id,
                held.attempt,
                status=JobStatus.SUCCEEDED,
                now=310,
                charge=Charge(2.5),
            )
        assert await store.usage("k1", since=200) == Usage(1, images=7, gpu_seconds=2.5)
        assert await store.usage("k1", since=301) == Usage(1)
        assert await store.usage("k3", since=0) == Usage()

    async def test_a_list_is_filtered_by_status(self, store: JobStore) -> None:
        queued, running = new_job(), new_job()
        await store.create(queued)
        await store.create(running)
        await claimed(store, running)
        assert [j.id for j in (await store.list(status=JobStatus.QUEUED)).jobs] == [queued.id]
        assert [j.id for j in (await store.list(status=JobStatus.RUNNING)).jobs] == [running.id]
        assert not (await store.list(status=JobStatus.FAILED)).jobs

    @pytest.mark.parametrize("cursor", ["", "x", "///", "bm90IGEgY3Vyc29y", "ÿ"])
    async def test_a_foreign_cursor_is_refused(self, store: JobStore, cursor: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await store.list(cursor=cursor)
        assert caught.value.field == "cursor"

    async def test_counts_and_places_in_the_queue(self, store: JobStore) -> None:
        assert (await store.counts("r")).queued == 0
        old, young = new_job(at=100), new_job(at=200)
        urgent, other = new_job(at=300, priority=5), new_job(at=50, runtime="other")
        for job in (young, old, urgent, other):
            await store.create(job)
        counts = await store.counts("r")
        assert (counts.queued, counts.running, counts.oldest_queued_at) == (3, 0, 100)
        ahead = [await store.queued_ahead(job) for job in (urgent, old, young, other)]
        assert ahead == [0, 1, 2, 0]
        await claimed(store, old)
        counts = await store.counts("r")
        assert (counts.queued, counts.running, counts.oldest_queued_at) == (2, 1, 200)
