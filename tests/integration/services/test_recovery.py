"""What recovery does about expired leases, silent doorbells and old jobs."""

from __future__ import annotations

import pytest

from sfumato.core.errors import JobFinished, NotFound
from sfumato.core.job import AttemptOutcome, JobStatus
from sfumato.services.recovery import Recovery, RetryPolicy
from tests.support.parts import House, open_house


async def _claimed_and_abandoned(house: House, *, lease_until: float = 1.0) -> str:
    job = await house.submit()
    await house.store.claim(job.id, worker="gone", now=house.clock.now(), lease_until=lease_until)
    return job.id


async def test_an_expired_lease_rings_again() -> None:
    async with open_house() as house:
        job_id = await _claimed_and_abandoned(house)
        await house.recovery.sweep()
        job = await house.tracking.get(job_id)
        assert (job.status, job.losses, job.failures) == (JobStatus.QUEUED, 1, 0)
        async with house.working():
            done = await house.finished(job)
        assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 2)


async def test_after_a_start_a_worker_has_an_interval_to_renew_its_lease() -> None:
    """It may have run out because the service was away, while a worker elsewhere drew on."""
    async with open_house() as house:
        renewed, abandoned = [await _claimed_and_abandoned(house) for _ in range(2)]
        await house.recovery.start()
        until = house.clock.now() + 60
        assert await house.store.extend_lease(renewed, 1, lease_until=until)
        await house.recovery.sweep()
        assert (await house.tracking.get(renewed)).status is JobStatus.RUNNING
        assert (await house.tracking.get(abandoned)).status is JobStatus.QUEUED


async def test_a_lease_that_holds_is_left_alone() -> None:
    async with open_house() as house:
        job_id = await _claimed_and_abandoned(house, lease_until=house.clock.now() + 60)
        await house.recovery.sweep()
        assert (await house.tracking.get(job_id)).status is JobStatus.RUNNING


async def test_a_job_that_takes_every_worker_with_it_fails_with_the_reason() -> None:
    async with open_house() as house:
        recovery = Recovery(
            store=house.store,
            queue=house.queue,
            images=house.images,
            clock=house.clock,
            policy=RetryPolicy(max_losses=3),
        )
        job = await house.submit()
        for _ in range(3):
            await house.store.claim(job.id, worker="w", now=1, lease_until=house.clock.now() + 60)
            await recovery.worker_gone("w", reason="worker w was killed by SIGSEGV")
        failed = await house.tracking.get(job.id)
        assert failed.error is not None
        assert (failed.status, failed.error.code) == (JobStatus.FAILED, "worker_lost")
        assert "SIGSEGV" in failed.error.message
        outcomes = [attempt.outcome for attempt in await house.tracking.attempts(job.id)]
        assert outcomes == [AttemptOutcome.LOST] * 3

        async with house.working():
            await house.tracking.redrive(job.id)
            assert (await house.finished(failed)).status is JobStatus.SUCCEEDED


async def test_only_a_failed_job_is_redriven() -> None:
    async with open_house() as house:
        job = await house.submit()
        with pytest.raises(JobFinished, match="queued"):
            await house.tracking.redrive(job.id)
        with pytest.raises(NotFound):
            await house.tracking.redrive("nowhere")


async def test_old_jobs_go_with_their_pictures() -> None:
    async with open_house() as house:
        async with house.working():
            job = await house.finished(await house.submit())
        keep = Recovery(
            store=house.store,
            queue=house.queue,
            images=house.images,
            clock=house.clock,
            retention=3600,
        )
        await keep.sweep()
        assert (await house.images.get(job.images[0].key)).data
        forget = Recovery(
            store=house.store,
            queue=house.queue,
            images=house.images,
            clock=house.clock,
            retention=0,
        )
        await forget.sweep()
        with pytest.raises(NotFound):
            await house.images.get(job.images[0].key)
        with pytest.raises(NotFound):
            await house.tracking.get(job.id)


async def test_a_waiting_job_says_why() -> None:
    async with open_house() as house:
        first, second = await house.submit(), await house.submit()
        assert await house.tracking.waiting_reason(second) == "queued behind 1"
        assert await house.tracking.waiting_reason(first) == "waiting for a worker to answer"
        async with house.working():
            done = await house.finished(first)
        assert await house.tracking.waiting_reason(done) is None
