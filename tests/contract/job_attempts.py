"""What a ``JobStore`` keeps of attempts: one claim wins, a stale token writes nothing, and how a job ends."""

from __future__ import annotations

import asyncio

import pytest

from sfumato.core.events import EventKind, NewEvent
from sfumato.core.job import AttemptOutcome, JobError, JobStatus, Timings
from sfumato.core.ports import JobStore
from tests.contract.jobs import IMAGE, StoreSuite, claimed, kinds, new_job


class JobAttemptsContract(StoreSuite):
    """Inherited by :class:`~tests.contract.job_store.JobStoreContract`."""

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
