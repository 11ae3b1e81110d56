"""A worker's side of a job: claim, heartbeat, progress, pictures, the end. All guarded by the token.

``Execution`` is the :class:`~sfumato.core.ports.Assignments` of a worker that sits beside the
store; a remote worker has the same methods over HTTPS.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.core.charges import Prices
from sfumato.core.current import about
from sfumato.core.errors import InvalidRequest, NotFound, Unavailable
from sfumato.core.events import EventKind, NewEvent
from sfumato.core.job import (
    AttemptOutcome,
    ImageRecord,
    Job,
    JobError,
    JobStatus,
    Timings,
    checkpoint_key,
    checkpoint_prefix,
    image_key,
    recipe_key,
)
from sfumato.core.ports import (
    NO_MEASURES,
    NO_TRACES,
    Assignment,
    Clock,
    Delivery,
    EncodedImage,
    ImageStore,
    JobQueue,
    JobStore,
    Measures,
    ModelCatalog,
    Progress,
    Revocation,
    Traces,
)
from sfumato.core.request import canonical_json
from sfumato.services.ending import Ending
from sfumato.services.held_rings import HeldRings
from sfumato.services.inputs import read_inputs
from sfumato.services.models import models_of
from sfumato.services.recovery import RetryPolicy
from sfumato.services.result_cache import ResultCache
from sfumato.services.watching import JobWatcher

log = logging.getLogger(__name__)


class Execution:
    """Assignments straight from the store and the queue.

    Args:
        worker: this worker's name, unique among all workers.
        runtimes: the pools it works for.
        lease: seconds for which an attempt is ours without a heartbeat.
        reads_inputs: whether assignments hold their pictures' files; who passes them on to a
            worker elsewhere needs none.
        results: remembers what jobs have drawn; None: nobody does.
        prices: what an hour of each runtime's GPUs costs.
    """

    def __init__(
        self,
        *,
        worker: str,
        runtimes: Sequence[str],
        store: JobStore,
        queue: JobQueue,
        images: ImageStore,
        catalog: ModelCatalog,
        watcher: JobWatcher,
        clock: Clock,
        lease: float = 30.0,
        policy: RetryPolicy | None = None,
        reads_inputs: bool = True,
        results: ResultCache | None = None,
        prices: Prices | None = None,
        traces: Traces = NO_TRACES,
        measures: Measures = NO_MEASURES,
    ) -> None:
        self._worker = worker
        self._runtimes = runtimes
        self._store = store
        self._queue = queue
        self._images = images
        self._catalog = catalog
        self._watcher = watcher
        self._clock = clock
        self._lease = lease
        self._policy = policy or RetryPolicy()
        self._reads_inputs = reads_inputs
        self._results = results
        self._traces = traces
        self._rings = HeldRings()
        self._ending = Ending(
            store=store,
            queue=queue,
            images=images,
            clock=clock,
            rings=self._rings,
            prices=prices or {},
            measures=measures,
        )

    async def next(self, *, timeout: float) -> Assignment | None:
        """Wait for a ring and claim its job. A claim that loses is acknowledged and forgotten."""
        deadline = self._clock.monotonic() + timeout
        while True:
            remaining = max(0.0, deadline - self._clock.monotonic())
            delivery = await self._queue.receive(
                self._runtimes, visibility=self._lease, timeout=remaining
            )
            if delivery is None:
                return None
            assignment = await self._claim_or_give_back(delivery)
            if assignment is not None:
                return assignment

    async def _claim_or_give_back(self, delivery: Delivery) -> Assignment | None:
        """Claim the job; a claim won while the caller gave up goes straight back."""
        claim = asyncio.ensure_future(self._claim(delivery))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            # Nothing may come in the way of the cancellation: whoever stops us waits for it.
            try:
                assignment = await claim
                if assignment is not None:
                    reason = "its worker stopped before it began"
                    await self.release(assignment, reason=reason, checkpoint={})
            except Unavailable as error:
                log.warning("a claim under way is left to its lease: %s", error)
            raise

    async def _claim(self, delivery: Delivery) -> Assignment | None:
        now = self._clock.now()
        job = await self._store.claim(
            delivery.ring.job_id, worker=self._worker, now=now, lease_until=now + self._lease
        )
        if job is None:
            await delivery.ack()
            return None
        self._rings.hold(job, delivery)
        self._trace_wait(job, until=now)
        try:
            # Added after this worker looked last, perhaps, but before the job was made.
            model, extras = await models_of(self._catalog, job)
            inputs = await read_inputs(self._images, job) if self._reads_inputs else {}
        except InvalidRequest as error:
            # It was there when the job was made: deleted since, or this worker lacks it.
            await self._fail(job, JobError.of(error), retryable=False)
            return None
        except (NotFound, Unavailable) as error:
            await self._fail(job, JobError.of(error), retryable=True)
            return None
        checkpoint = await self._read_checkpoint(job)
        return Assignment(job, model, checkpoint, extras, inputs)

    def _trace_wait(self, job: Job, *, until: float) -> None:
        """As a span that is over: nobody was there to see it begin."""
        since = job.created_at if job.attempt == 1 else job.rung_at
        attributes = {"sfumato.job": job.id, "sfumato.runtime": job.runtime}
        waited = self._traces.span(
            "queued", parent=job.traceparent, attributes=attributes, at=min(since, until)
        )
        waited.end(at=until)

    async def _read_checkpoint(self, job: Job) -> dict[int, bytes]:
        if job.checkpoint is None:
            return {}
        slots = {}
        for index in range(job.request.num_images):
            try:
                slots[index] = (await self._images.get(checkpoint_key(job.id, index))).data
            except (NotFound, Unavailable) as error:
                message = "job %s: image %d starts at its first step (%s)"
                log.info(message, job.id, index, error, extra=about(job))
        return slots

    async def extend(self, assignment: Assignment) -> bool:
        job = assignment.job
        held = await self._store.extend_lease(
            job.id, job.attempt, lease_until=self._clock.now() + self._lease
        )
        if held:
            await self._rings.extend(job, self._lease)
        else:
            await self._rings.settle(job)  # whoever took the attempt away has rung anew
        return held

    async def revoked(self, assignment: Assignment) -> Revocation:
        job_id, token = assignment.job.id, assignment.job.attempt
        with self._watcher.subscribe(job_id) as changed:
            while True:
                changed.clear()
                try:
                    job = await self._store.get(job_id)
                except NotFound:
                    return Revocation.LOST
                if job.attempt != token or job.status is not JobStatus.RUNNING:
                    return Revocation.LOST
                if job.cancel_requested:
                    return Revocation.CANCELED
                await changed.wait()

    async def loading(
        self, assignment: Assignment, *, fetched: tuple[int, int] | None = None
    ) -> None:
        data: dict[str, Any] = {"model": assignment.model.name}
        if fetched is not None:
            data |= {"bytes_done": fetched[0], "bytes_total": fetched[1]}
        await self._append(assignment, EventKind.LOADING, data)

    async def report(self, assignment: Assignment, progress: Progress) -> None:
        data: dict[str, Any] = {"step": progress.step, "steps": progress.steps}
        if progress.preview is not None:
            data |= {"preview": progress.preview, "image": progress.preview_image}
        await self._append(assignment, EventKind.STEP, data)

    async def store(self, assignment: Assignment, image: EncodedImage) -> ImageRecord:
        request = assignment.job.request
        key = image_key(assignment.job.id, image.index, request.output_format)
        await self._images.put(key, image.data, media_type=image.media_type)
        try:
            await self.stored(assignment, image.index)
        except Unavailable as error:
            # Tried again it might be told twice, and the job's end tells of every picture anyway.
            message = "a picture of job %s was not reported: %s"
            log.warning(message, assignment.job.id, error, extra=about(assignment.job))
        return image.stored_at(key)

    async def complete(
        self,
        assignment: Assignment,
        images: Sequence[ImageRecord],
        *,
        timings: Timings,
        notes: Sequence[str],
        recipe: Mapping[str, object],
        gpu_seconds: float | None = None,
    ) -> bool:
        job = assignment.job
        spent = timings.loading + timings.denoising if gpu_seconds is None else gpu_seconds
        charge = self._ending.charge(job, spent)
        await self._images.put(
            recipe_key(job.id), canonical_json(recipe).encode(), media_type="application/json"
        )
        finished = await self._ending.end(
            job, JobStatus.SUCCEEDED, charge, images=images, timings=timings, notes=notes
        )
        if finished and self._results is not None:
            await self._results.keep(job, images, recipe)
        return finished

    async def fail(
        self,
        assignment: Assignment,
        error: JobError,
        *,
        retryable: bool,
        gpu_seconds: float = 0.0,
    ) -> bool:
        job = assignment.job
        return await self._fail(job, error, retryable=retryable, gpu_seconds=gpu_seconds)

    async def _fail(
        self, job: Job, error: JobError, *, retryable: bool, gpu_seconds: float = 0.0
    ) -> bool:
        charge, failures = self._ending.charge(job, gpu_seconds), job.failures + 1
        if retryable and failures < self._policy.max_failures:
            return await self._ending.queue_again(
                job,
                AttemptOutcome.FAILED,
                charge,
                reason=f"{error.code}: {error.message}",
                code=error.code,
                delay=self._policy.backoff(failures),
            )
        return await self._ending.end(job, JobStatus.FAILED, charge, error=error)

    async def canceled(self, assignment: Assignment, *, gpu_seconds: float = 0.0) -> bool:
        job = assignment.job
        return await self._ending.end(
            job, JobStatus.CANCELED, self._ending.charge(job, gpu_seconds)
        )

    async def release(
        self,
        assignment: Assignment,
        *,
        reason: str,
        checkpoint: Mapping[int, bytes],
        gpu_seconds: float = 0.0,
    ) -> bool:
        job = assignment.job
        for index, blob in checkpoint.items():
            await self._images.put(
                checkpoint_key(job.id, index), blob, media_type="application/octet-stream"
            )
        return await self.hand_over(
            assignment, reason=reason, resumable=bool(checkpoint), gpu_seconds=gpu_seconds
        )

    async def hand_over(
        self, assignment: Assignment, *, reason: str, resumable: bool, gpu_seconds: float = 0.0
    ) -> bool:
        """:meth:`release`, once the slots that another worker can resume are in the store."""
        job = assignment.job
        return await self._ending.queue_again(
            job,
            AttemptOutcome.RELEASED,
            self._ending.charge(job, gpu_seconds),
            reason=reason,
            checkpoint=checkpoint_prefix(job.id) if resumable else job.checkpoint,
        )

    async def stored(self, assignment: Assignment, index: int) -> None:
        """Tell watchers that a picture is in the store."""
        await self._append(assignment, EventKind.IMAGE, {"index": index})

    async def let_go(self) -> None:
        """Give back every ring that is held; the jobs are left to their leases. A ring of a job
        that is still running comes once more, and its claim loses."""
        await self._rings.let_go()

    async def _append(
        self, assignment: Assignment, kind: EventKind, data: Mapping[str, Any]
    ) -> None:
        event = NewEvent(kind, self._clock.now(), data)
        await self._store.append(assignment.job.id, assignment.job.attempt, [event])
