"""From a request to a queued job."""

from __future__ import annotations

import copy
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from sfumato.core.costs import check_cost, check_sides
from sfumato.core.current import about, current, prompts_log, working_on
from sfumato.core.errors import InvalidRequest, Overloaded, SfumatoError
from sfumato.core.finding import embedding_notes, taught_words
from sfumato.core.ids import new_job_id
from sfumato.core.job import Job, JobStatus
from sfumato.core.keys import TRUSTED, Caller, Scope
from sfumato.core.models import ModelInfo, ModelKind, notes_for, settle
from sfumato.core.ports import (
    NO_MEASURES,
    NO_TRACES,
    Clock,
    ImageStore,
    JobQueue,
    JobStore,
    Measures,
    ModelCatalog,
    SpanKind,
    Traces,
    WebhookStore,
)
from sfumato.core.request import Determinism, GenerationRequest, Limits
from sfumato.core.runtimes import Runtime, choose_runtime
from sfumato.core.safety import SafetyRule
from sfumato.core.webhooks import Webhook
from sfumato.services.access import Quotas
from sfumato.services.announcing import announced
from sfumato.services.doorbell import ring
from sfumato.services.inputs import (
    check_inputs,
    forget_inputs,
    forget_unless_created,
    store_inputs,
)
from sfumato.services.models import find_beside, find_model
from sfumato.services.result_cache import Remembered, ResultCache

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
        determinism: of requests that name none.
        results: what jobs have drawn before; None: every job is drawn.
        safety: what becomes of unsafe pictures.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        queue: JobQueue,
        images: ImageStore,
        catalog: ModelCatalog,
        runtimes: Sequence[Runtime],
        clock: Clock,
        hooks: WebhookStore,
        limits: Limits | None = None,
        max_queued: int = 10_000,
        determinism: Determinism = Determinism.FAST,
        results: ResultCache | None = None,
        safety: SafetyRule | None = None,
        traces: Traces = NO_TRACES,
        measures: Measures = NO_MEASURES,
    ) -> None:
        self._store = store
        self._queue = queue
        self._images = images
        self._catalog = catalog
        self._runtimes = runtimes
        self._clock = clock
        self._limits = limits or Limits()
        self._max_queued = max_queued
        self._determinism = determinism
        self._hooks = hooks
        self._quotas = Quotas(store=store, clock=clock)
        self._results = results
        self._safety = safety or SafetyRule()
        self._traces = traces
        self._measures = measures
        self._caller = TRUSTED
        self._queued: dict[str, _Queued] = {}

    def for_caller(self, caller: Caller) -> Self:
        """The same for one caller: within what his key allows, in his name."""
        his = copy.copy(self)
        his._caller = caller  # noqa: SLF001 - its own
        return his

    async def submit(
        self,
        request: GenerationRequest,
        *,
        inputs: Mapping[str, bytes] | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        webhook: Webhook | None = None,
    ) -> Job:
        """Make a job of a request; with a known idempotency key, answer the job made first.

        Once this returns the job is on stable storage, and so are its pictures.

        Args:
            inputs: the files of the pictures that the request names, by their SHA-256.
            traceparent: of the span that it is part of; None: the current one.
            webhook: where to tell what becomes of it; None: where the caller's key says.

        Raises:
            InvalidRequest: or a kind of it, before anything is written.
            Forbidden: the caller's key does not allow it.
            IdempotencyConflict: the key was used for another request.
            Overloaded: too many jobs wait, or the caller's key has used what it may; nothing is
                written.
            Unavailable: the store does not answer; nothing is written.
        """
        parent = traceparent or current().traceparent
        with self._traces.span("submit", parent=parent, kind=SpanKind.PRODUCER) as span:
            traceparent = span.traceparent or parent
            with working_on(traceparent=traceparent):
                job = await self._submit(
                    request, inputs or {}, idempotency_key, traceparent, webhook
                )
            span.set(
                {
                    "sfumato.job": job.id,
                    "sfumato.runtime": job.runtime,
                    "sfumato.model": job.settings.model,
                }
            )
        return job

    async def _submit(
        self,
        request: GenerationRequest,
        inputs: Mapping[str, bytes],
        idempotency_key: str | None,
        traceparent: str | None,
        webhook: Webhook | None,
    ) -> Job:
        self._caller.check(Scope.GENERATE)
        check_inputs(request, inputs)
        model = await find_model(self._catalog, request.model)
        job = self._prepare(request, model, traceparent)
        self._caller.check_use(model=model.name, runtime=job.runtime)
        extras = await self._check_beside(job, model)
        found = None if self._results is None else await self._results.find(job, model, extras)
        if found is None:
            await self._admit(job.runtime)
        hook = webhook if self._caller.key is None else webhook or self._caller.key.webhook
        async with self._quotas.admitting(self._caller, images=request.num_images):
            async with announced(self._hooks, job, hook) as announce:
                kept = await self._create(job, inputs, idempotency_key, found)
                announce.keep(kept)
            return kept

    async def _create(
        self,
        job: Job,
        inputs: Mapping[str, bytes],
        idempotency_key: str | None,
        found: Remembered | None,
    ) -> Job:
        copies = None
        if self._results is not None and found is not None:
            copies = await self._results.copy(job, found)
        await store_inputs(self._images, job, inputs)
        try:
            key = None if idempotency_key is None else self._caller.scoped(idempotency_key)
            kept = await self._store.create(job, idempotency_key=key)
        except SfumatoError:
            await forget_unless_created(self._images, self._store, job)
            raise
        if kept.id != job.id:
            await forget_inputs(self._images, job)
            if self._results is not None and copies is not None:
                await self._results.forget(job)
            return kept
        self._measures.submitted(kept.runtime)
        prompts = kept.request.prompt, kept.request.negative_prompt
        prompts_log.info("job %s: %r, without %r", kept.id, *prompts, extra=about(kept))
        if self._results is not None and found is not None and copies is not None:
            kept = await self._results.complete(kept, found, copies)
            if kept.status.finished:
                self._measures.ended(kept.runtime, kept.status, images=len(kept.images))
                return kept
        await ring(kept, store=self._store, queue=self._queue)
        return kept

    def _prepare(
        self, request: GenerationRequest, model: ModelInfo, traceparent: str | None
    ) -> Job:
        runtime = choose_runtime(self._runtimes, name=request.runtime, model=model.name)
        # What was asked is looked at first: a side that only follows from the other is not at fault.
        check_sides(self._limits, width=request.width, height=request.height)
        settings = settle(
            request,
            model,
            random_seed=secrets.randbits(_RANDOM_SEED_BITS),
            determinism=self._determinism,
        )
        check_cost(self._limits, request, settings)
        safety = self._safety.settled(model.name, carries_checker=model.carries_checker)
        settings = replace(settings, safety=safety.mode, safety_checker=safety.checker)
        now, weights = self._clock.now(), self._catalog.list()
        return Job(
            id=new_job_id(now),
            request=request,
            settings=settings,
            runtime=runtime.name,
            status=JobStatus.QUEUED,
            created_at=now,
            rung_at=now,
            notes=(
                *notes_for(request, settings, model, taught=taught_words(request, model, weights)),
                *embedding_notes(request, model, weights),
                *safety.notes,
            ),
            traceparent=traceparent,
            owner=self._caller.id,
        )

    async def _check_beside(self, job: Job, model: ModelInfo) -> tuple[ModelInfo, ...]:
        """What the job needs beside its model. Raises ``InvalidRequest`` where that is not to be
        had, and ``Forbidden`` where the caller's key is not for it."""
        extras = await find_beside(self._catalog, job, model)
        runtime = next(runtime for runtime in self._runtimes if runtime.name == job.runtime)
        for extra in extras:
            if extra.kind is not ModelKind.BASE:
                continue
            self._caller.check_use(model=extra.name, runtime=runtime.name)
            if not runtime.serves(extra.name):
                raise InvalidRequest(
                    f"The runtime {runtime.name!r} does not serve {extra.name!r}.",
                    field="refiner.model",
                    accepted=runtime.models,
                )
        return extras

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
