"""The truth about jobs."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sfumato.core.charges import NOTHING, Charge
from sfumato.core.events import Event, EventKind, NewEvent
from sfumato.core.job import (
    Attempt,
    AttemptOutcome,
    ImageRecord,
    Job,
    JobError,
    JobStatus,
    Timings,
)
from sfumato.core.keys import Usage

#: Most that :meth:`JobStore.queued_ahead` answers.
COUNTED_AHEAD = 1000


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


class Lease(NamedTuple):
    """A worker's right to an attempt. It was renewed when ``until`` is another."""

    job_id: str
    attempt: int
    until: float


class Change(NamedTuple):
    """That an event of this kind has come to a job."""

    job_id: str
    kind: EventKind


class JobStore(Protocol):
    """The truth about jobs. Raises ``StoreBusy``, ``StorageFull`` or ``Unavailable`` as its
    backend fails. A job that was made and a job that has ended are on stable storage when that is
    confirmed; what lies between survives any crash of a process, and a power cut may take it back
    to the job's last such state."""

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

    async def find_by_key(self, idempotency_key: str) -> Job | None:
        """The job that was made with that key; None where there is none, or no longer."""
        ...

    async def list(
        self,
        *,
        status: JobStatus | None = None,
        owner: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """Newest first. Raises ``InvalidRequest`` for a foreign cursor.

        Args:
            owner: of whose key; None: everybody's.
            limit: 1 to 200.
        """
        ...

    async def usage(self, owner: str, *, since: float) -> Usage:
        """What a key uses now, and what it used in the jobs made since then that still exist."""
        ...

    async def counts(self, runtime: str) -> JobCounts: ...

    async def queued_ahead(self, job: Job) -> int:
        """How many queued jobs of its runtime go before it: higher priority, or as high and older.
        They are counted up to ``COUNTED_AHEAD``, so that a long queue costs no more to look at."""
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
        charge: Charge = NOTHING,
    ) -> bool:
        """End a running attempt and its job, with the terminal event.

        ``charge``, what the attempt took, is added to the job's and written into the book of
        costs. ``notes`` are added to those the job has. Previews in earlier events are dropped.
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
        charge: Charge = NOTHING,
    ) -> bool:
        """End a running attempt, not its job: back to ``queued``, with the reason in the event.

        ``charge`` as for :meth:`finish`.

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

    async def leases(self) -> Sequence[Lease]:
        """The lease of every running job."""
        ...

    async def held_by(self, worker: str) -> Sequence[Job]:
        """Running jobs of one worker."""
        ...

    async def unrung(
        self, *, before: float, after: float = math.inf, limit: int = 100
    ) -> Sequence[Job]:
        """Queued jobs whose doorbell was last rung before ``before``, oldest first; and those for
        which that was after ``after``, by a clock that was wrong."""
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
