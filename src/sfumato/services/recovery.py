"""What faults leave behind: expired leases, doorbells nobody heard, jobs past their keeping."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from sfumato.core.current import about
from sfumato.core.errors import SfumatoError, WorkerLost
from sfumato.core.job import AttemptOutcome, Job, JobError, JobStatus, checkpoint_prefix
from sfumato.core.ports import NO_MEASURES, Clock, ImageStore, JobQueue, JobStore, Measures
from sfumato.services.doorbell import ring, ring_for
from sfumato.services.leases import LeaseWatch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a job is tried.

    Attributes:
        max_failures: failed attempts after which the job is ``failed``.
        max_losses: lost attempts after which it is: a job that takes every worker down with it
            must end too, but a machine that vanishes is not the job's fault, so this is larger.
        first_backoff: seconds before the second attempt.
    """

    max_failures: int = 3
    max_losses: int = 8
    first_backoff: float = 1.0

    def backoff(self, failures: int) -> float:
        """Seconds before the attempt after ``failures`` failed ones: doubling, at most 60."""
        return min(60.0, self.first_backoff * 2.0 ** max(0, failures - 1))


class Recovery:
    """Sweeps the store. Several processes may sweep at once: every write is guarded by its token.

    Args:
        lease: seconds without a heartbeat after which an attempt is lost.
        retention: seconds for which finished jobs and their pictures are kept; None for ever.
        ring_again_after: seconds after which a queued job's doorbell is rung again.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        queue: JobQueue,
        images: ImageStore,
        clock: Clock,
        lease: float = 30.0,
        policy: RetryPolicy | None = None,
        retention: float | None = None,
        ring_again_after: float = 120.0,
        measures: Measures = NO_MEASURES,
    ) -> None:
        self._store = store
        self._queue = queue
        self._images = images
        self._clock = clock
        self._policy = policy or RetryPolicy()
        self._retention = retention
        self._ring_again_after = ring_again_after
        self._leases = LeaseWatch(lease)
        self._measures = measures

    async def run(self, *, interval: float) -> None:
        """Sweep every ``interval`` seconds until cancelled. An outage is waited out."""
        while True:
            await asyncio.sleep(interval)
            try:
                await self.sweep()
            except SfumatoError as error:
                log.warning("recovery could not sweep: %s", error)

    async def start(self) -> None:
        """After a start every queued job is rung for, whoever rang before."""
        now = self._clock.now()
        await self._ring_again(before=now, after=now, now=now)

    async def sweep(self) -> None:
        now, patience = self._clock.now(), self._ring_again_after
        for lease in self._leases.run_out(await self._store.leases(), now=self._clock.monotonic()):
            job = await self._store.get(lease.job_id)
            if job.attempt == lease.attempt:
                await self.lost(job, reason="the lease ran out")
        await self._ring_again(before=now - patience, after=now + patience, now=now)
        if self._retention is not None:
            for job_id in await self._store.forget_finished(before=now - self._retention):
                for prefix in (f"jobs/{job_id}/", checkpoint_prefix(job_id)):
                    await self._images.delete_prefix(prefix)

    async def worker_gone(self, worker: str, *, reason: str) -> None:
        """A worker is known to have ended: its jobs need not wait for their leases to run out."""
        for job in await self._store.held_by(worker):
            await self.lost(job, reason=reason)

    async def lost(self, job: Job, *, reason: str) -> None:
        """End an attempt whose worker vanished: queue the job again, or fail it at the limit."""
        now = self._clock.now()
        if job.losses + 1 >= self._policy.max_losses:
            error = WorkerLost(
                f"{job.losses + 1} workers were lost while they worked on this job; the last: "
                f"{reason}. The request is kept; redrive the job to try again."
            )
            await self._requeue(job, reason=reason, now=now)
            if await self._store.fail_queued(job.id, error=JobError.of(error), now=now):
                self._measures.ended(job.runtime, JobStatus.FAILED)
            return
        if await self._requeue(job, reason=reason, now=now):
            message = "job %s: attempt %d lost (%s); queued again"
            log.info(message, job.id, job.attempt, reason, extra=about(job))
            await ring(job, store=self._store, queue=self._queue)

    async def _requeue(self, job: Job, *, reason: str, now: float) -> bool:
        """What an earlier attempt has kept is still good for the next."""
        lost = await self._store.requeue(
            job.id,
            job.attempt,
            outcome=AttemptOutcome.LOST,
            reason=reason,
            now=now,
            checkpoint=job.checkpoint,
        )
        if lost:
            self._measures.attempt_failed(job.runtime, WorkerLost.code)
        return lost

    async def _ring_again(self, *, before: float, after: float, now: float) -> None:
        """``now`` lies between the two, so that this ends whatever the clock does meanwhile."""
        while jobs := await self._store.unrung(before=before, after=after):
            for job in jobs:
                await self._queue.ring(ring_for(job))
            await self._store.mark_rung([job.id for job in jobs], now=now)
