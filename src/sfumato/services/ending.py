"""How an attempt ends: in the store, in the book of costs, for its ring and its checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sfumato.core.charges import Charge, Prices, charge
from sfumato.core.current import about
from sfumato.core.errors import Unavailable
from sfumato.core.job import (
    AttemptOutcome,
    ImageRecord,
    Job,
    JobError,
    JobStatus,
    Timings,
    checkpoint_prefix,
)
from sfumato.core.ports import Clock, ImageStore, JobQueue, JobStore, Measures
from sfumato.services.doorbell import ring
from sfumato.services.held_rings import HeldRings

log = logging.getLogger(__name__)


class Ending:
    """Ends a worker's attempts, each under its token: one that is stale changes nothing."""

    def __init__(
        self,
        *,
        store: JobStore,
        queue: JobQueue,
        images: ImageStore,
        clock: Clock,
        rings: HeldRings,
        prices: Prices,
        measures: Measures,
    ) -> None:
        self._store = store
        self._queue = queue
        self._images = images
        self._clock = clock
        self._rings = rings
        self._prices = prices
        self._measures = measures

    def charge(self, job: Job, gpu_seconds: float) -> Charge:
        """What an attempt costs by the price of now, which no later one changes."""
        return charge(gpu_seconds, self._prices.get(job.runtime))

    async def end(
        self,
        job: Job,
        status: JobStatus,
        charge: Charge,
        *,
        images: Sequence[ImageRecord] = (),
        timings: Timings | None = None,
        notes: Sequence[str] = (),
        error: JobError | None = None,
    ) -> bool:
        """Whether the job has ended so, by this attempt; what was held for it is let go of anyway."""
        ended = await self._store.finish(
            job.id,
            job.attempt,
            status=status,
            now=self._clock.now(),
            images=images,
            error=error,
            timings=timings,
            notes=notes,
            charge=charge,
        )
        if ended:
            if error is not None:
                self._measures.attempt_failed(job.runtime, error.code)
            self._measures.spent(job.runtime, charge)
            self._measures.ended(job.runtime, status, images=len(images), timings=timings)
        await self._rings.settle(job)
        await self._forget_checkpoint(job)
        return ended

    async def queue_again(
        self,
        job: Job,
        outcome: AttemptOutcome,
        charge: Charge,
        *,
        reason: str,
        checkpoint: str | None = None,
        code: str | None = None,
        delay: float = 0.0,
    ) -> bool:
        """Whether the job waits for its next attempt. ``code``: of the error that ended this one."""
        queued = await self._store.requeue(
            job.id,
            job.attempt,
            outcome=outcome,
            reason=reason,
            now=self._clock.now(),
            checkpoint=checkpoint,
            charge=charge,
        )
        if queued:
            if code is not None:
                self._measures.attempt_failed(job.runtime, code)
            self._measures.spent(job.runtime, charge)
            await ring(job, store=self._store, queue=self._queue, delay=delay)
        await self._rings.settle(job)
        return queued

    async def _forget_checkpoint(self, job: Job) -> None:
        """Of a job that has ended, by us or by whoever took it away."""
        if job.checkpoint is None or not (await self._store.get(job.id)).status.finished:
            return
        try:
            await self._images.delete_prefix(checkpoint_prefix(job.id))
        except Unavailable as error:
            message = "job %s: its checkpoint is left in the store: %s"
            log.warning(message, job.id, error, extra=about(job))
