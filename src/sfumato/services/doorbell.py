"""Ringing for jobs that are safe in the store: what goes wrong here costs a wait, never a job."""

from __future__ import annotations

import contextlib
import logging

from sfumato.core.current import about
from sfumato.core.errors import Unavailable
from sfumato.core.job import Job
from sfumato.core.ports import JobQueue, JobStore, Ring

log = logging.getLogger(__name__)


def ring_for(job: Job) -> Ring:
    """The message that tells a runtime's workers of a job."""
    return Ring(
        job_id=job.id,
        runtime=job.runtime,
        attempt=job.attempt,
        priority=job.request.priority,
        traceparent=job.traceparent,
    )


async def ring(job: Job, *, store: JobStore, queue: JobQueue, delay: float = 0.0) -> None:
    """Ring for a queued job. While the queue does not answer, the job is marked as never rung for:
    recovery does it at its next sweep."""
    try:
        await queue.ring(ring_for(job), delay=delay)
    except Unavailable as error:
        message = "job %s waits; its doorbell could not be rung: %s"
        log.warning(message, job.id, error, extra=about(job))
        with contextlib.suppress(Unavailable):
            await store.mark_rung([job.id], now=0.0)
