"""The service's side of workers elsewhere: what each asks for, done through an ``Execution``.

Nothing here is needed to go on after a restart: who holds what stands in the job store, guarded by
the fencing token and by the name of the worker. What is kept in memory are the rings behind the
jobs under way, and one that is lost with its process only rings once more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from sfumato.core.errors import AttemptLost, InvalidRequest, NotFound
from sfumato.core.inputs import input_key
from sfumato.core.job import (
    AttemptOutcome,
    ImageRecord,
    Job,
    JobError,
    JobStatus,
    Timings,
    checkpoint_key,
    image_key,
)
from sfumato.core.models import ModelInfo, ModelLayout
from sfumato.core.ports import (
    Assignment,
    Clock,
    ImageStore,
    JobStore,
    ModelCatalog,
    Progress,
    Revocation,
)
from sfumato.services.execution import Execution
from sfumato.services.inputs import input_of
from sfumato.services.models import models_of

#: (a worker's name, its runtime) -> its execution.
OpenExecution = Callable[[str, str], Execution]


@dataclass(frozen=True, slots=True)
class AttemptRef:
    """An attempt, as a worker names it. ``number`` is the fencing token."""

    job_id: str
    number: int


class Hold(StrEnum):
    """What has become of an attempt."""

    HELD = "held"
    CANCELED = "canceled"  #: held, but the caller took the job back
    LOST = "lost"


@dataclass(slots=True)
class _Station:
    """One remote worker, as this process knows it."""

    execution: Execution
    used_at: float
    calls: int = 0


@dataclass(slots=True)
class RemoteWork:
    """Serves workers by name; each name must stand for one worker process.

    Args:
        lease: seconds for which an attempt is a worker's without a heartbeat.
    """

    store: JobStore
    images: ImageStore
    catalog: ModelCatalog
    clock: Clock
    open_execution: OpenExecution
    lease: float = 30.0
    _stations: dict[tuple[str, str], _Station] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled: give back the rings of workers that this process no longer hears of."""
        while True:
            await asyncio.sleep(self.lease)
            silent_since = self.clock.monotonic() - 2 * self.lease
            for key, station in list(self._stations.items()):
                if not station.calls and station.used_at < silent_since:
                    del self._stations[key]
                    await station.execution.let_go()

    # -- claims and leases -----------------------------------------------------------------------

    async def claim(
        self, worker: str, runtime: str, *, holding: Sequence[AttemptRef], timeout: float
    ) -> Assignment | None:
        """The next job of the runtime, or one that this worker won but does not know of: then the
        answer to its claim got lost."""
        with self._at(worker, runtime) as execution:
            for job in await self._unknown_to(worker, holding):
                try:
                    model, extras = await models_of(self.catalog, job)
                except InvalidRequest as error:  # the model went meanwhile
                    await execution.fail(_named(job), JobError.of(error), retryable=False)
                    continue
                assignment = Assignment(job, model, extras=extras)
                if await execution.extend(assignment):
                    return assignment
            return await execution.next(timeout=timeout)

    async def leave(self, worker: str, *, holding: Sequence[AttemptRef], reason: str) -> None:
        """Queue whatever is held by a worker that has ended and is not ``holding`` it."""
        for job in await self._unknown_to(worker, holding):
            with self._at(worker, job.runtime) as execution:
                await execution.release(_named(job), reason=reason, checkpoint={})

    async def _unknown_to(self, worker: str, holding: Sequence[AttemptRef]) -> Sequence[Job]:
        known = set(holding)
        held = await self.store.held_by(worker)
        return [job for job in held if AttemptRef(job.id, job.attempt) not in known]

    async def heartbeat(self, worker: str, attempts: Sequence[AttemptRef]) -> Sequence[Hold]:
        """Extend every lease; what has become of each attempt, in order."""
        return await asyncio.gather(*(self._extend(worker, attempt) for attempt in attempts))

    async def _extend(self, worker: str, attempt: AttemptRef) -> Hold:
        try:
            job = await self.held(worker, attempt)
        except AttemptLost:
            return Hold.LOST
        with self._at(worker, job.runtime) as execution:
            if not await execution.extend(_named(job)):
                return Hold.LOST
        return Hold.CANCELED if job.cancel_requested else Hold.HELD

    async def revoked(
        self, worker: str, attempt: AttemptRef, *, timeout: float
    ) -> Revocation | None:
        """Why the attempt must be dropped; None after ``timeout`` seconds without a reason."""
        try:
            job = await self.held(worker, attempt)
        except AttemptLost:
            return Revocation.LOST
        with self._at(worker, job.runtime) as execution:
            try:
                async with asyncio.timeout(timeout):
                    return await execution.revoked(_named(job))
            except TimeoutError:
                return None

    # -- what an attempt brings ------------------------------------------------------------------

    async def held(self, worker: str, attempt: AttemptRef) -> Job:
        """The job, if the attempt is under way and this worker's; else raises ``AttemptLost``."""
        try:
            job = await self.store.get(attempt.job_id)
        except NotFound:
            job = None
        ours = job is not None and job.attempt == attempt.number and job.worker == worker
        if job is None or not ours or job.status is not JobStatus.RUNNING:
            raise AttemptLost(
                f"Attempt {attempt.number} of job {attempt.job_id[:64]} is not under way by this "
                "worker. Drop it; nothing was changed."
            )
        return job

    async def loading(
        self, worker: str, attempt: AttemptRef, *, fetched: tuple[int, int] | None
    ) -> None:
        job = await self.held(worker, attempt)
        with self._at(worker, job.runtime) as execution:
            await execution.loading(_named(job), fetched=fetched)

    async def report(self, worker: str, attempt: AttemptRef, progress: Progress) -> None:
        job = await self.held(worker, attempt)
        with self._at(worker, job.runtime) as execution:
            await execution.report(_named(job), progress)

    async def image_key(self, worker: str, attempt: AttemptRef, index: int) -> str:
        """Where the attempt stores a picture."""
        job = await self.held(worker, attempt)
        _check_index(job, index)
        return image_key(job.id, index, job.request.output_format)

    async def checkpoint_key(self, worker: str, attempt: AttemptRef, index: int) -> str:
        """Where the state of a picture under way lies, or is to be stored."""
        job = await self.held(worker, attempt)
        _check_index(job, index)
        return checkpoint_key(job.id, index)

    async def input_key(self, worker: str, attempt: AttemptRef, sha256: str) -> str:
        """Where a picture lies that the job brought along. Raises ``NotFound`` for another."""
        job = await self.held(worker, attempt)
        return input_key(job.id, input_of(job, sha256).sha256)

    async def stored(self, worker: str, attempt: AttemptRef, index: int, size: int) -> None:
        """Tell watchers of a picture, once it is seen to be there with its size.

        Raises ``InvalidRequest`` when it is not.
        """
        job = await self.held(worker, attempt)
        await self._check_stored(job, index, size)
        with self._at(worker, job.runtime) as execution:
            await execution.stored(_named(job), index)

    async def _check_stored(self, job: Job, index: int, size: int) -> None:
        _check_index(job, index)
        try:
            found = await self.images.size(image_key(job.id, index, job.request.output_format))
        except NotFound:
            found = None
        if found != size:
            what = "is not stored" if found is None else f"has {found} bytes, not {size}"
            raise InvalidRequest(
                f"Image {index} of job {job.id} {what}. Upload it again; the job goes on.",
                field="size_bytes",
            )

    # -- the end of an attempt. Asked again for the same end, each answers True again -------------

    async def complete(
        self,
        worker: str,
        attempt: AttemptRef,
        images: Sequence[ImageRecord],
        *,
        timings: Timings,
        notes: Sequence[str],
        recipe: Mapping[str, object],
        gpu_seconds: float | None = None,
    ) -> bool:
        """``images`` need no key: the service knows it. Raises ``InvalidRequest`` when they are
        not the job's images, or not stored."""

        async def end(job: Job, execution: Execution) -> bool:
            if [image.index for image in images] != list(range(job.request.num_images)):
                raise InvalidRequest(
                    f"Job {job.id} has {job.request.num_images} image(s), to be told in order.",
                    field="images",
                )
            await asyncio.gather(
                *(self._check_stored(job, image.index, image.size_bytes) for image in images)
            )
            return await execution.complete(
                _named(job),
                _keyed(job, images),
                timings=timings,
                notes=notes,
                recipe=recipe,
                gpu_seconds=gpu_seconds,
            )

        return await self._end(worker, attempt, AttemptOutcome.SUCCEEDED, end)

    async def fail(
        self,
        worker: str,
        attempt: AttemptRef,
        error: JobError,
        *,
        retryable: bool,
        gpu_seconds: float = 0.0,
    ) -> bool:
        async def end(job: Job, execution: Execution) -> bool:
            return await execution.fail(
                _named(job), error, retryable=retryable, gpu_seconds=gpu_seconds
            )

        return await self._end(worker, attempt, AttemptOutcome.FAILED, end)

    async def canceled(self, worker: str, attempt: AttemptRef, *, gpu_seconds: float = 0.0) -> bool:
        async def end(job: Job, execution: Execution) -> bool:
            return await execution.canceled(_named(job), gpu_seconds=gpu_seconds)

        return await self._end(worker, attempt, AttemptOutcome.CANCELED, end)

    async def release(
        self,
        worker: str,
        attempt: AttemptRef,
        *,
        reason: str,
        resumable: bool,
        gpu_seconds: float = 0.0,
    ) -> bool:
        async def end(job: Job, execution: Execution) -> bool:
            return await execution.hand_over(
                _named(job), reason=reason, resumable=resumable, gpu_seconds=gpu_seconds
            )

        return await self._end(worker, attempt, AttemptOutcome.RELEASED, end)

    async def _end(
        self,
        worker: str,
        attempt: AttemptRef,
        outcome: AttemptOutcome,
        end: Callable[[Job, Execution], Awaitable[bool]],
    ) -> bool:
        try:
            job = await self.held(worker, attempt)
        except AttemptLost:
            return await self._ended_so(worker, attempt, outcome)
        with self._at(worker, job.runtime) as execution:
            # Of two such calls at once, the slower finds it done by the other.
            return await end(job, execution) or await self._ended_so(worker, attempt, outcome)

    async def _ended_so(self, worker: str, attempt: AttemptRef, outcome: AttemptOutcome) -> bool:
        """Whether this worker ended its attempt in this way already."""
        return any(
            (past.number, past.worker, past.outcome) == (attempt.number, worker, outcome)
            for past in await self.store.attempts(attempt.job_id)
        )

    @contextlib.contextmanager
    def _at(self, worker: str, runtime: str) -> Iterator[Execution]:
        """The worker's execution, kept while it is used and for a while after."""
        station = self._stations.get((worker, runtime))
        if station is None:
            station = _Station(self.open_execution(worker, runtime), self.clock.monotonic())
            self._stations[worker, runtime] = station
        station.calls += 1
        try:
            yield station.execution
        finally:
            station.calls -= 1
            station.used_at = self.clock.monotonic()


def _named(job: Job) -> Assignment:
    """An assignment for calls that need to know no more of the model than its name."""
    return Assignment(job, ModelInfo(job.settings.model, "", ModelLayout.DIFFUSERS, path=""))


def _keyed(job: Job, images: Sequence[ImageRecord]) -> list[ImageRecord]:
    output_format = job.request.output_format
    return [replace(image, key=image_key(job.id, image.index, output_format)) for image in images]


def _check_index(job: Job, index: int) -> None:
    if not 0 <= index < job.request.num_images:
        raise InvalidRequest(
            f"Job {job.id} has {job.request.num_images} image(s), counted from 0.", field="index"
        )
