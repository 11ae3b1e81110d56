"""What every ``JobStore`` keeps. Inherit :class:`JobStoreContract` and give it a ``store``.

``elsewhere`` is the same store as another process would open it, where an adapter has such a thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sfumato.core.errors import Conflict, IdempotencyConflict, InvalidRequest, NotFound
from sfumato.core.events import EventKind, NewEvent
from sfumato.core.ids import new_job_id
from sfumato.core.job import (
    AttemptOutcome,
    ImageRecord,
    Job,
    JobError,
    JobStatus,
    Settings,
    Timings,
)
from sfumato.core.keys import Usage
from sfumato.core.ports import JobStore
from sfumato.core.request import GenerationRequest

SETTINGS = Settings("m", 64, 64, 64, 64, 4, 7.0, "euler", seed=2**64 - 1)
IMAGE = ImageRecord(0, "jobs/x/0.png", "image/png", 64, 64, 3, "ab" * 32, seed=2**64 - 1)


def new_job(at: float = 100.0, *, prompt: str = "a castle", runtime: str = "r", **more: Any) -> Job:
    request = GenerationRequest(prompt, **more)
    job_id = new_job_id(at)
    return Job(job_id, request, SETTINGS, runtime, JobStatus.QUEUED, created_at=at, rung_at=at)


async def claimed(store: JobStore, job: Job, *, worker: str = "w", at: float = 101.0) -> Job:
    won = await store.claim(job.id, worker=worker, now=at, lease_until=at + 30)
    assert won is not None
    return won


async def kinds(store: JobStore, job: Job) -> list[str]:
    return [event.kind.value for event in await store.events(job.id)]


class JobStoreContract:
    @pytest.fixture
    async def store(self) -> JobStore:
        raise NotImplementedError

    @pytest.fixture
    async def elsewhere(self, store: JobStore) -> JobStore:
        return store

    # -- create, get, list -----------------------------------------------------------------------

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
                timings=Timings(queued=9.0, loading=0.5, denoising=2.0, storing=9.0),
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

    # -- claims and tokens -----------------------------------------------------------------------

    async def test_one_of_many_claims_wins(self, store: JobStore, elsewhere: JobStore) -> None:
        job = await store.create(new_job())
        claims = await asyncio.gather(
            *(
                (store, elsewhere)[n % 2].claim(job.id, worker=f"w{n}", now=1, lease_until=2)
                for n in range(20)
            )
        )
        (won,) = [claim for claim in claims if claim is not None]
        assert (won.status, won.attempt, won.lease_until) == (JobStatus.RUNNING, 1, 2)
        assert await store.get(job.id) == won
        assert await kinds(store, job) == ["queued", "started"]
        (attempt,) = await store.attempts(job.id)
        assert (attempt.number, attempt.worker, attempt.outcome) == (1, won.worker, None)

    async def test_only_a_queued_job_can_be_claimed(self, store: JobStore) -> None:
        assert await store.claim("nowhere", worker="w", now=1, lease_until=2) is None
        job = await claimed(store, await store.create(new_job()))
        await store.finish(job.id, 1, status=JobStatus.SUCCEEDED, now=2)
        assert await store.claim(job.id, worker="w", now=3, lease_until=4) is None

    async def test_a_stale_token_changes_nothing(self, store: JobStore) -> None:
        job = await claimed(store, await store.create(new_job()))
        await store.requeue(job.id, 1, outcome=AttemptOutcome.LOST, reason="gone", now=2)
        await claimed(store, job, worker="w2", at=3)
        before, events = await store.get(job.id), await store.events(job.id)
        step = NewEvent(EventKind.STEP, 4, {"step": 1, "steps": 2})
        assert not await store.extend_lease(job.id, 1, lease_until=1e9)
        assert not await store.append(job.id, 1, [step])
        assert not await store.finish(job.id, 1, status=JobStatus.SUCCEEDED, now=4)
        assert not await store.requeue(
            job.id, 1, outcome=AttemptOutcome.FAILED, reason="late", now=4
        )
        assert await store.get(job.id) == before
        assert await store.events(job.id) == events

    async def test_a_finished_attempt_takes_no_more_writes(self, store: JobStore) -> None:
        job = await claimed(store, await store.create(new_job()))
        assert await store.finish(job.id, 1, status=JobStatus.SUCCEEDED, now=2)
        assert not await store.finish(job.id, 1, status=JobStatus.FAILED, now=3)
        assert not await store.extend_lease(job.id, 1, lease_until=9)
        assert (await store.get(job.id)).status is JobStatus.SUCCEEDED
        assert (await kinds(store, job)).count("succeeded") == 1

    async def test_a_success_keeps_what_it_is_told(self, store: JobStore) -> None:
        job = await store.create(new_job())
        await claimed(store, job)
        timings = Timings(1, 2, 3, 4, 5)
        assert await store.finish(
            job.id,
            1,
            status=JobStatus.SUCCEEDED,
            now=110,
            images=[IMAGE],
            timings=timings,
            notes=["n1", "n1"][:1],
        )
        done = await store.get(job.id)
        assert (done.images, done.timings, done.notes) == ((IMAGE,), timings, ("n1",))
        assert (done.finished_at, done.lease_until) == (110, None)
        (attempt,) = await store.attempts(job.id)
        assert (attempt.outcome, attempt.ended_at) == (AttemptOutcome.SUCCEEDED, 110)
        assert (await store.events(job.id))[-1].data == {"images": 1}

    async def test_a_failure_keeps_its_reason(self, store: JobStore) -> None:
        job = await claimed(store, await store.create(new_job()))
        error = JobError("out_of_memory", "Too large.")
        await store.finish(job.id, 1, status=JobStatus.FAILED, now=9, error=error)
        failed = await store.get(job.id)
        assert (failed.status, failed.error, failed.failures) == (JobStatus.FAILED, error, 1)
        last = (await store.events(job.id))[-1]
        assert (last.kind, last.data["code"]) == (EventKind.FAILED, "out_of_memory")

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

    # -- other ways out of running ---------------------------------------------------------------

    @pytest.mark.parametrize(
        ("outcome", "failures", "losses"),
        [
            (AttemptOutcome.FAILED, 1, 0),
            (AttemptOutcome.LOST, 0, 1),
            (AttemptOutcome.RELEASED, 0, 0),
        ],
    )
    async def test_a_requeued_job_waits_again_with_its_counts(
        self, store: JobStore, outcome: AttemptOutcome, failures: int, losses: int
    ) -> None:
        job = await claimed(store, await store.create(new_job()))
        assert await store.requeue(
            job.id, 1, outcome=outcome, reason="because", now=5, checkpoint="jobs/x/checkpoint/"
        )
        waiting = await store.get(job.id)
        assert waiting.status is JobStatus.QUEUED
        assert (waiting.failures, waiting.losses) == (failures, losses)
        assert (waiting.lease_until, waiting.worker, waiting.rung_at) == (None, None, 5)
        assert waiting.checkpoint == "jobs/x/checkpoint/"
        assert (await store.events(job.id))[-1].data == {"reason": "because"}
        assert (await claimed(store, job)).attempt == 2
        first, _ = await store.attempts(job.id)
        assert (first.outcome, first.reason, first.ended_at) == (outcome, "because", 5)

    async def test_a_requeued_job_whose_cancel_was_asked_for_is_canceled(
        self, store: JobStore
    ) -> None:
        job = await claimed(store, await store.create(new_job()))
        await store.cancel(job.id, now=3)
        await store.requeue(job.id, 1, outcome=AttemptOutcome.LOST, reason="gone", now=5)
        assert (await store.get(job.id)).status is JobStatus.CANCELED

    async def test_a_queued_job_is_canceled_at_once(self, store: JobStore) -> None:
        job = await store.create(new_job())
        assert (await store.cancel(job.id, now=5)).status is JobStatus.CANCELED
        assert (await store.cancel(job.id, now=6)).finished_at == 5
        assert await kinds(store, job) == ["queued", "canceled"]
        assert await store.claim(job.id, worker="w", now=7, lease_until=8) is None

    async def test_a_running_job_is_asked_to_stop_once(self, store: JobStore) -> None:
        job = await claimed(store, await store.create(new_job()))
        for _ in range(2):
            asked = await store.cancel(job.id, now=5)
            assert (asked.status, asked.cancel_requested) == (JobStatus.RUNNING, True)
        assert (await kinds(store, job)).count("canceling") == 1
        assert await store.finish(job.id, 1, status=JobStatus.CANCELED, now=6)

    async def test_a_finished_job_is_not_canceled(self, store: JobStore) -> None:
        job = await claimed(store, await store.create(new_job()))
        await store.finish(job.id, 1, status=JobStatus.SUCCEEDED, now=2)
        assert (await store.cancel(job.id, now=3)).status is JobStatus.SUCCEEDED

    async def test_only_a_job_that_nobody_holds_is_failed_from_outside(
        self, store: JobStore
    ) -> None:
        job, error = await store.create(new_job()), JobError("worker_lost", "Gone.")
        await claimed(store, job)
        assert not await store.fail_queued(job.id, error=error, now=2)
        await store.requeue(job.id, 1, outcome=AttemptOutcome.LOST, reason="x", now=3)
        assert await store.fail_queued(job.id, error=error, now=4)
        assert (await store.get(job.id)).error == error

    async def test_a_failed_job_can_be_redriven(self, store: JobStore) -> None:
        job = await claimed(store, await store.create(new_job()))
        error = JobError("engine_failure", "No.")
        assert await store.redrive(job.id, now=2) is None
        await store.cancel(job.id, now=2)
        await store.finish(job.id, 1, status=JobStatus.FAILED, now=3, error=error)
        again = await store.redrive(job.id, now=4)
        assert again is not None
        assert (again.status, again.failures, again.error) == (JobStatus.QUEUED, 0, None)
        assert (again.finished_at, again.cancel_requested) == (None, False)
        assert (await claimed(store, job)).attempt == 2

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
