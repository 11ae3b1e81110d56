"""What the services and the worker need of the outside, as Protocols.

One contract suite a port stands in ``tests/contract``; every adapter inherits it. Methods never
read a clock: the caller passes ``now``, in seconds since the epoch, UTC. Every method that
writes job state is atomic, and every write by a worker names its fencing token: a stale token
changes nothing and answers False.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from sfumato.core.events import Event, EventKind, NewEvent
from sfumato.core.job import (
    Attempt,
    AttemptOutcome,
    ImageRecord,
    Job,
    JobError,
    JobStatus,
    Settings,
    Timings,
)
from sfumato.core.models import ModelInfo
from sfumato.core.request import GenerationRequest

# -- time ----------------------------------------------------------------------------------------


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump, for durations within one process."""
        ...


# -- job store -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first. ``cursor``: pass it back for the next page; None on the last."""

    jobs: Sequence[Job]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Open jobs of one runtime. ``oldest_queued_at``: None when nothing is queued."""

    queued: int
    running: int
    oldest_queued_at: float | None


class Change(NamedTuple):
    """That an event of this kind has come to a job."""

    job_id: str
    kind: EventKind


class JobStore(Protocol):
    """The truth about jobs. Raises ``StoreBusy``, ``StorageFull`` or ``Unavailable`` as its
    backend fails; what it confirmed is on stable storage."""

    async def create(self, job: Job, *, idempotency_key: str | None = None) -> Job:
        """Keep a new queued job with its ``queued`` event.

        With a key that is known, answers the job made first and writes nothing.

        Raises:
            IdempotencyConflict: the key was used for a request of another hash.
        """
        ...

    async def get(self, job_id: str) -> Job:
        """Raises ``NotFound``."""
        ...

    async def list(
        self, *, status: JobStatus | None = None, limit: int = 50, cursor: str | None = None
    ) -> JobPage:
        """Newest first. ``limit``: 1 to 200. Raises ``InvalidRequest`` for a foreign cursor."""
        ...

    async def counts(self, runtime: str) -> JobCounts: ...

    async def queued_ahead(self, job: Job) -> int:
        """How many queued jobs of its runtime go before it: higher priority, or as high and older."""
        ...

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        """Every attempt, oldest first."""
        ...

    async def claim(
        self, job_id: str, *, worker: str, now: float, lease_until: float
    ) -> Job | None:
        """Start the next attempt of a queued job: ``running``, ``attempt + 1``, a ``started`` event.

        None when the job is not queued (held, finished, or unknown): that claim lost.
        """
        ...

    async def extend_lease(self, job_id: str, token: int, *, lease_until: float) -> bool: ...

    async def append(self, job_id: str, token: int, events: Sequence[NewEvent]) -> bool:
        """Add progress events of a running attempt. These alone may be lost in a power cut."""
        ...

    async def finish(
        self,
        job_id: str,
        token: int,
        *,
        status: JobStatus,
        now: float,
        images: Sequence[ImageRecord] = (),
        error: JobError | None = None,
        timings: Timings | None = None,
        notes: Sequence[str] = (),
    ) -> bool:
        """End a running attempt and its job, with the terminal event.

        ``notes`` are added to those the job has. Previews in earlier events are dropped.
        """
        ...

    async def requeue(
        self,
        job_id: str,
        token: int,
        *,
        outcome: AttemptOutcome,
        reason: str,
        now: float,
        checkpoint: str | None = None,
    ) -> bool:
        """End a running attempt, not its job: back to ``queued``, with the reason in the event.

        ``failed`` counts in ``failures``, ``lost`` in ``losses``, ``released`` in neither.
        """
        ...

    async def cancel(self, job_id: str, *, now: float) -> Job:
        """Cancel a queued job at once; ask a running one's worker to stop (``cancel_requested``
        and one ``canceling`` event, once). A finished job is answered as it is.

        Raises ``NotFound``.
        """
        ...

    async def fail_queued(self, job_id: str, *, error: JobError, now: float) -> bool:
        """End a job that no worker holds."""
        ...

    async def redrive(self, job_id: str, *, now: float) -> Job | None:
        """Queue a failed job again with its counts of failures and losses at zero; its number of
        attempts goes on rising. None when it is not failed. The one way out of a final status."""
        ...

    async def events(self, job_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Events with a number above ``after``, in order. Empty for an unknown job."""
        ...

    async def expired(self, *, now: float, limit: int = 100) -> Sequence[Job]:
        """Running jobs whose lease ran out before ``now``."""
        ...

    async def held_by(self, worker: str) -> Sequence[Job]:
        """Running jobs of one worker."""
        ...

    async def unrung(self, *, before: float, limit: int = 100) -> Sequence[Job]:
        """Queued jobs whose doorbell was last rung before ``before``, oldest first."""
        ...

    async def mark_rung(self, job_ids: Sequence[str], *, now: float) -> None: ...

    async def forget_finished(self, *, before: float, limit: int = 100) -> Sequence[str]:
        """Delete jobs that finished before ``before``, with their events; answers their ids."""
        ...

    def changes(self) -> AsyncGenerator[frozenset[Change], None]:
        """What changed, by any process, until the iterator is closed.

        The first item is empty and says that the subscription stands: whoever reads a job after
        it misses nothing.
        """
        ...

    async def close(self) -> None: ...


