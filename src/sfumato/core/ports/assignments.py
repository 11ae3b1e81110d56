"""A worker's side of the services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from sfumato.core.job import (
    ImageRecord,
    Job,
    JobError,
    Timings,
)
from sfumato.core.models import ModelInfo
from sfumato.core.ports.image_engine import EncodedImage


class Revocation(StrEnum):
    """Why a worker must drop an assignment."""

    CANCELED = "canceled"  #: the caller took the job back
    LOST = "lost"  #: the lease ran out, or another worker holds the job


@dataclass(frozen=True, slots=True)
class Assignment:
    """An attempt that this worker won. ``job.attempt`` is its token.

    Attributes:
        checkpoint: the exported slots of an earlier, released attempt, by image index.
        extras: the other weights that the request names.
        inputs: the files of the pictures that it brings along, by their SHA-256.
    """

    job: Job
    model: ModelInfo
    checkpoint: Mapping[int, bytes] = field(default_factory=dict)
    extras: tuple[ModelInfo, ...] = ()
    inputs: Mapping[str, bytes] = field(default_factory=dict)


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

    async def loading(
        self, assignment: Assignment, *, fetched: tuple[int, int] | None = None
    ) -> None:
        """Tell watchers that the model is being brought into memory, or, with the bytes that are
        ``fetched`` and those of the whole model, onto the worker's disk."""
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
        gpu_seconds: float | None = None,
    ) -> bool:
        """Store the recipe, finish the job, then acknowledge the ring. False: stale token.

        ``gpu_seconds``, here and below: for how long the device was busy with the attempt. None:
        that was not measured; loading and denoising stand in for it.
        """
        ...

    async def fail(
        self,
        assignment: Assignment,
        error: JobError,
        *,
        retryable: bool,
        gpu_seconds: float = 0.0,
    ) -> bool: ...

    async def canceled(self, assignment: Assignment, *, gpu_seconds: float = 0.0) -> bool:
        """The worker has stopped a job whose cancel was asked for."""
        ...

    async def release(
        self,
        assignment: Assignment,
        *,
        reason: str,
        checkpoint: Mapping[int, bytes],
        gpu_seconds: float = 0.0,
    ) -> bool:
        """Give the job back, to be resumed by another worker."""
        ...
