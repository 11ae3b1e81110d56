"""From a request to a queued job."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.core.errors import Overloaded
from sfumato.core.ids import new_job_id
from sfumato.core.job import Job, JobStatus
from sfumato.core.models import ModelInfo, notes_for, settle
from sfumato.core.ports import Clock, JobQueue, JobStore, ModelCatalog
from sfumato.core.request import GenerationRequest, Limits, check_cost, check_sides
from sfumato.core.runtimes import Runtime, choose_runtime
from sfumato.services.doorbell import ring
from sfumato.services.models import find_model

#: A random seed has 32 bits, so that it survives every client's idea of a number.
_RANDOM_SEED_BITS = 32


#: Seconds for which a count of the queued jobs is good.
_COUNT_SECONDS = 0.25


@dataclass(slots=True)
class _Queued:
    """How many jobs of a runtime are queued, as far as this process knows."""

    number: int = 0
    counted_at: float = -math.inf


class Submission:
    """Validates, admits, creates, rings: hop 2 of a request's life.

    Args:
        max_queued: queued jobs of one runtime beyond which new ones get ``Overloaded``.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        queue: JobQueue,
        catalog: ModelCatalog,
        runtimes: Sequence[Runtime],
        clock: Clock,
        limits: Limits | None = None,
        max_queued: int = 10_000,
    ) -> None:
        self._store = store
        self._queue = queue
        self._catalog = catalog
        self._runtimes = runtimes
        self._clock = clock
        self._limits = limits or Limits()
        self._max_queued = max_queued
        self._queued: dict[str, _Queued] = {}

    async def submit(
        self,
        request: GenerationRequest,
        *,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> Job:
        """Make a job of a request; with a known idempotency key, answer the job made first.

        Once this returns the job is on stable storage.

        Raises:
            InvalidRequest: or a kind of it, before anything is written.
            IdempotencyConflict: the key was used for another request.
            Overloaded: too many jobs wait; nothing is written.
            Unavailable: the store does not answer; nothing is written.
        """
        model = await find_model(self._catalog, request.model)
        job = self._prepare(request, model, traceparent)
        await self._admit(job.runtime)
        kept = await self._store.create(job, idempotency_key=idempotency_key)
        if kept.id == job.id:
            await ring(kept, store=self._store, queue=self._queue)
        return kept

    def _prepare(
        self, request: GenerationRequest, model: ModelInfo, traceparent: str | None
    ) -> Job:
        runtime = choose_runtime(self._runtimes, name=request.runtime, model=model.name)
        # What was asked is looked at first: a side that only follows from the other is not at fault.
        check_sides(self._limits, width=request.width, height=request.height)
        settings = settle(request, model, random_seed=secrets.randbits(_RANDOM_SEED_BITS))
        check_cost(
            self._limits,
            width=settings.width,
            height=settings.height,
            num_images=request.num_images,
            num_inference_steps=settings.num_inference_steps,
        )
        now = self._clock.now()
        return Job(
            id=new_job_id(now),
            request=request,
            settings=settings,
            runtime=runtime.name,
            status=JobStatus.QUEUED,
            created_at=now,
            rung_at=now,
            notes=notes_for(request, settings, model),
            traceparent=traceparent,
        )

    async def _admit(self, runtime: str) -> None:
        known = self._queued.setdefault(runtime, _Queued())
        now = self._clock.monotonic()
        # To count takes the longer the more there are, so that is done now and then; in between
        # every submission of ours counts as one more.
        if known.number >= self._max_queued or now - known.counted_at >= _COUNT_SECONDS:
            known.counted_at = now
            known.number = (await self._store.counts(runtime)).queued
        known.number += 1
        if known.number > self._max_queued:
            raise Overloaded(
                f"{known.number - 1} jobs wait for the runtime {runtime!r}, which is as many as this "
                "server accepts. Try again later; the jobs already accepted are kept.",
                retry_after=10.0,
            )