# -- queue ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ring:
    """The message in the queue: which job waits, and nothing of what it asks for."""

    job_id: str
    runtime: str
    attempt: int = 0
    priority: int = 0
    traceparent: str | None = None


class Delivery(Protocol):
    """A received ring, hidden from other receivers until its visibility ends."""

    @property
    def ring(self) -> Ring: ...

    @property
    def deliveries(self) -> int:
        """How often this ring has been received, this time included."""
        ...

    async def ack(self) -> None:
        """Done with it. Twice, or after the visibility ended, is harmless."""
        ...

    async def extend(self, seconds: float) -> bool:
        """Keep it hidden for ``seconds`` from now; False when it is no longer ours."""
        ...

    async def release(self, *, delay: float = 0.0) -> None:
        """Give it to whoever asks after ``delay`` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Rings of one runtime: ``ready`` to be received, ``hidden`` (in flight or delayed)."""

    ready: int
    hidden: int


class JobQueue(Protocol):
    """A doorbell a runtime, at least once; by priority, then by age."""

    async def ring(self, ring: Ring, *, delay: float = 0.0) -> None:
        """Returns once the ring would survive a restart of the queue. A job has at most one ring
        where the backend can tell; elsewhere a second is harmless."""
        ...

    async def receive(
        self, runtimes: Sequence[str], *, visibility: float, timeout: float
    ) -> Delivery | None:
        """The next ring of any of the runtimes, hidden for ``visibility`` seconds; None after
        ``timeout`` seconds without one. ``timeout`` 0 looks once."""
        ...

    async def depth(self, runtime: str) -> QueueDepth: ...

    async def close(self) -> None: ...


# -- pictures ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredObject:
    data: bytes
    media_type: str


class ImageStore(Protocol):
    """Pictures and recipes by key. A second ``put`` of a key replaces the object whole."""

    async def put(self, key: str, data: bytes, *, media_type: str) -> None:
        """Raises ``StorageFull`` or ``Unavailable``; then no half-written object is left."""
        ...

    async def get(self, key: str) -> StoredObject:
        """Raises ``NotFound``."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Delete every object below ``prefix``; answers how many there were."""
        ...

    async def close(self) -> None: ...


# -- models --------------------------------------------------------------------------------------


class ModelCatalog(Protocol):
    """Which models there are, told without loading one. Cheap enough for every request."""

    def list(self) -> Sequence[ModelInfo]: ...

    def get(self, name: str | None) -> ModelInfo:
        """The model of that name; None: the default model.

        Raises ``UnknownModel`` or ``ModelRefused``.
        """
        ...


# -- engine --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImageTask:
    """One picture of a job, for the engine: image ``index`` (from 0)."""

    job_id: str
    index: int
    request: GenerationRequest
    settings: Settings
    model: ModelInfo
    notes: tuple[str, ...] = ()


class Slot(Protocol):
    """One picture inside the running batch."""

    @property
    def task(self) -> ImageTask: ...

    @property
    def batch_key(self) -> Hashable:
        """Slots of equal key may share a step."""
        ...

    @property
    def rows(self) -> int:
        """Rows of the network's batch that it takes: 2 with guidance, else 1."""
        ...

    @property
    def step(self) -> int:
        """Steps done."""
        ...

    @property
    def steps(self) -> int: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the engine found that the caller should know, as words cut from the prompt."""
        ...


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A finished picture with its recipe inside. ``recipe``: the JSON twin, as plain data."""

    index: int
    data: bytes
    media_type: str
    width: int
    height: int
    seed: int
    recipe: Mapping[str, object] = field(default_factory=dict)


