"""One assignment from its claim to its end: reads the run's mailbox, reports to the services."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from sfumato.core.current import working_on
from sfumato.core.errors import StorageFull, Unavailable
from sfumato.core.job import ImageRecord, JobError, Timings
from sfumato.core.ports import Assignments, Attributes, Clock, ModelFiles, Revocation
from sfumato.worker.bringing import Bringing
from sfumato.worker.engine_thread import EngineThread
from sfumato.worker.run import (
    Admitted,
    Dropped,
    Exported,
    Failed,
    ImageReady,
    JobRun,
    Loading,
    ProgressMade,
    Report,
)

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: Seconds between the tries of a write that must not get lost while a part is away.
_RETRY_DELAYS = (0.1, 0.3, 1.0, 3.0, 5.0)


@dataclass(slots=True)
class Attendance:
    """Attends one run.

    Args:
        starting: seconds that this worker took to start while the job waited.
    """

    run: JobRun
    assignments: Assignments
    engine: EngineThread
    files: ModelFiles
    clock: Clock
    starting: float
    _bringing: Bringing | None = None
    #: Writes how a job ends that is stopped before it is done, once the engine has let go of it.
    _end: Callable[[], Awaitable[bool]] | None = None
    _loading: bool = False
    _admitted_at: float = 0.0
    _rendered_at: float = 0.0
    _records: dict[int, ImageRecord] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)
    _recipes: dict[int, object] = field(default_factory=dict)

    async def until_ended(self) -> None:
        """Admit the job to the batch and see it through; returns once it is no longer ours."""
        spans = self.run.spans
        with spans.attempt, working_on(traceparent=spans.traceparent, job=self.run.job_id):
            await self._see_through()

    async def _see_through(self) -> None:
        watch = asyncio.create_task(self._watch_revocation())
        bringing = self._bring()
        try:
            while not await self._handle():
                pass
        except Unavailable as error:
            # Every try failed. The attempt is left to its lease; recovery queues the job again.
            log.warning("job %s is given up by this worker: %s", self.run.job_id, error)
        finally:
            self.engine.drop(self.run)
            for task in (watch, bringing):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    def _bring(self) -> asyncio.Task[None] | None:
        """Admit the job, once its models are here; those that are on disk are never waited for."""
        assignment = self.run.assignment
        if not any(model.source for model in (assignment.model, *assignment.extras)):
            self.engine.admit(self.run)
            return None
        self._bringing = Bringing(self.run, self.files, self.assignments, self.engine.admit)
        return asyncio.create_task(self._bringing.until_cancelled())

    async def _watch_revocation(self) -> None:
        while True:
            try:
                self.run.post(await self.assignments.revoked(self.run.assignment))
            except Unavailable as error:
                log.warning("job %s is watched again: %s", self.run.job_id, error)
                await asyncio.sleep(_RETRY_DELAYS[2])
            else:
                return

    async def _handle(self) -> bool:
        """Carry out one report; True when the job has ended for this worker."""
        assignments, assignment = self.assignments, self.run.assignment
        match await self._next_report():
            case Loading():
                self._loading = True
                await self._tell_loading()
            case Admitted(at):
                self._admitted_at = at
            case ProgressMade():
                await self._report_progress()
            case ImageReady() as ready:
                return await self._keep(ready)
            case Failed(error):
                self.run.spans.attempt.fail(error.code)
                await self._finish(
                    lambda: assignments.fail(
                        assignment,
                        JobError.of(error),
                        retryable=error.retryable,
                        gpu_seconds=self.run.gpu_seconds,
                    )
                )
                return True
            case Exported(slots):
                reason = "its worker is shutting down"
                await self._finish(
                    lambda: assignments.release(
                        assignment,
                        reason=reason,
                        checkpoint=slots,
                        gpu_seconds=self.run.gpu_seconds,
                    )
                )
                return True
            case Revocation() as revocation:
                return self._revoked(revocation)
            case Dropped():
                if self._end is not None:
                    await self._finish(self._end)
                return True
        return False

    async def _next_report(self) -> Report:
        """What the engine had to say of a job that is being stopped no longer counts."""
        while True:
            report = await self.run.mailbox.get()
            if self._end is None or isinstance(report, Dropped):
                return report

    def _revoked(self, revocation: Revocation) -> bool:
        """Whether nothing is left to do for the job."""
        if revocation is Revocation.LOST:
            log.warning("job %s is no longer ours; dropped", self.run.job_id)
            return True
        assignment, run = self.run.assignment, self.run
        self._stop(lambda: self.assignments.canceled(assignment, gpu_seconds=run.gpu_seconds))
        return False

    def _stop(self, end: Callable[[], Awaitable[bool]]) -> None:
        """Take the job out of the batch, then write its end: by then it is known what it took."""
        self._end = end
        self.engine.drop(self.run)

    async def _tell_loading(self) -> None:
        try:
            await self.assignments.loading(self.run.assignment)
        except Unavailable as error:
            log.warning("that job %s loads was not reported: %s", self.run.job_id, error)

    async def _report_progress(self) -> None:
        progress = self.run.take_progress()
        if progress is not None:
            try:
                await self.assignments.report(self.run.assignment, progress)
            except Unavailable as error:
                log.warning("a step of job %s was not reported: %s", self.run.job_id, error)

    async def _keep(self, ready: ImageReady) -> bool:
        assignments, assignment = self.assignments, self.run.assignment
        self._rendered_at = ready.at
        self._notes.extend(note for note in ready.notes if note not in self._notes)
        try:
            with self._within("store", {"sfumato.image": ready.image.index}):
                record = await self._persist(lambda: assignments.store(assignment, ready.image))
        except StorageFull as error:
            full = JobError.of(error)
            self.run.spans.attempt.fail(full.code)
            self._stop(
                lambda: assignments.fail(
                    assignment, full, retryable=False, gpu_seconds=self.run.gpu_seconds
                )
            )
            return False
        self._records[record.index] = record
        self._recipes[record.index] = ready.image.recipe
        if len(self._records) < assignment.job.request.num_images:
            return False
        images = [self._records[index] for index in sorted(self._records)]
        recipe = {"images": [self._recipes[index] for index in sorted(self._recipes)]}
        await self._finish(
            lambda: assignments.complete(
                assignment,
                images,
                timings=self._timings(),
                notes=self._notes,
                recipe=recipe,
                gpu_seconds=self.run.gpu_seconds,
            )
        )
        return True

    def _timings(self) -> Timings:
        run, now = self.run, self.clock.monotonic()
        # The clock of the store's times is the wall's; the wait is the one span that crosses both.
        waited = max(0.0, (run.assignment.job.started_at or 0) - run.assignment.job.created_at)
        starting = min(self.starting, waited)
        brought = self._bringing is not None and self._bringing.took_time
        loaded_at = self._admitted_at if self._loading or brought else run.claimed_at
        return Timings(
            queued=waited - starting,
            starting=starting,
            loading=loaded_at - run.claimed_at,
            denoising=self._rendered_at - loaded_at,
            storing=now - self._rendered_at,
        )

    async def _finish(self, write: Callable[[], Awaitable[bool]]) -> None:
        """Write how the attempt has ended."""
        with self._within("finish", {}):
            await self._persist(write)

    @contextlib.contextmanager
    def _within(self, name: str, attributes: Attributes) -> Iterator[None]:
        """A part of the attempt, of which the calls in the block are told to be part."""
        span = self.run.spans.part(name, attributes)
        with span, working_on(traceparent=span.traceparent):
            yield

    async def _persist(self, write: Callable[[], Awaitable[_Result]]) -> _Result:
        """Try a write until it is in: a part that is away for a while must not cost the work."""
        for delay in _RETRY_DELAYS:
            try:
                return await write()
            except StorageFull:
                raise
            except Unavailable as error:
                log.warning("job %s: %s; trying again in %g s", self.run.job_id, error, delay)
                await asyncio.sleep(delay)
        return await write()
