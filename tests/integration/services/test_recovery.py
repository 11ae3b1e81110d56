"""What recovery does about expired leases, silent doorbells and old jobs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sfumato.adapters.memory import MemoryJobQueue
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.errors import JobFinished, NotFound, Unavailable
from sfumato.core.job import AttemptOutcome, JobStatus, checkpoint_key
from sfumato.core.ports import Ring
from sfumato.services.recovery import Recovery, RetryPolicy
from tests.support.parts import House, open_house


@dataclass
class HeldClock:
    """A clock that goes as a test wants; ``offset`` makes its time of day a wrong one."""

    seconds: float = 1_000.0
    offset: float = 1e9

    def now(self) -> float:
        return self.seconds + self.offset

    def monotonic(self) -> float:
        return self.seconds


def _recovery(house: House, clock: HeldClock, *, lease: float = 30.0) -> Recovery:
    return Recovery(
        store=house.store, queue=house.queue, images=house.images, clock=clock, lease=lease
    )


async def _sweep_for(recovery: Recovery, clock: HeldClock, seconds: float) -> None:
    """Sweep every ten seconds."""
    end = clock.seconds + seconds
    while clock.seconds < end:
        await recovery.sweep()
        clock.seconds += 10.0
    await recovery.sweep()


async def _claimed_and_abandoned(house: House, *, lease_until: float = 1.0) -> str:
    job = await house.submit()
    await house.store.claim(job.id, worker="gone", now=house.clock.now(), lease_until=lease_until)
    return job.id


@pytest.mark.parametrize("lease_until", [1.0, 1e12], ids=["clock behind", "clock ahead"])
async def test_a_lease_that_nobody_renews_rings_again_whatever_the_clocks_say(
    lease_until: float,
) -> None:
    async with open_house() as house:
        clock = HeldClock()
        recovery = _recovery(house, clock)
        job_id = await _claimed_and_abandoned(house, lease_until=lease_until)
        await _sweep_for(recovery, clock, 20)
        assert (await house.tracking.get(job_id)).status is JobStatus.RUNNING
        clock.seconds += 10
        await recovery.sweep()
        job = await house.tracking.get(job_id)
        assert (job.status, job.losses, job.failures) == (JobStatus.QUEUED, 1, 0)
        async with house.working():
            done = await house.finished(job)
        assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 2)


async def test_a_renewed_lease_is_left_alone_though_our_clock_jumps() -> None:
    async with open_house() as house:
        clock = HeldClock()
        recovery = _recovery(house, clock)
        job_id = await _claimed_and_abandoned(house)
        for beat in range(10):
            clock.offset += 3600.0
            await _sweep_for(recovery, clock, 10)
            assert await house.store.extend_lease(job_id, 1, lease_until=2.0 + beat)
        assert (await house.tracking.get(job_id)).status is JobStatus.RUNNING


async def test_an_outage_is_not_the_workers_silence() -> None:
    """Neither could reach the store; when both can again, the worker must have a chance to."""
    async with open_house() as house:
        clock = HeldClock()
        recovery = _recovery(house, clock)
        job_id = await _claimed_and_abandoned(house)
        await recovery.sweep()
        clock.seconds += 600
        await recovery.sweep()
        assert (await house.tracking.get(job_id)).status is JobStatus.RUNNING


async def test_a_job_rung_for_by_a_wrong_clock_is_rung_for_again() -> None:
    async with open_house() as house:
        clock = HeldClock(offset=house.clock.now())
        job = await house.submit()
        delivery = await house.queue.receive(["default"], visibility=60, timeout=0)
        assert delivery is not None
        await delivery.ack()
        await house.store.mark_rung([job.id], now=clock.now() + 3600)
        await _recovery(house, clock).sweep()
        assert await house.queue.receive(["default"], visibility=60, timeout=0) is not None


async def test_a_doorbell_that_could_not_be_rung_is_rung_at_the_next_sweep() -> None:
    async with open_house(queue=_SilentOnce(SystemClock())) as house:
        await house.submit()
        assert (await house.queue.depth("default")).ready == 0
        await house.recovery.sweep()
        assert (await house.queue.depth("default")).ready == 1


async def test_a_lost_worker_takes_no_earlier_checkpoint_with_it() -> None:
    async with open_house() as house:
        job = await house.submit()
        first = await house.execution("w1").next(timeout=1)
        assert first is not None
        await house.execution("w1").release(first, reason="drained", checkpoint={0: b"latents"})
        second = await house.execution("w2").next(timeout=1)
        assert second is not None
        await house.recovery.worker_gone("w2", reason="killed")
        third = await house.execution("w3").next(timeout=1)
        assert third is not None
        assert (third.job.attempt, dict(third.checkpoint)) == (3, {0: b"latents"})

        # Nobody needs it once the job has ended, however it did.
        await house.tracking.cancel(job.id)
        await house.execution("w3").canceled(third)
        with pytest.raises(NotFound):
            await house.images.get(checkpoint_key(job.id, 0))


class _SilentOnce(MemoryJobQueue):
    """A queue that does not answer the first time."""

    answers = False

    async def ring(self, ring: Ring, *, delay: float = 0.0) -> None:
        if not self.answers:
            self.answers = True
            raise Unavailable("The queue does not answer.")
        await super().ring(ring, delay=delay)


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