class ImageEngine(Protocol):
    """Turns tasks into pictures. Synchronous; called from one thread at a time.

    An ``EngineError`` from a method concerns the model, task or slots it was called with alone;
    everything else that was loaded or admitted stays usable.
    """

    def load(self, model: ModelInfo) -> None:
        """Bring a model into memory; at once when it is there. Raises ``ModelUnusable``."""
        ...

    def admit(self, task: ImageTask) -> Slot:
        """Encode the prompt, draw the noise. The model must be loaded."""
        ...

    def row_limit(self, batch_key: Hashable) -> int:
        """How many rows a step of this key may have, at least 2."""
        ...

    def step(self, slots: Sequence[Slot]) -> None:
        """One denoising step of every slot; all have one batch key and steps left."""
        ...

    def preview(self, slot: Slot) -> str:
        """A small picture of a slot under way, as a data URL of a few kilobytes."""
        ...

    def render(self, slot: Slot) -> EncodedImage:
        """Decode a slot whose steps are done, resample it to the size asked for, encode it."""
        ...

    def export(self, slot: Slot) -> bytes:
        """The state of a slot under way, enough for :meth:`resume` to end with the same pixels."""
        ...

    def resume(self, task: ImageTask, blob: bytes) -> Slot:
        """Raises ``EngineFailure`` when the blob does not fit the task."""
        ...


# -- a worker's side of the services -------------------------------------------------------------


class Revocation(StrEnum):
    """Why a worker must drop an assignment."""

    CANCELED = "canceled"  #: the caller took the job back
    LOST = "lost"  #: the lease ran out, or another worker holds the job


@dataclass(frozen=True, slots=True)
class Assignment:
    """An attempt that this worker won. ``job.attempt`` is its token.

    ``checkpoint`` holds the exported slots of an earlier, released attempt, by image index.
    """

    job: Job
    model: ModelInfo
    checkpoint: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an attempt is. ``step`` of ``steps``, summed over the job's images."""

    step: int
    steps: int
    preview: str | None = None
    preview_image: int = 0


class Assignments(Protocol):
    """How a worker gets work and reports it; the same beside the database and over HTTPS."""

    async def next(self, *, timeout: float) -> Assignment | None:
        """Wait for a ring, claim its job; None after ``timeout`` seconds without a won claim."""
        ...

    async def extend(self, assignment: Assignment) -> bool:
        """Heartbeat. False: the attempt is no longer ours."""
        ...

    async def revoked(self, assignment: Assignment) -> Revocation:
        """Returns when the attempt is canceled or lost; cancelled by the caller otherwise."""
        ...

    async def loading(self, assignment: Assignment) -> None:
        """Tell watchers that the model is being brought into memory."""
        ...

    async def report(self, assignment: Assignment, progress: Progress) -> None: ...

    async def store(self, assignment: Assignment, image: EncodedImage) -> ImageRecord:
        """Store one picture and its event. Raises ``StorageFull`` or ``Unavailable``."""
        ...

    async def complete(
        self,
        assignment: Assignment,
        images: Sequence[ImageRecord],
        *,
        timings: Timings,
        notes: Sequence[str],
        recipe: Mapping[str, object],
    ) -> bool:
        """Store the recipe, finish the job, then acknowledge the ring. False: stale token."""
        ...

    async def fail(self, assignment: Assignment, error: JobError, *, retryable: bool) -> bool: ...

    async def canceled(self, assignment: Assignment) -> bool:
        """The worker has stopped a job whose cancel was asked for."""
        ...

    async def release(
        self, assignment: Assignment, *, reason: str, checkpoint: Mapping[int, bytes]
    ) -> bool:
        """Give the job back, to be resumed by another worker."""
        ...


# -- workers as processes ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """A worker process that ended. ``crashed``: neither idle nor told to stop."""

    worker: str
    runtime: str
    crashed: bool
    description: str


class WorkerPool(Protocol):
    """Where workers come from: processes of this machine, later pods of a cluster."""

    async def start(self, runtime: str) -> str:
        """Start one worker; answers its name. Returns at once, not when it is ready."""
        ...

    def running(self, runtime: str) -> Sequence[str]:
        """Names of the workers that have not ended."""
        ...

    async def ended(self) -> WorkerExit:
        """Waits for the next worker to end."""
        ...

    async def stop(self, *, grace: float) -> None:
        """Ask every worker to drain, wait ``grace`` seconds, end what is left."""
        ...
